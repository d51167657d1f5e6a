"""Users, roles, the revision, and who may do what: the rules of rpc.md §9."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from corum import errors
from corum.auth import NOBODY, READ, READWRITE, WRITE, AuthStore, Identity, Permission, unpack_hash
from corum.auth.records import Role, User, decode_role, decode_user
from corum.backend import schema
from corum.backend.memory_backend import MemoryBackend
from corum.pb import authpb


class Tokens:
    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def forget_user(self, user: str) -> None:
        self.forgotten.append(user)

    def forget_all(self) -> None:
        self.forgotten.append("*")


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def store(backend: MemoryBackend) -> AuthStore:
    return AuthStore(backend, Tokens())


@pytest.fixture
def enabled(store: AuthStore) -> AuthStore:
    store.user_add("root", b"hash")
    store.role_add("root")
    store.user_grant_role("root", "root")
    store.user_add("u", b"hash")
    store.role_add("r")
    store.role_grant_permission("r", Permission(READ, b"a", b"c"))
    store.role_grant_permission("r", Permission(WRITE, b"b", b"d"))
    store.user_grant_role("u", "r")
    store.enable()
    return store


def who(store: AuthStore, user: str) -> Identity:
    return Identity(user, store.revision)


def allowed(check: Callable[[], None]) -> bool:
    try:
        check()
    except errors.AUTH_PERMISSION_DENIED:
        return False
    return True


def test_the_revision_starts_at_1_and_moves_with_every_change(store: AuthStore) -> None:
    """Enabling does not move it, disabling does; no-ops do not."""
    assert store.revision == 1
    store.user_add("root", b"h")
    store.user_grant_role("root", "root")
    assert store.revision == 3
    store.user_grant_role("root", "root")
    store.enable()
    store.enable()
    assert store.revision == 3
    store.disable()
    store.disable()
    assert store.revision == 4


def test_enabling_needs_root(store: AuthStore) -> None:
    """The user first, then its role."""
    with pytest.raises(errors.ROOT_USER_NOT_EXIST):
        store.enable()
    store.user_add("root", b"h")
    with pytest.raises(errors.ROOT_ROLE_NOT_EXIST):
        store.enable()
    store.user_grant_role("root", "root")
    store.enable()
    assert store.enabled


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (lambda s: s.user_add("", b""), errors.USER_EMPTY),
        (lambda s: s.user_add("u", b""), errors.USER_ALREADY_EXIST),
        (lambda s: s.user_add("x" * 600, b""), errors.INVALID_AUTH_MGMT),
        (lambda s: s.user_delete("root"), errors.INVALID_AUTH_MGMT),
        (lambda s: s.user_delete("x"), errors.USER_NOT_FOUND),
        (lambda s: s.user_change_password("x", b""), errors.USER_NOT_FOUND),
        (lambda s: s.user_grant_role("x", "r"), errors.USER_NOT_FOUND),
        (lambda s: s.user_grant_role("u", "x"), errors.ROLE_NOT_FOUND),
        (lambda s: s.user_revoke_role("root", "root"), errors.INVALID_AUTH_MGMT),
        (lambda s: s.user_revoke_role("u", "root"), errors.ROLE_NOT_GRANTED),
        (lambda s: s.user_get("x"), errors.USER_NOT_FOUND),
        (lambda s: s.role_add(""), errors.ROLE_EMPTY),
        (lambda s: s.role_add("r"), errors.ROLE_ALREADY_EXIST),
        (lambda s: s.role_delete("root"), errors.INVALID_AUTH_MGMT),
        (lambda s: s.role_delete("x"), errors.ROLE_NOT_FOUND),
        (lambda s: s.role_get("x"), errors.ROLE_NOT_FOUND),
        (lambda s: s.role_grant_permission("r", None), errors.PERMISSION_NOT_GIVEN),
        (lambda s: s.role_grant_permission("x", Permission(READ, b"k")), errors.ROLE_NOT_FOUND),
        (
            lambda s: s.role_grant_permission("r", Permission(READ, b"b", b"b")),
            errors.INVALID_AUTH_MGMT,
        ),
        (lambda s: s.role_grant_permission("r", Permission(READ, b"")), errors.INVALID_AUTH_MGMT),
        (lambda s: s.role_revoke_permission("r", b"a", b""), errors.PERMISSION_NOT_GRANTED),
        (lambda s: s.role_revoke_permission("x", b"a", b""), errors.ROLE_NOT_FOUND),
    ],
)
def test_refused_changes_change_nothing(
    enabled: AuthStore, backend: MemoryBackend, action: Callable, error: type
) -> None:
    """The right error, the same revision, the same buckets."""
    buckets = (schema.AUTH, schema.AUTH_USERS, schema.AUTH_ROLES)
    before = [backend.range(name) for name in buckets]
    with pytest.raises(error):
        action(enabled)
    assert [backend.range(name) for name in buckets] == before


def test_read_and_write_are_apart(enabled: AuthStore) -> None:
    """READ [a, c) and WRITE [b, d); prev_kv needs both."""
    u = who(enabled, "u")
    assert allowed(lambda: enabled.check_read(u, b"a", b"c"))
    assert not allowed(lambda: enabled.check_read(u, b"a", b"d"))
    assert allowed(lambda: enabled.check_write(u, b"c"))
    assert not allowed(lambda: enabled.check_write(u, b"a"))
    assert allowed(lambda: enabled.check_write(u, b"b", prev_kv=True))
    assert not allowed(lambda: enabled.check_write(u, b"c", prev_kv=True))
    assert allowed(lambda: enabled.check_lease(u, [b"b", b"c"], write=True))
    assert not allowed(lambda: enabled.check_lease(u, [b"b", b"c"], write=False))
    assert allowed(lambda: enabled.check_write(who(enabled, "root"), b"zzz", b"\0", prev_kv=True))


def test_changes_of_roles_take_effect_at_once(enabled: AuthStore) -> None:
    """No stale cache after grant, replacement, revocation and deletion."""

    def may_write() -> bool:
        return allowed(lambda: enabled.check_write(who(enabled, "u"), b"q"))

    assert not may_write()
    enabled.role_grant_permission("r", Permission(READ, b"q"))
    assert not may_write()
    enabled.role_grant_permission("r", Permission(READWRITE, b"q"))
    assert may_write()
    assert [each.key for each in enabled.role_get("r")] == [b"a", b"b", b"q"]
    enabled.role_revoke_permission("r", b"q", b"")
    assert not may_write()
    enabled.role_grant_permission("r", Permission(WRITE, b"q"))
    enabled.user_revoke_role("u", "r")
    assert not may_write()
    enabled.user_grant_role("u", "r")
    assert may_write()
    enabled.role_delete("r")
    assert not may_write()
    assert enabled.user_get("u") == []


def test_a_second_range_at_a_key_hides_the_later_ones(enabled: AuthStore) -> None:
    """Granting a range that is not the first at its key adds it again, as in etcd."""
    for kind in (READ, WRITE):
        enabled.role_grant_permission("r", Permission(kind, b"q", b"\0"))
    assert [each for each in enabled.role_get("r") if each.key == b"q"] == [
        Permission(WRITE, b"q", b"\0")
    ]
    enabled.role_grant_permission("r", Permission(READ, b"q"))
    enabled.role_grant_permission("r", Permission(WRITE, b"q"))
    assert [each for each in enabled.role_get("r") if each.key == b"q"] == [
        Permission(WRITE, b"q", b"\0"),
        Permission(READ, b"q"),
        Permission(WRITE, b"q"),
    ]
    enabled.role_revoke_permission("r", b"q", b"")
    assert [each.kind for each in enabled.role_get("r") if each.key == b"q"] == [WRITE]


def test_who_is_who(enabled: AuthStore) -> None:
    """Nobody, an old token, an unknown user; and nothing is checked while it is off."""
    with pytest.raises(errors.USER_EMPTY):
        enabled.check_read(NOBODY, b"a")
    with pytest.raises(errors.AUTH_OLD_REVISION):
        enabled.check_read(Identity("u", enabled.revision - 1), b"a")
    with pytest.raises(errors.AUTH_PERMISSION_DENIED):
        enabled.check_read(who(enabled, "ghost"), b"a")
    enabled.disable()
    enabled.check_read(NOBODY, b"anything", b"\0")
    enabled.check_admin(NOBODY)


def test_admins_and_the_curious(enabled: AuthStore) -> None:
    """Without role root: only themselves and the roles they hold."""
    u = who(enabled, "u")
    enabled.check_admin(who(enabled, "root"))
    with pytest.raises(errors.AUTH_PERMISSION_DENIED):
        enabled.check_admin(u)
    with pytest.raises(errors.USER_EMPTY):
        enabled.check_admin(NOBODY)
    with pytest.raises(errors.USER_NOT_FOUND):
        enabled.check_admin(who(enabled, "ghost"))
    enabled.check_user_get(u, "u")
    enabled.check_role_get(u, "r")
    assert not allowed(lambda: enabled.check_user_get(u, "root"))
    assert not allowed(lambda: enabled.check_role_get(u, "root"))


def test_tokens_are_told(backend: MemoryBackend) -> None:
    """A deleted user, a changed password, authentication turned off, a snapshot that may hold any
    of these."""
    tokens = Tokens()
    store = AuthStore(backend, tokens)
    tokens.forgotten.clear()
    store.user_add("root", b"h")
    store.user_grant_role("root", "root")
    store.user_add("u", b"h")
    store.enable()
    store.user_change_password("u", b"i")
    store.user_delete("u")
    store.disable()
    assert tokens.forgotten == ["u", "u", "*"]
    store.restore(backend)
    assert tokens.forgotten[3:] == ["*"]


def test_everything_comes_back_from_the_buckets(enabled: AuthStore, backend: MemoryBackend) -> None:
    """A restart, or a snapshot."""
    again = AuthStore(backend, Tokens())
    assert (again.enabled, again.revision) == (True, enabled.revision)
    assert again.user_list() == ["root", "u"]
    assert again.role_list() == ["r", "root"]
    assert again.role_get("r") == enabled.role_get("r")
    assert again.role_get("root") == [Permission(READWRITE, b"", b"\0")]
    assert allowed(lambda: again.check_read(who(again, "u"), b"b"))


def test_records_are_authpb() -> None:
    """Byte for byte what protobuf writes, options always present in a user."""
    user = User("ü", b"$2a$", ("a", "root"), no_password=True)
    theirs = authpb.User(
        name="ü".encode(),
        password=b"$2a$",
        roles=["a", "root"],
        options=authpb.UserAddOptions(no_password=True),
    )
    assert user.encode() == theirs.SerializeToString(deterministic=True)
    assert decode_user(user.encode()) == user
    plain = authpb.User(name=b"u", options=authpb.UserAddOptions())
    assert User("u").encode() == plain.SerializeToString(deterministic=True)
    role = Role("r", (Permission(READ, b"a"), Permission(READWRITE, b"b", b"\0")))
    expected = authpb.Role(
        name=b"r",
        keyPermission=[
            authpb.Permission(permType=0, key=b"a"),
            authpb.Permission(permType=2, key=b"b", range_end=b"\0"),
        ],
    )
    assert role.encode() == expected.SerializeToString(deterministic=True)
    assert decode_role(role.encode()) == role


def test_password_checks(enabled: AuthStore) -> None:
    """The job says yes to the one password; who has none is told so."""
    from corum.auth.passwords import HashPassword

    hashed = HashPassword("secret", cost=4).run()
    assert hashed.startswith(b"$2a$04$")
    enabled.user_change_password("u", hashed)
    job = enabled.password_check("u", "secret")
    assert (job.run(), job.revision) == (True, enabled.revision)
    assert not enabled.password_check("u", "Secret").run()
    assert not enabled.password_check("root", "hash").run()
    enabled.user_add("np", b"ignored", no_password=True)
    with pytest.raises(errors.NO_PASSWORD_USER):
        enabled.password_check("np", "x")
    with pytest.raises(errors.AUTH_FAILED):
        enabled.password_check("ghost", "x")
    with pytest.raises(errors.AUTH_FAILED):
        enabled.may_have_token("np")
    enabled.disable()
    with pytest.raises(errors.AUTH_NOT_ENABLED):
        enabled.password_check("u", "x")


def test_hashes_travel_as_base64() -> None:
    """What is no base64 gets etcd's odd error."""
    assert unpack_hash("JDJhJA==") == b"$2a$"
    with pytest.raises(errors.NO_PASSWORD_USER):
        unpack_hash("$")
