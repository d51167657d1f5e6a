"""The Auth service (rpc §9): every call goes through the log; passwords are hashed before they do.

Who may do what is asked at apply; admins are told apart here already, so that nobody else can make
this member hash passwords.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from corum import errors
from corum.api.v3.calls import Service, decoded
from corum.pb import rpc
from corum.server import operations as op

Handler = Callable[[int, bytes, Any], None]


class AuthService(Service):
    """AuthEnable, AuthDisable, AuthStatus, Authenticate, User..., Role..."""

    PATH = "/etcdserverpb.Auth/"

    def unary(self) -> dict[str, Any]:
        """Handlers by method name."""
        admin, caller = self._by_admin, self._by_caller
        return {
            "AuthEnable": admin(op.AUTH_ENABLE, rpc.AuthEnableRequest),
            "AuthDisable": admin(op.AUTH_DISABLE, rpc.AuthDisableRequest),
            "AuthStatus": caller(op.AUTH_STATUS, rpc.AuthStatusRequest),
            "Authenticate": self.authenticate,
            "UserAdd": self.user_add,
            "UserGet": caller(op.AUTH_USER_GET, rpc.AuthUserGetRequest),
            "UserList": admin(op.AUTH_USER_LIST, rpc.AuthUserListRequest),
            "UserDelete": admin(op.AUTH_USER_DELETE, rpc.AuthUserDeleteRequest),
            "UserChangePassword": self.user_change_password,
            "UserGrantRole": admin(op.AUTH_USER_GRANT_ROLE, rpc.AuthUserGrantRoleRequest),
            "UserRevokeRole": admin(op.AUTH_USER_REVOKE_ROLE, rpc.AuthUserRevokeRoleRequest),
            "RoleAdd": admin(op.AUTH_ROLE_ADD, rpc.AuthRoleAddRequest),
            "RoleGet": caller(op.AUTH_ROLE_GET, rpc.AuthRoleGetRequest),
            "RoleList": admin(op.AUTH_ROLE_LIST, rpc.AuthRoleListRequest),
            "RoleDelete": admin(op.AUTH_ROLE_DELETE, rpc.AuthRoleDeleteRequest),
            "RoleGrantPermission": admin(
                op.AUTH_ROLE_GRANT_PERMISSION, rpc.AuthRoleGrantPermissionRequest
            ),
            "RoleRevokePermission": admin(
                op.AUTH_ROLE_REVOKE_PERMISSION, rpc.AuthRoleRevokePermissionRequest
            ),
        }

    def _by_admin(self, operation: int, kind: Any) -> Handler:
        """A handler for users with role root."""

        def handle(call: int, message: bytes, meta: Any) -> None:
            request = decoded(kind, message)
            node = self.node
            node.check_writable(meta)
            user = node.gate.admin(meta)
            node.propose(operation, message, request, call, prefix=user)

        return handle

    def _by_caller(self, operation: int, kind: Any) -> Handler:
        """A handler for whom apply decides: by what is asked about."""

        def handle(call: int, message: bytes, meta: Any) -> None:
            request = decoded(kind, message)
            node = self.node
            node.check_writable(meta)
            user = node.gate.caller(meta)
            node.propose(operation, message, request, call, prefix=user)

        return handle

    def user_add(self, call: int, message: bytes, meta: Any) -> None:
        """A user with a password, or one that only a certificate makes known."""
        request = decoded(rpc.AuthUserAddRequest, message)
        if request.options.no_password:
            request.password = ""
            self._add(call, op.AUTH_USER_ADD, request, meta)
        else:
            self._hashed(call, op.AUTH_USER_ADD, request, meta)

    def user_change_password(self, call: int, message: bytes, meta: Any) -> None:
        """Admins only, even for one's own."""
        request = decoded(rpc.AuthUserChangePasswordRequest, message)
        self._hashed(call, op.AUTH_USER_CHANGE_PASSWORD, request, meta)

    def _add(self, call: int, operation: int, request: Any, meta: Any) -> None:
        node = self.node
        node.check_writable(meta)
        user = node.gate.admin(meta)
        node.propose(operation, request.SerializeToString(), request, call, prefix=user)

    def _hashed(self, call: int, operation: int, request: Any, meta: Any) -> None:
        """Only the hash of the password enters the log."""
        node = self.node
        node.check_writable(meta)
        node.gate.admin(meta)

        def then(hashed: str) -> None:
            request.hashedPassword = hashed
            request.password = ""
            self._add(call, operation, request, meta)

        node.auth.hash_password(call, request.password, then)

    def authenticate(self, call: int, message: bytes, meta: Any) -> None:
        """A token for name and password, by the rights as they are in the cluster now."""
        request = decoded(rpc.AuthenticateRequest, message)
        node = self.node
        node.check_writable(meta)
        node.reads.add(self._authenticate, call, request)

    def _authenticate(self, call: int, request: Any) -> None:
        try:
            self.node.auth.authenticate(call, request)
        except errors.EtcdError as error:
            self.node.out.error(call, error)
