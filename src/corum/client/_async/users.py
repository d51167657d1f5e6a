"""Authentication: users, roles and what they may do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from corum.client import methods
from corum.client.options import DEFAULT
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

    async def enable(self, *, timeout_s: float | None = DEFAULT) -> None:
        """From now on only with a password; there must be a user root with the role root."""
        await self._session.call(methods.AUTH_ENABLE, rpc.AuthEnableRequest(), timeout_s=timeout_s)

    async def disable(self, *, timeout_s: float | None = DEFAULT) -> None:
        await self._session.call(
            methods.AUTH_DISABLE, rpc.AuthDisableRequest(), timeout_s=timeout_s
        )

    async def is_enabled(self, *, timeout_s: float | None = DEFAULT) -> bool:
        request = rpc.AuthStatusRequest()
        response = await self._session.call(methods.AUTH_STATUS, request, timeout_s=timeout_s)
        return response.enabled

    async def add_user(
        self, name: str, password: str | None, *, timeout_s: float | None = DEFAULT
    ) -> None:
        """password None: a user who proves himself by certificate only."""
        options = authpb.UserAddOptions(no_password=password is None)
        request = rpc.AuthUserAddRequest(name=name, password=password or "", options=options)
        await self._session.call(methods.USER_ADD, request, timeout_s=timeout_s)

    async def delete_user(self, name: str, *, timeout_s: float | None = DEFAULT) -> None:
        await self._session.call(
            methods.USER_DELETE, rpc.AuthUserDeleteRequest(name=name), timeout_s=timeout_s
        )

    async def change_password(
        self, name: str, password: str, *, timeout_s: float | None = DEFAULT
    ) -> None:
        request = rpc.AuthUserChangePasswordRequest(name=name, password=password)
        await self._session.call(methods.USER_CHANGE_PASSWORD, request, timeout_s=timeout_s)

    async def users(self, *, timeout_s: float | None = DEFAULT) -> list[str]:
        response = await self._session.call(
            methods.USER_LIST, rpc.AuthUserListRequest(), timeout_s=timeout_s
        )
        return list(response.users)

    async def roles_of(self, user: str, *, timeout_s: float | None = DEFAULT) -> list[str]:
        response = await self._session.call(
            methods.USER_GET, rpc.AuthUserGetRequest(name=user), timeout_s=timeout_s
        )
        return list(response.roles)

    async def grant_role(self, user: str, role: str, *, timeout_s: float | None = DEFAULT) -> None:
        request = rpc.AuthUserGrantRoleRequest(user=user, role=role)
        await self._session.call(methods.USER_GRANT_ROLE, request, timeout_s=timeout_s)

    async def revoke_role(self, user: str, role: str, *, timeout_s: float | None = DEFAULT) -> None:
        request = rpc.AuthUserRevokeRoleRequest(name=user, role=role)
        await self._session.call(methods.USER_REVOKE_ROLE, request, timeout_s=timeout_s)

    async def add_role(self, role: str, *, timeout_s: float | None = DEFAULT) -> None:
        await self._session.call(
            methods.ROLE_ADD, rpc.AuthRoleAddRequest(name=role), timeout_s=timeout_s
        )

    async def delete_role(self, role: str, *, timeout_s: float | None = DEFAULT) -> None:
        await self._session.call(
            methods.ROLE_DELETE, rpc.AuthRoleDeleteRequest(role=role), timeout_s=timeout_s
        )

    async def roles(self, *, timeout_s: float | None = DEFAULT) -> list[str]:
        response = await self._session.call(
            methods.ROLE_LIST, rpc.AuthRoleListRequest(), timeout_s=timeout_s
        )
        return list(response.roles)

    async def permissions_of(
        self, role: str, *, timeout_s: float | None = DEFAULT
    ) -> list[tuple[Access, bytes, bytes]]:
        """(access, key, end) of everything the role permits."""
        response = await self._session.call(
            methods.ROLE_GET, rpc.AuthRoleGetRequest(role=role), timeout_s=timeout_s
        )
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
        timeout_s: float | None = DEFAULT,
    ) -> None:
        begin, stop = key_range(key, end, prefix=prefix, from_key=from_key)
        permission = authpb.Permission(permType=ACCESS[access], key=begin, range_end=stop)
        request = rpc.AuthRoleGrantPermissionRequest(name=role, perm=permission)
        await self._session.call(methods.ROLE_GRANT_PERMISSION, request, timeout_s=timeout_s)

    async def forbid(
        self,
        role: str,
        key: Bytes,
        end: Bytes | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        timeout_s: float | None = DEFAULT,
    ) -> None:
        """Take back what was permitted for exactly this range."""
        begin, stop = key_range(key, end, prefix=prefix, from_key=from_key)
        request = rpc.AuthRoleRevokePermissionRequest(role=role, key=begin, range_end=stop)
        await self._session.call(methods.ROLE_REVOKE_PERMISSION, request, timeout_s=timeout_s)
