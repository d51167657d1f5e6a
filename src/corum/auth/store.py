"""Users, roles and the auth revision; who may do what (rpc.md §9). Replicated: changed by apply.

Everything is in memory (members check each request) and in etcd's buckets. A refused change raises
the client's error and changes nothing. Checks cost a dict lookup and a bisection.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final, Protocol

from corum import errors
from corum.auth.passwords import CheckPassword
from corum.auth.permissions import FROM_KEY, READWRITE, Access, Permission
from corum.auth.records import Role, User, decode_role, decode_user
from corum.backend import Backend, schema
from corum.pb.wire import bytes_of
from corum.values import value

ROOT: Final = "root"
_ENABLED_KEY: Final = b"authEnabled"
_REVISION_KEY: Final = b"authRevision"
_EVERYTHING: Final = Permission(READWRITE, b"", FROM_KEY)


@value
class Identity:
    """Who makes a request: the user, and the auth revision that their token was checked at.

    Revision 0 with an empty name: nobody.
    """

    user: str = ""
    revision: int = 0


NOBODY: Final = Identity()


class TokenHolder(Protocol):
    """What the store tells the tokens of this member."""

    def forget_user(self, user: str) -> None:
        """The user's tokens are no longer valid."""
        ...

    def forget_all(self) -> None:
        """Authentication was turned off."""
        ...


class AuthStore:
    """The auth state of one member."""

    def __init__(self, backend: Backend, tokens: TokenHolder) -> None:
        self._backend = backend
        self._tokens = tokens
        self.enabled = False
        self.revision = 0
        self._users: dict[str, User] = {}
        self._roles: dict[str, Role] = {}
        self._access: dict[str, Access] = {}
        self.restore(backend)

    def restore(self, backend: Backend) -> None:
        """Take everything from the buckets (at start, or after a snapshot was installed).

        Tokens are forgotten: of what a snapshot leaps over, a change of a password or the user's
        deletion may have ended them (etcd keeps them).
        """
        self._backend = backend
        self._tokens.forget_all()
        self.enabled = backend.get(schema.AUTH, _ENABLED_KEY) == b"\x01"
        self.revision = schema.from_u64(backend.get(schema.AUTH, _REVISION_KEY))
        users = [decode_user(data) for _, data in backend.range(schema.AUTH_USERS)]
        roles = [decode_role(data) for _, data in backend.range(schema.AUTH_ROLES)]
        self._users = {user.name: user for user in users}
        self._roles = {role.name: role for role in roles}
        self._access = {}
        if self.revision == 0:
            self._advance()

    # -- on and off ----------------------------------------------------------------------------

    def enable(self) -> None:
        """Needs user root with role root. A second time is a no-op; the revision stays."""
        if self.enabled:
            return
        root = self._users.get(ROOT)
        if root is None:
            raise errors.ROOT_USER_NOT_EXIST()
        if ROOT not in root.roles:
            raise errors.ROOT_ROLE_NOT_EXIST()
        self.enabled = True
        self._backend.put(schema.AUTH, _ENABLED_KEY, b"\x01")

    def disable(self) -> None:
        """All simple tokens become invalid."""
        if not self.enabled:
            return
        self.enabled = False
        self._backend.put(schema.AUTH, _ENABLED_KEY, b"\x00")
        self._advance()
        self._tokens.forget_all()

    # -- users ---------------------------------------------------------------------------------

    def user_add(self, name: str, password_hash: bytes, *, no_password: bool = False) -> None:
        """Raises USER_EMPTY, USER_ALREADY_EXIST."""
        _check_name(name, errors.USER_EMPTY)
        if name in self._users:
            raise errors.USER_ALREADY_EXIST()
        kept = b"" if no_password else password_hash
        self._put_user(User(name, kept, (), no_password))
        self._advance()

    def user_delete(self, name: str) -> None:
        """Raises USER_NOT_FOUND; INVALID_AUTH_MGMT for root while enabled."""
        if self.enabled and name == ROOT:
            raise errors.INVALID_AUTH_MGMT()
        self._user(name)
        del self._users[name]
        self._backend.delete(schema.AUTH_USERS, bytes_of(name))
        self._advance()
        self._access.pop(name, None)
        self._tokens.forget_user(name)

    def user_change_password(self, name: str, password_hash: bytes) -> None:
        """Users without password stay without. Raises USER_NOT_FOUND."""
        user = self._user(name)
        kept = b"" if user.no_password else password_hash
        self._put_user(User(name, kept, user.roles, user.no_password))
        self._advance()
        self._tokens.forget_user(name)

    def user_grant_role(self, name: str, role: str) -> None:
        """Role root need not exist. A role held already is a no-op. Raises ..._NOT_FOUND."""
        user = self._user(name)
        if role != ROOT:
            self._role(role)
        if role in user.roles:
            return
        roles = tuple(sorted((*user.roles, role), key=bytes_of))
        self._put_user(User(name, user.password_hash, roles, user.no_password))
        self._advance()

    def user_revoke_role(self, name: str, role: str) -> None:
        """Raises USER_NOT_FOUND, ROLE_NOT_GRANTED, INVALID_AUTH_MGMT (root from root)."""
        if self.enabled and name == role == ROOT:
            raise errors.INVALID_AUTH_MGMT()
        user = self._user(name)
        if role not in user.roles:
            raise errors.ROLE_NOT_GRANTED()
        self._without_role(user, role)
        self._advance()

    def user_get(self, name: str) -> list[str]:
        """The user's roles. Raises USER_NOT_FOUND."""
        return list(self._user(name).roles)

    def user_list(self) -> list[str]:
        return sorted(self._users, key=bytes_of)

    # -- roles ---------------------------------------------------------------------------------

    def role_add(self, name: str) -> None:
        """Raises ROLE_EMPTY, ROLE_ALREADY_EXIST."""
        _check_name(name, errors.ROLE_EMPTY)
        if name in self._roles:
            raise errors.ROLE_ALREADY_EXIST()
        self._put_role(Role(name))
        self._advance()

    def role_delete(self, name: str) -> None:
        """Users lose it. Raises ROLE_NOT_FOUND; INVALID_AUTH_MGMT for root while enabled."""
        if self.enabled and name == ROOT:
            raise errors.INVALID_AUTH_MGMT()
        self._role(name)
        del self._roles[name]
        self._backend.delete(schema.AUTH_ROLES, bytes_of(name))
        for user in list(self._users.values()):
            if name in user.roles:
                self._without_role(user, name)
        self._advance()

    def role_get(self, name: str) -> list[Permission]:
        """Role root shows as everything. Raises ROLE_NOT_FOUND."""
        role = self._role(name)
        return [_EVERYTHING] if name == ROOT else list(role.permissions)

    def role_list(self) -> list[str]:
        return sorted(self._roles, key=bytes_of)

    def role_grant_permission(self, name: str, permission: Permission | None) -> None:
        """The same range again replaces the kind. Raises PERMISSION_NOT_GIVEN, ROLE_NOT_FOUND.

        Empty ranges and the empty key are INVALID_AUTH_MGMT, as in newer etcd (3.5.1 took them).
        """
        if permission is None:
            raise errors.PERMISSION_NOT_GIVEN()
        if not permission.is_valid:
            raise errors.INVALID_AUTH_MGMT()
        granted = list(self._role(name).permissions)
        # Only the first permission at this key is compared, as in etcd: with two ranges at one key,
        # granting the later one again adds it a second time (revoking removes both).
        at = bisect_left(granted, permission.key, key=lambda each: each.key)
        if granted[at : at + 1] and granted[at].bounds == permission.bounds:
            granted[at] = permission
        else:
            granted.append(permission)
            granted.sort(key=lambda each: each.key)
        self._put_role(Role(name, tuple(granted)))
        self._advance()

    def role_revoke_permission(self, name: str, key: bytes, range_end: bytes) -> None:
        """Only the very range that was granted. Raises ROLE_NOT_FOUND, PERMISSION_NOT_GRANTED."""
        role = self._role(name)
        kept = [each for each in role.permissions if each.bounds != (key, range_end)]
        if len(kept) == len(role.permissions):
            raise errors.PERMISSION_NOT_GRANTED()
        self._put_role(Role(name, tuple(kept)))
        self._advance()

    # -- authentication ------------------------------------------------------------------------

    def password_check(self, name: str, password: str) -> CheckPassword:
        """The job that decides. Raises AUTH_NOT_ENABLED, AUTH_FAILED, NO_PASSWORD_USER."""
        if not self.enabled:
            raise errors.AUTH_NOT_ENABLED()
        user = self._users.get(name)
        if user is None:
            raise errors.AUTH_FAILED()
        if user.no_password:
            raise errors.NO_PASSWORD_USER()
        return CheckPassword(password, user.password_hash, self.revision)

    def may_have_token(self, name: str) -> None:
        """At apply of an Authenticate whose password was checked. Raises as `password_check`."""
        if not self.enabled:
            raise errors.AUTH_NOT_ENABLED()
        user = self._users.get(name)
        if user is None or user.no_password:
            raise errors.AUTH_FAILED()

    # -- checks: nothing happens, or the client's error is raised ------------------------------

    def check_admin(self, who: Identity) -> None:
        """Role root. Raises USER_EMPTY, USER_NOT_FOUND, AUTH_PERMISSION_DENIED."""
        if not self.enabled:
            return
        if not who.user:
            raise errors.USER_EMPTY()
        if ROOT not in self._user(who.user).roles:
            raise errors.AUTH_PERMISSION_DENIED()

    def check_read(self, who: Identity, key: bytes, range_end: bytes = b"") -> None:
        """Range, watch, and what transactions read."""
        access = self._checked(who)
        if access is not None and not access.read.covers(key, range_end):
            raise errors.AUTH_PERMISSION_DENIED()

    def check_write(
        self, who: Identity, key: bytes, range_end: bytes = b"", *, prev_kv: bool = False
    ) -> None:
        """Put and delete; `prev_kv` needs READ, too."""
        access = self._checked(who)
        if access is None:
            return
        if not access.write.covers(key, range_end):
            raise errors.AUTH_PERMISSION_DENIED()
        if prev_kv and not access.read.covers(key, range_end):
            raise errors.AUTH_PERMISSION_DENIED()

    def check_lease(self, who: Identity, keys: Iterable[bytes], *, write: bool) -> None:
        """Every key attached to a lease."""
        access = self._checked(who)
        if access is None:
            return
        ranges = access.write if write else access.read
        if not all(ranges.covers(key) for key in keys):
            raise errors.AUTH_PERMISSION_DENIED()

    def check_user_get(self, who: Identity, name: str) -> None:
        """Admins, and everybody about themselves."""
        if who.user != name or not name:
            self.check_admin(who)

    def check_role_get(self, who: Identity, role: str) -> None:
        """Admins, and who holds the role."""
        user = self._users.get(who.user)
        if user is None or role not in user.roles:
            self.check_admin(who)

    # -- inside --------------------------------------------------------------------------------

    def _checked(self, who: Identity) -> Access | None:
        """The user's access; None when nothing is to be checked (auth off, or role root)."""
        if not self.enabled:
            return None
        if who.revision == 0:
            raise errors.USER_EMPTY()
        if who.revision < self.revision:
            raise errors.AUTH_OLD_REVISION()
        user = self._users.get(who.user)
        if user is None:
            raise errors.AUTH_PERMISSION_DENIED()
        if ROOT in user.roles:
            return None
        access = self._access.get(user.name)
        if access is None:
            roles = [self._roles[role] for role in user.roles if role in self._roles]
            access = Access(each for role in roles for each in role.permissions)
            self._access[user.name] = access
        return access

    def _user(self, name: str) -> User:
        user = self._users.get(name)
        if user is None:
            raise errors.USER_NOT_FOUND()
        return user

    def _role(self, name: str) -> Role:
        role = self._roles.get(name)
        if role is None:
            raise errors.ROLE_NOT_FOUND()
        return role

    def _put_user(self, user: User) -> None:
        self._users[user.name] = user
        self._access.pop(user.name, None)
        self._backend.put(schema.AUTH_USERS, bytes_of(user.name), user.encode())

    def _put_role(self, role: Role) -> None:
        self._roles[role.name] = role
        self._access.clear()
        self._backend.put(schema.AUTH_ROLES, bytes_of(role.name), role.encode())

    def _without_role(self, user: User, role: str) -> None:
        roles = tuple([each for each in user.roles if each != role])
        self._put_user(User(user.name, user.password_hash, roles, user.no_password))

    def _advance(self) -> None:
        """The auth revision moves: tokens of older ones are refused."""
        self.revision += 1
        self._backend.put(schema.AUTH, _REVISION_KEY, schema.u64(self.revision))


def _check_name(name: str, empty: type[errors.EtcdError]) -> None:
    if not name:
        raise empty()
    if len(bytes_of(name)) > schema.KEY_SIZE_MAX:  # the bucket cannot hold it; etcd has no limit
        raise errors.INVALID_AUTH_MGMT()
