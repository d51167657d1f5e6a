"""One run of a command: its flags with the environment behind them, the cluster, the output.

Environment variables `ETCDCTL_<FLAG>` stand behind flags that were not given; a flag given both
ways ends the program, as etcd's does. Calls raise `ExitError`, so commands only tell what differs.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC
from typing import TYPE_CHECKING, TypeVar

from corum.cli.command import EXIT_BAD_CONNECTION, EXIT_ERROR, ExitError, bad_arguments
from corum.cli.etcdctl.printers import Printer
from corum.cli.gotext import GoSyntaxError, parse_int, parse_uint
from corum.client.errors import ClientError
from corum.client.options import DEFAULT, RECV_MAX_BYTES, Options, Tls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

    from corum.cli.command import Invocation
    from corum.client._sync.session import Session
    from corum.client.methods import Method

    T = TypeVar("T", bound=Message)

NS_PER_S = 1_000_000_000
PREFIX = "ETCDCTL_"
NOT_FLAGS = frozenset(("ETCDCTL_API", "ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"))
CONFLICT = (
    "conflicting environment variable is shadowed by corresponding command-line flag "
    "(either unset environment variable or disable flag))"
)

PORTS_MAX = 65_536


class Context:
    """What a command works with. The connection is made when it is first asked for."""

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.values = invocation.values
        self.arguments = invocation.arguments
        apply_environment(invocation)
        if self.values.boolean("debug"):
            for name, shown in self.values.shown():
                if name in _global_names(invocation):
                    sys.stderr.write(f"{variable(name)}={shown}\n")
        self.out = Printer(self.values.string("write-out"), hexadecimal=self.values.boolean("hex"))
        self._session: Session | None = None

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        if self._session is not None:
            self._session.close()

    # The cluster -----------------------------------------------------------------------------

    @property
    def timeout_s(self) -> float:
        return self.values.integer("command-timeout") / NS_PER_S

    @property
    def session(self) -> Session:
        if self._session is None:
            self._session = self.connect(self.endpoints())
        return self._session

    def endpoints(self) -> tuple[str, ...]:
        """As the flags give them, or from DNS."""
        domain = self.values.string("discovery-srv")
        if not domain:
            return self.values.strings("endpoints")
        from corum.cli.etcdctl.discovery import discover

        return discover(
            domain,
            self.values.string("discovery-srv-name"),
            accept_insecure=self.values.boolean("insecure-discovery"),
        )

    def connect(self, endpoints: Sequence[str], *, timeout_s: float | None = None) -> Session:
        """A session with these endpoints and the global flags; ExitError 2 without login."""
        from corum.client._sync.session import Session

        values = self.values
        user, password = self._credentials()
        for endpoint in endpoints:
            if endpoint and not _is_address(endpoint):
                raise ExitError(EXIT_ERROR, f"no address of a member: {endpoint}")
        try:
            options = Options(
                endpoints,
                user=user,
                password=password,
                token=self._jwt(),
                tls=self._tls(),
                timeout_s=timeout_s or self.timeout_s,
                dial_timeout_s=values.integer("dial-timeout") / NS_PER_S,
                keepalive_s=values.integer("keepalive-time") / NS_PER_S,
                keepalive_timeout_s=values.integer("keepalive-timeout") / NS_PER_S,
                recv_max_bytes=values.integer("max-recv-bytes") or RECV_MAX_BYTES,
            )
        except ValueError as error:
            raise bad_arguments(str(error)) from None
        session = Session(options)
        if user is not None:
            try:
                session.login(options.dial_timeout_s)
            except ClientError as error:
                log_failure(error, options.endpoints)
                raise ExitError(EXIT_BAD_CONNECTION, error.go_text()) from None
        return session

    def call(self, method: Method[T], request: Message, *, timeout_s: float | None = DEFAULT) -> T:
        """The answer; a failure ends the program with status 1 and the error's text."""
        try:
            return self.session.call(method, request, timeout_s=timeout_s)
        except ClientError as error:
            raise self.failure(error) from None

    def failure(self, error: ClientError, wrap: str = "{}", code: int = EXIT_ERROR) -> ExitError:
        log_failure(
            error, self.endpoints() if not self._session else self.session.options.endpoints
        )
        return ExitError(code, wrap.format(error.go_text()))

    # Flags -----------------------------------------------------------------------------------

    def _credentials(self) -> tuple[str | None, str | None]:
        user, password = self.values.string("user"), self.values.string("password")
        if not user:
            return None, None
        if password:
            return user, password
        name, colon, rest = user.partition(":")
        if colon:
            return name, rest
        from corum.cli.secret import secret

        return name, secret("Password: ")

    def _jwt(self) -> str | None:
        return self.values.string("auth-jwt-token") or None

    def _tls(self) -> Tls | None:
        values = self.values
        files: dict[str, str] = {}
        for flag in ("cacert", "cert", "key"):
            files[flag] = values.string(flag)
            if flag in values.changed and not files[flag]:
                raise bad_arguments(f"empty string is passed to --{flag} option")
        if not any(files.values()) and values.boolean("insecure-transport"):
            return None
        for path in files.values():
            _require_file(path)
        return Tls(
            ca_file=files["cacert"] or None,
            cert_file=files["cert"] or None,
            key_file=files["key"] or None,
            skip_verify=values.boolean("insecure-skip-tls-verify"),
        )


def _require_file(path: str) -> None:
    if not path:
        return
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise bad_arguments(f"open {path}: {reason}") from None


def lease_id(text: str, what: str = "bad lease ID arg") -> int:
    """A lease id in hexadecimal."""
    try:
        return parse_int(text, 16)
    except GoSyntaxError as error:
        raise bad_arguments(f"{what} ({error}), expecting ID in Hex") from None


def member_id(text: str) -> int:
    """A member id in hexadecimal."""
    try:
        return parse_uint(text, 16)
    except GoSyntaxError as error:
        raise bad_arguments(f"bad member ID arg ({error}), expecting ID in Hex") from None


def to_bytes(text: str) -> bytes:
    """A word of the command line as the bytes it was."""
    return text.encode("utf-8", "surrogateescape")


def prefix_end(key: bytes) -> bytes:
    """The end of the range of all keys that begin with `key`; one zero byte: no end."""
    for at in range(len(key) - 1, -1, -1):
        if key[at] < 0xFF:
            return key[:at] + bytes((key[at] + 1,))
    return b"\0"


# The environment -----------------------------------------------------------------------------


def variable(flag: str) -> str:
    return PREFIX + flag.upper().replace("-", "_")


def _global_names(invocation: Invocation) -> frozenset[str]:
    return frozenset(flag.name for flag in invocation.root.sticky)


def apply_environment(invocation: Invocation) -> None:
    """Put ETCDCTL_* into flags that were not given; values that do not fit are left alone."""
    values = invocation.values
    given = {name: text for name, text in os.environ.items() if name.startswith(PREFIX)}
    for flag in sorted(_global_names(invocation)):
        name = variable(flag)
        text = given.pop(name, "")
        if not text:
            continue
        if flag in values.changed:
            log("fatal", CONFLICT, **{"environment-variable": name})
            raise ExitError(EXIT_ERROR, "")
        try:
            values.set_text(flag, text)
        except GoSyntaxError as error:
            log("warn", "bad value of environment variable", variable=name, error=str(error))
    for name, text in sorted(given.items()):
        if name not in NOT_FLAGS:
            log(
                "warn",
                "unrecognized environment variable",
                **{"environment-variable": f"{name}={text}"},
            )


def log(level: str, message: str, **fields: object) -> None:
    """A line on stderr in the form of etcd's logs."""
    import json
    from datetime import datetime

    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    line = {
        "level": level,
        "ts": now,
        "logger": "etcd-client",
        "caller": "corum/etcdctl",
        "msg": message,
    }
    sys.stderr.write(
        json.dumps({**line, **fields}, ensure_ascii=False, separators=(",", ":")) + "\n"
    )


def _is_address(endpoint: str) -> bool:
    """Is it a socket's path, or does a port stand at its end?"""
    port = endpoint.rstrip("/").rpartition(":")[2]
    return endpoint.startswith("unix") or (port.isdecimal() and int(port) < PORTS_MAX)


def log_failure(error: ClientError, endpoints: Sequence[str]) -> None:
    """What a call ran into; "context deadline exceeded" alone says nothing."""
    cause = error.detail or error.text
    log(
        "warn",
        "retrying of unary invoker failed",
        target="etcd-endpoints://" + ",".join(endpoints),
        attempt=0,
        error=f"rpc error: code = {error.code_name} desc = {cause}",
    )
