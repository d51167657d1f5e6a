"""Tokens: simple ones, remembered by each member, and JSON Web Tokens, remembered by nobody.

Pure but for the signing library: times and the random prefix come in, key files are read elsewhere.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from random import Random
from typing import Any, Final

from corum import errors
from corum.auth.store import Identity
from corum.values import NS_PER_S, value

PREFIX_LETTERS: Final = 16
SIMPLE_TTL_NS: Final = 300 * NS_PER_S
JWT_TTL_S: Final = 300
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

SIGN_METHODS: Final = frozenset(
    f"{family}{size}" for family in ("RS", "PS", "ES", "HS") for size in (256, 384, 512)
) | {"EdDSA"}


class TokenOptionsError(ValueError):
    """`--auth-token` cannot be used; the text is etcd's."""


@value
class TokenOptions:
    """`--auth-token`: `simple`, or `jwt,sign-method=…,pub-key=…,priv-key=…,ttl=…`."""

    kind: str
    sign_method: str = ""
    public_key_path: str = ""
    private_key_path: str = ""
    ttl_s: int = JWT_TTL_S


def parse_options(text: str) -> TokenOptions:
    """Raises TokenOptionsError with etcd's text."""
    kind, *pairs = text.split(",")
    options: dict[str, str] = {}
    for pair in pairs:
        name, _, item = pair.partition("=")
        if pair.count("=") != 1 or name in options:
            raise TokenOptionsError("auth: invalid auth options")
        options[name] = item
    if kind not in ("simple", "jwt"):
        raise TokenOptionsError("auth: invalid auth options")
    if kind == "simple":
        return TokenOptions(kind)
    if options.get("sign-method") not in SIGN_METHODS:
        raise TokenOptionsError("auth: invalid auth signature method")
    if not options.get("pub-key") and not options.get("priv-key"):
        raise TokenOptionsError("auth: missing key data")
    return TokenOptions(
        kind,
        options["sign-method"],
        options.get("pub-key", ""),
        options.get("priv-key", ""),
        _seconds(options.get("ttl", "")),
    )


_UNITS_NS: Final = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": NS_PER_S, "m": 60 * NS_PER_S}


def _seconds(text: str) -> int:
    """A Go duration with one unit or several ("10m", "1h30m") in whole seconds; "" = default."""
    import re

    if not text:
        return JWT_TTL_S
    parts = re.findall(r"(\d+)(ns|us|ms|s|m|h)", text)
    if "".join(number + unit for number, unit in parts) != text:
        raise TokenOptionsError("auth: invalid auth options")
    units = {**_UNITS_NS, "h": 3_600 * NS_PER_S}
    return sum(int(number) * units[unit] for number, unit in parts) // NS_PER_S


class SimpleTokens:
    """`<16 letters>.<index of the log entry that assigned it>`; alive while it is used.

    Every member that applied the Authenticate entry knows the token. One that gets the token
    before it applied that entry has to wait for it, see `index_of`.
    """

    def __init__(self, ttl_ns: int = SIMPLE_TTL_NS) -> None:
        self._ttl_ns = ttl_ns
        self._users: dict[str, str] = {}
        self._deadlines: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []  # may be too early; put right when it comes up

    def __len__(self) -> int:
        return len(self._users)

    def assign(self, user: str, prefix: str, index: int, now_ns: int) -> str:
        """At apply; the prefix was drawn before the proposal."""
        token = f"{prefix}.{index}"
        self._users[token] = user
        self._deadlines[token] = now_ns + self._ttl_ns
        heappush(self._heap, (now_ns + self._ttl_ns, token))
        if len(self._heap) > 2 * len(self._users) + 64:
            self._heap = [(due, each) for each, due in self._deadlines.items()]
            heapify(self._heap)
        return token

    def identify(self, token: str, revision: int, now_ns: int) -> Identity | None:
        """Whose token it is, at the store's current `revision`; its life starts anew."""
        user = self._users.get(token)
        if user is None or self._deadlines[token] <= now_ns:
            return None
        self._deadlines[token] = now_ns + self._ttl_ns
        return Identity(user, revision)

    def expire(self, now_ns: int) -> int:
        """Forget tokens that were not used for their TTL; how many."""
        count = 0
        heap = self._heap
        while heap and heap[0][0] <= now_ns:
            _, token = heappop(heap)
            due_ns = self._deadlines.get(token)
            if due_ns is None:
                continue
            if due_ns > now_ns:
                heappush(heap, (due_ns, token))
            else:
                self._forget(token)
                count += 1
        return count

    def forget_user(self, user: str) -> None:
        for token in [each for each, owner in self._users.items() if owner == user]:
            self._forget(token)

    def forget_all(self) -> None:
        self._users.clear()
        self._deadlines.clear()
        self._heap.clear()

    def _forget(self, token: str) -> None:
        del self._users[token]
        del self._deadlines[token]


def draw_prefix(dice: Random) -> str:
    """The random half of a simple token. `dice` has to be unpredictable outside of tests."""
    return "".join(dice.choices(_LETTERS, k=PREFIX_LETTERS))


def index_of(token: str) -> int | None:
    """The log index a simple token came from: wait until it is applied. None: no such token."""
    prefix, dot, index = token.partition(".")
    if not prefix or not dot or not index.isascii() or not index.isdigit() or len(index) > 20:
        return None
    return int(index)


class JwtTokens:
    """Signed tokens with claims `username`, `revision` and `exp`; any member can check them."""

    def __init__(
        self, sign_method: str, public_key: bytes, private_key: bytes | None, ttl_s: int
    ) -> None:
        """Keys as PEM (for HMAC the secret is the private key). Without one: verify only."""
        if sign_method not in SIGN_METHODS:
            raise TokenOptionsError("auth: invalid auth signature method")
        self._method = sign_method
        self._signing_key = private_key
        self._checking_key = private_key if sign_method.startswith("HS") else public_key
        self._ttl_s = ttl_s
        if not self._checking_key:
            raise TokenOptionsError("auth: missing key data")
        if private_key is not None:
            probe = self.assign("", 0, 0)
            if self.identify(probe, 0) is None:
                raise TokenOptionsError("auth: public and private keys don't match")

    def assign(self, user: str, revision: int, now_s: int) -> str:
        """A token for `user`, good until the auth revision moves or the TTL is over."""
        import jwt

        if self._signing_key is None:
            raise errors.EtcdError(
                errors.UNKNOWN, "auth: token signing attempted with verify-only key"
            )
        claims = {"username": user, "revision": revision, "exp": now_s + self._ttl_s}
        return jwt.encode(claims, self._signing_key, algorithm=self._method)

    def identify(self, token: str, now_s: int) -> Identity | None:
        """Whose token it is and of which revision; None when it is forged, broken or too old."""
        import jwt

        assert self._checking_key is not None
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._checking_key,
                algorithms=[self._method],
                options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
            if claims["exp"] <= now_s:
                return None
            user, revision = claims["username"], int(claims["revision"])
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError):
            return None
        return Identity(user, revision) if isinstance(user, str) else None

    def forget_user(self, user: str) -> None:
        """Nothing to forget: the revision has moved."""

    def forget_all(self) -> None:
        """Nothing to forget."""
