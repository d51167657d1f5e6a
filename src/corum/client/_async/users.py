"""Authentication: users, roles and what they may do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from corum.client import methods
from corum.client.requests import key_range
from corum.pb import authpb, rpc

if TYPE_CHECKING:
    from corum.client._async.session import Session
    from corum.client.requests import Bytes

Access = Literal["read", "write", "readwrite"]
ACCESS = {"read": 0, "write": 1, "readwrite": 2}


class AsyncUsers:
    """The administrator's part of a client, as `client.auth`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def enable(self) -> None:
        """From now on only with a password; there must be a user root with the role root."""
        await self._session.call(methods.AUTH_ENABLE, rpc.AuthEnableRequest())

    async def disable(self) -> None:
        await self._session.call(methods.AUTH_DISABLE, rpc.AuthDisableRequest())

    async def is_enabled(self) -> bool:
        return (await self._session.call(methods.AUTH_STATUS, rpc.AuthStatusRequest())).enabled

    async def add_user(self, name: str, password: str | None) -> None:
        """password None: a user who proves himself by certificate only."""
        options = authpb.UserAddOptions(no_password=password is None)
        request = rpc.AuthUserAddRequest(name=name, password=password or "", options=options)
        await self._session.call(methods.USER_ADD, request)

    async def delete_user(self, name: str) -> None:
        await self._session.call(methods.USER_DELETE, rpc.AuthUserDeleteRequest(name=name))

    async def change_password(self, name: str, password: str) -> None:
        request = rpc.AuthUserChangePasswordRequest(name=name, password=password)
        await self._session.call(methods.USER_CHANGE_PASSWORD, request)

    async def users(self) -> list[str]:
        response = await self._session.call(methods.USER_LIST, rpc.AuthUserListRequest())
        return list(response.users)

    async def roles_of(self, user: str) -> list[str]:
        response = await self._session.call(methods.USER_GET, rpc.AuthUserGetRequest(name=user))
        return list(response.roles)

    async def grant_role(self, user: str, role: str) -> None:
        request = rpc.AuthUserGrantRoleRequest(user=user, role=role)
        await self._session.call(methods.USER_GRANT_ROLE, request)

    async def revoke_role(self, user: str, role: str) -> None:
        request = rpc.AuthUserRevokeRoleRequest(name=user, role=role)
        await self._session.call(methods.USER_REVOKE_ROLE, request)

    async def add_role(self, role: str) -> None:
        await self._session.call(methods.ROLE_ADD, rpc.AuthRoleAddRequest(name=role))

    async def delete_role(self, role: str) -> None:
        await self._session.call(methods.ROLE_DELETE, rpc.AuthRoleDeleteRequest(role=role))

    async def roles(self) -> list[str]:
        response = await self._session.call(methods.ROLE_LIST, rpc.AuthRoleListRequest())
        return list(response.roles)

    async def permissions_of(self, role: str) -> list[tuple[Access, bytes, bytes]]:
        """(access, key, end) of everything the role permits."""
        response = await self._session.call(methods.ROLE_GET, rpc.AuthRoleGetRequest(role=role))
        names: tuple[Access, ...] = ("read", "write", "readwrite")
        return [(names[p.permType], p.key, p.range_end) for p in response.perm]

    async def permit(
        self,
        role: str,
        access: Access,
        key: Bytes,
        end: Bytes | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
    ) -> None:
        begin, stop = key_range(key, end, prefix=prefix, from_key=from_key)
        permission = authpb.Permission(permType=ACCESS[access], key=begin, range_end=stop)
        request = rpc.AuthRoleGrantPermissionRequest(name=role, perm=permission)
        await self._session.call(methods.ROLE_GRANT_PERMISSION, request)

    async def forbid(
        self,
        role: str,
        key: Bytes,
        end: Bytes | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
    ) -> None:
        """Take back what was permitted for exactly this range."""
        begin, stop = key_range(key, end, prefix=prefix, from_key=from_key)
        request = rpc.AuthRoleRevokePermissionRequest(role=role, key=begin, range_end=stop)
        await self._session.call(methods.ROLE_REVOKE_PERMISSION, request)
