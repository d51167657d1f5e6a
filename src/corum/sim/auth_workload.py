"""Authentication on and off, rights that change, and users that work under them with tokens.

Everybody else (`workload`, `cluster_workload`) shows a certificate of root's, so nothing changes
for them but that a change of rights may refuse what was asked under the rights of before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, Final

from corum import errors
from corum.pb import authpb, rpc
from corum.sim.auth_model import ALL, KEYS, OFF, READ, WRITE, Fact, Facts
from corum.sim.calls import META
from corum.sim.sessions import Client, Later, Operation, Process, spawn
from corum.sim.world import World
from corum.values import NS_PER_MS, NS_PER_S, value

USERS: Final = ("alice", "bob")
ROLES: Final = ("s1", "s2")
ROOT: Final = "root"
PATIENCE_NS: Final = 12 * NS_PER_S
TRIES: Final = 20
ATTEMPTS_MAX: Final = 60
"""Of each client."""
KINDS: Final = {
    authpb.Permission.READ: (READ,),
    authpb.Permission.WRITE: (WRITE,),
    authpb.Permission.READWRITE: (READ, WRITE),
}


@value
class Certificate:
    """Of the connection of a client."""

    common_name: str = ROOT
    tls: bool = True


ROOTS_META: Final = (*META[:5], Certificate(), *META[6:])
"""What the transport says of somebody with a certificate of root's."""


class AuthWorkload:
    """The warden, who changes rights, and the users, who try what they may do."""

    def __init__(
        self, world: World, client: Callable[[str], Client], new_value: Callable[[], bytes]
    ) -> None:
        self.world = world
        self.facts = Facts()
        self.attempts: list[tuple[str, Operation, Operation | None]] = []
        """(user, what they did, the Authenticate whose token they had)."""
        self.passwords: dict[str, list[str]] = {each: [] for each in USERS}
        self._tokens: dict[str, Operation] = {}
        """Each user's newest."""
        self.running = 0
        self._client = client
        self.new_value = new_value
        self._secrets = 0
        self._think_ns = world.dice.choice((10, 40)) * NS_PER_MS
        self._change_ns = world.dice.choice((60, 300)) * NS_PER_MS
        self._switches = world.dice.choice((0, 1, 3))

    def processes(self, is_over: Callable[[], bool]) -> list[Process]:
        """All of them; they end when it `is_over`."""
        found = [self._warden(self._client("warden"), is_over)]
        for user in USERS:
            found += [self._user(user, self._client(f"{user}{n}"), is_over) for n in range(2)]
        return found

    # ---- the warden

    def _warden(self, client: Client, is_over: Callable[[], bool]) -> Process:
        self.running += 1
        yield from self.found(client)
        changes = (
            *(self._grant_right, self._grant_right, self._grant_right, self._revoke_right),
            *(self._grant_role, self._grant_role, self._grant_role, self._revoke_role),
            *(self.change_password, self._delete_user, self._delete_role),
            *(self._switch,) * self._switches,
        )
        while not is_over():
            yield client.sleep(self.world.delay(self._change_ns))
            yield from self.world.dice.choice(changes)(client)
        self.running -= 1

    def found(self, client: Client) -> Process:
        """Users, roles and rights, and authentication on."""
        for user, role in zip(USERS, ROLES, strict=True):
            yield from self._ask(client, "Auth/RoleAdd", rpc.AuthRoleAddRequest(name=role))
            for _ in range(3):
                yield from self._grant_right(client, role)
            yield from self._add_user(client, user)
            yield from self._grant_role(client, user, role)
        yield from self.enable(client)

    def _ask(
        self,
        client: Client,
        name: str,
        request: Any,
        makes: Iterable[Fact] = (),
        ends: Iterable[Fact] = (),
    ) -> Process:
        """Until there is an answer, or several times; with what becomes true and false by it."""
        makes, ends = list(makes), list(ends)
        for _ in range(TRIES):
            done: Operation = yield client.ask(name, request, PATIENCE_NS)
            for fact in makes:
                self.facts.makes(fact, done)
            for fact in ends:
                self.facts.ends(fact, done)
            if done.succeeded and ends:
                self._pounce()
            if not done.is_unknown and done.code != errors.UNAVAILABLE:
                return
            yield client.sleep(self.world.delay(30 * NS_PER_MS))

    def _pounce(self) -> None:
        """Whoever has a token tries at once, anywhere: not all members know of the change yet."""
        for user, token in self._tokens.items():
            client = self._client(f"{user}3")
            put = rpc.PutRequest(key=self.world.dice.choice(KEYS).encode(), value=self.new_value())
            spawn(self._try(client, user, put, token))

    def _try(self, client: Client, user: str, request: Any, token: Operation) -> Process:
        self.running += 1
        yield from self.attempt(client, user, "KV/Put", request, token)
        self.running -= 1

    def enable(self, client: Client) -> Process:
        """Authentication is on, for which there must be a root."""
        add = rpc.AuthUserAddRequest(name=ROOT, password="root")
        yield from self._ask(client, "Auth/UserAdd", add)
        grant = rpc.AuthUserGrantRoleRequest(user=ROOT, role=ROOT)
        yield from self._ask(client, "Auth/UserGrantRole", grant)
        yield from self._enable_again(client)

    def _enable_again(self, client: Client) -> Process:
        yield from self._ask(client, "Auth/AuthEnable", rpc.AuthEnableRequest(), ends=[OFF])

    def _switch(self, client: Client) -> Process:
        """Off for a while."""
        tokens = [("tokens", user) for user in USERS]
        request = rpc.AuthDisableRequest()
        yield from self._ask(client, "Auth/AuthDisable", request, makes=[OFF], ends=tokens)
        yield client.sleep(self.world.delay(self._change_ns))
        yield from self._enable_again(client)

    def _bounds(self) -> tuple[str, str]:
        return self.world.dice.choice([ALL, *[(key, "") for key in KEYS]])

    def _grant_right(self, client: Client, role: str = "") -> Process:
        """It takes the place of another right to the same range."""
        dice = self.world.dice
        role, (key, end) = role or dice.choice(ROLES), self._bounds()
        kind = dice.choice(tuple(KINDS))
        right = authpb.Permission(permType=kind, key=key.encode(), range_end=end.encode())
        request = rpc.AuthRoleGrantPermissionRequest(name=role, perm=right)
        makes = [("right", role, each, key, end) for each in KINDS[kind]]
        ends = [("right", role, each, key, end) for each in (READ, WRITE)]
        ends = [each for each in ends if each not in makes]
        yield from self._ask(client, "Auth/RoleGrantPermission", request, makes, ends)

    def _revoke_right(self, client: Client) -> Process:
        role, (key, end) = self.world.dice.choice(ROLES), self._bounds()
        request = rpc.AuthRoleRevokePermissionRequest(
            role=role, key=key.encode(), range_end=end.encode()
        )
        ends = [("right", role, each, key, end) for each in (READ, WRITE)]
        yield from self._ask(client, "Auth/RoleRevokePermission", request, ends=ends)

    def _grant_role(self, client: Client, user: str = "", role: str = "") -> Process:
        user, role = user or self.world.dice.choice(USERS), role or self.world.dice.choice(ROLES)
        request = rpc.AuthUserGrantRoleRequest(user=user, role=role)
        yield from self._ask(client, "Auth/UserGrantRole", request, [("role", user, role)])

    def _revoke_role(self, client: Client) -> Process:
        user, role = self.world.dice.choice(USERS), self.world.dice.choice(ROLES)
        request = rpc.AuthUserRevokeRoleRequest(name=user, role=role)
        yield from self._ask(client, "Auth/UserRevokeRole", request, ends=[("role", user, role)])

    def _secret(self, user: str) -> str:
        self._secrets += 1
        self.passwords[user].append(f"{user}'s {self._secrets}")
        return self.passwords[user][-1]

    def _add_user(self, client: Client, user: str) -> Process:
        secret = self._secret(user)
        request = rpc.AuthUserAddRequest(name=user, password=secret)
        yield from self._ask(client, "Auth/UserAdd", request, [("password", user, secret)])

    def change_password(self, client: Client, user: str = "") -> Process:
        """A new one."""
        user = user or self.world.dice.choice(USERS)
        ends = self._log_ins(user)
        secret = self._secret(user)
        request = rpc.AuthUserChangePasswordRequest(name=user, password=secret)
        makes = [("password", user, secret)]
        yield from self._ask(client, "Auth/UserChangePassword", request, makes, ends)

    def _log_ins(self, user: str) -> list[Fact]:
        """Tokens and passwords so far."""
        return [("tokens", user), *self.facts.known(("password", user))]

    def _delete_user(self, client: Client) -> Process:
        """And comes back without roles."""
        user = self.world.dice.choice(USERS)
        ends = [*self._log_ins(user), *[("role", user, role) for role in ROLES]]
        request = rpc.AuthUserDeleteRequest(name=user)
        yield from self._ask(client, "Auth/UserDelete", request, ends=ends)
        yield from self._add_user(client, user)
        yield from self._grant_role(client, user)

    def _delete_role(self, client: Client) -> Process:
        """And comes back without rights, and with nobody."""
        role = self.world.dice.choice(ROLES)
        ends = [*self.facts.known(("right", role)), *[("role", user, role) for user in USERS]]
        request = rpc.AuthRoleDeleteRequest(role=role)
        yield from self._ask(client, "Auth/RoleDelete", request, ends=ends)
        yield from self._ask(client, "Auth/RoleAdd", rpc.AuthRoleAddRequest(name=role))
        yield from self._grant_right(client, role)

    # ---- users

    def _user(self, user: str, client: Client, is_over: Callable[[], bool]) -> Process:
        """Logs in with a password that may be old, works until the token is refused."""
        self.running += 1
        token: Operation | None = None
        for _ in range(ATTEMPTS_MAX):
            if is_over():
                break
            yield client.sleep(self.world.delay(self._think_ns))
            if token is None:
                token = yield from self.log_in(client, user)
                continue
            name, request = self._attempt()
            done = yield from self.attempt(client, user, name, request, token)
            if done.text == errors.INVALID_AUTH_TOKEN.text:
                token = None
        self.running -= 1

    def attempt(
        self, client: Client, user: str, name: str, request: Any, token: Operation
    ) -> Generator[Later, Any, Operation]:
        """A call with a token; it will be judged."""
        client.token = token.response.token
        wait = client.ask(name, request, PATIENCE_NS)
        done: Operation = yield wait
        client.token = ""
        self.attempts.append((user, done, token))
        return done

    def log_in(
        self, client: Client, user: str, secret: str = ""
    ) -> Generator[Later, Any, Operation | None]:
        """The Authenticate, if it succeeds."""
        known = self.passwords[user]
        if not known:
            return None
        if not secret:
            secret = known[-1] if self.world.chance(0.7) else self.world.dice.choice(known)
        request = rpc.AuthenticateRequest(name=user, password=secret)
        done: Operation = yield client.ask("Auth/Authenticate", request, PATIENCE_NS)
        self.attempts.append((user, done, None))
        if done.succeeded:
            self._tokens[user] = done
        if not done.succeeded:
            yield client.sleep(self.world.delay(100 * NS_PER_MS))
            return None
        return done

    def _attempt(self) -> tuple[str, Any]:
        dice = self.world.dice
        key = dice.choice(KEYS).encode()
        match self.world.between(0, 6):
            case 0 | 1 | 2:
                prev_kv = dice.random() < 0.2
                return "KV/Put", rpc.PutRequest(key=key, value=self.new_value(), prev_kv=prev_kv)
            case 3 | 4:
                serializable = dice.random() < 0.2
                return "KV/Range", rpc.RangeRequest(key=key, serializable=serializable)
            case 5:
                return "KV/DeleteRange", rpc.DeleteRangeRequest(key=key)
            case _:
                first, end = (each.encode() for each in ALL)
                return "KV/Range", rpc.RangeRequest(key=first, range_end=end)
