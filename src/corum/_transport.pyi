"""The whole boundary between corum's Python and its Rust transport.

The transport moves bytes: connections, TLS, HTTP/1.1, HTTP/2, gRPC framing, flow control, the
log's write and fdatasync, CRC-32C. It knows no message of etcd; a payload is `bytes` to it.

Threads. A `Transport` owns one Rust thread with all its sockets. Every method here may be called
from any Python thread, except `poll`, which belongs to one thread at a time (the *owner*). Methods
that answer or send never block: they copy what they are given and return. `poll`,
`Channel.unary`, `LogWriter.write_now` and `Transport.close` wait, always without the GIL.

Buffers. Every `bytes` in an event is a fresh object owned by Python. Every `bytes` handed over is
copied before the method returns (`LogWriter.submit` instead keeps a reference until it is written).

Events. `poll` returns tuples whose first item is one of the kinds below:

| kind | items after it |
|---|---|
| `UNARY` | call, method, message: bytes, meta: tuple - a whole request of a method that takes one |
| `STREAM_OPEN` | call, method, meta: tuple - a client-streaming or bidirectional call began |
| `STREAM_MESSAGE` | call, message: bytes |
| `STREAM_END` | call - the client has sent its last message; the call is still to be answered |
| `CANCELLED` | call, code - the id is dead, answer nothing; code 1: client gone, 4: deadline passed |
| `WRITABLE` | call - its outbound bytes fell below `low_water_bytes` after a send told it was over |
| `HTTP` | call, listener, verb, target, headers, body: bytes, peer: Peer - a whole request |
| `HTTP_OPEN` | call, listener, verb, target, headers, peer - a request to a `streaming` prefix |
| `HTTP_CHUNK` | call, data: bytes - a piece of its body; give the room back with `consume` |
| `HTTP_END` | call, trailers |
| `LOG_SYNCED` | token, error: str or None, nanoseconds the write and sync took |
| `POSTED` | the object given to `post` |
| `RESPONSE` | call, message: bytes, trailers - a unary gRPC call succeeded; the id is dead |
| `RESPONSE_HEAD` | call, status: int, headers - of HTTP, or the first headers of a gRPC stream |
| `RESPONSE_MESSAGE` | call, message: bytes - one message of a gRPC stream |
| `RESPONSE_CHUNK` | call, data: bytes - a piece of an HTTP body; give the room back with `consume` |
| `RESPONSE_END` | call, code: int, text: str, trailers - the end, 0 is success; the id is dead |
| `DRAINED` | server calls left unanswered when the drain was over (0: all finished) |

Headers and trailers are `list[tuple[str, str]]`, names in lower case, bytes read as Latin-1;
so they are written (what Latin-1 lacks becomes "?"). Headers of requests are a tuple instead, which
requests of one connection share while they are equal.
`listener` is `Listener.id`, `method` the index in `Settings.methods`. Per call the order of events is the order on the wire.

`meta` is `(*values, connection, peer, deadline_ns)`: one `str | None` for each of
`Settings.metadata_keys`, the connection's id (int), its `Peer`, and the deadline as
`time.monotonic_ns()` or None. Without a deadline it is the same object for equal values on one
connection; compare it with `is` before you parse it again.

Call ids are ints below 2**63, never reused within 2**31 calls of a slot. An answer for a dead or
unknown id is dropped and counted in `stats()["stale_replies"]`: it is never an error.

Units are in the names: `_ms` milliseconds, `_ns` nanoseconds, `_bytes` bytes. 0 means "none" or
"unlimited" where a docstring says so, nowhere else. A default `...` is empty.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, final

__all__ = [
    "CANCELLED",
    "DRAINED",
    "HTTP",
    "HTTP_CHUNK",
    "HTTP_END",
    "HTTP_OPEN",
    "LOG_SYNCED",
    "POSTED",
    "RESPONSE",
    "RESPONSE_CHUNK",
    "RESPONSE_END",
    "RESPONSE_HEAD",
    "RESPONSE_MESSAGE",
    "STREAM_END",
    "STREAM_MESSAGE",
    "STREAM_OPEN",
    "UNARY",
    "WRITABLE",
    "Channel",
    "ChannelSettings",
    "ClientTls",
    "Listener",
    "LogWriter",
    "Peer",
    "Records",
    "RpcError",
    "ServerTls",
    "Settings",
    "Transport",
    "TransportError",
    "crc32c",
    "crc32c_chain",
]

UNARY: Final[int]
STREAM_OPEN: Final[int]
STREAM_MESSAGE: Final[int]
STREAM_END: Final[int]
CANCELLED: Final[int]
WRITABLE: Final[int]
HTTP: Final[int]
HTTP_OPEN: Final[int]
HTTP_CHUNK: Final[int]
HTTP_END: Final[int]
LOG_SYNCED: Final[int]
POSTED: Final[int]
RESPONSE: Final[int]
RESPONSE_HEAD: Final[int]
RESPONSE_MESSAGE: Final[int]
RESPONSE_CHUNK: Final[int]
RESPONSE_END: Final[int]
DRAINED: Final[int]

class TransportError(OSError):
    """The world refused: an address in use, a file missing, a bad certificate, a closed transport.

    `errno` is set when the operating system gave one.
    """

class RpcError(Exception):
    """A gRPC call ended with a status that is not OK (or never reached the server: code 14)."""

    code: int
    text: str
    metadata: list[tuple[str, str]]  # trailers, including grpc-status-details-bin and the like
    def __init__(self, code: int, text: str, metadata: Sequence[tuple[str, str]] = ...) -> None: ...

@final
class Settings:
    """Rules of one `Transport`. Immutable; bad values raise ValueError."""

    def __new__(
        cls,
        *,
        methods: Sequence[
            tuple[str, Literal["unary", "server_stream", "client_stream", "bidi"]]
        ] = ...,
        metadata_keys: Sequence[str] = ...,
        recv_max_bytes: int = 4_194_304,
        http_body_max_bytes: int = 67_108_864,
        header_max_bytes: int = 1_048_576,
        streams_max: int = 4_294_967_295,
        calls_max: int = 1_048_576,
        inbox_events_max: int = 65_536,
        inbox_bytes_max: int = 268_435_456,
        partial_bytes_max: int = 536_870_912,
        high_water_bytes: int = 4_194_304,
        low_water_bytes: int = 1_048_576,
        keepalive_min_time_ms: int = 5_000,
        keepalive_permit_without_stream: bool = False,
        keepalive_interval_ms: int = 7_200_000,
        keepalive_timeout_ms: int = 20_000,
        handshake_timeout_ms: int = 30_000,
    ) -> Settings:
        """
        methods: gRPC paths ("/package.Service/Method") and their kinds; events carry the index.
        metadata_keys: lower-case request headers whose values events carry in `meta`.
        recv_max_bytes: longest gRPC message accepted, before and after decompression; beyond it
            RESOURCE_EXHAUSTED "grpc: received message larger than max (N vs. M)".
        http_body_max_bytes: longest body of an `HTTP` event; beyond it 413. Not for streaming.
        header_max_bytes: longest header block; beyond it 431 or a refused stream.
        streams_max: SETTINGS_MAX_CONCURRENT_STREAMS of server connections.
        calls_max: open calls of this transport, all kinds; beyond it UNAVAILABLE or 503.
        inbox_events_max, inbox_bytes_max: while so much waits for `poll`, sockets are not read.
        partial_bytes_max: bytes of unfinished messages and bodies in all connections together;
            who sends beyond it gets RESOURCE_EXHAUSTED or 413.
        high_water_bytes, low_water_bytes: outbound bytes of one call, see `send`.
        keepalive_min_time_ms: clients that ping more often are sent away with GOAWAY
            ENHANCE_YOUR_CALM "too_many_pings" (0: any rate is fine).
        keepalive_permit_without_stream: tolerate such pings while no call is open.
        keepalive_interval_ms, keepalive_timeout_ms: the server pings a silent HTTP/2 client after
            the one and drops it after the other (interval 0: never).
        handshake_timeout_ms: a connection must have finished TLS and sent its first request head.
        """

@final
class ServerTls:
    """How a listener proves itself and whom it believes. Files are PEM.

    The files are looked at again (size, time, inode) before each handshake and re-read when they
    changed; when they cannot be read or do not fit, that handshake fails and the next tries again.
    """

    def __new__(
        cls,
        *,
        cert_file: str,
        key_file: str,
        ca_file: str | None = None,
        client_auth: Literal["none", "optional", "required"] = "none",
        sni: Sequence[tuple[str, str, str]] = ...,
        crl_file: str | None = None,
        allowed_common_names: Sequence[str] = ...,
        allowed_host_names: Sequence[str] = ...,
        min_version: Literal["1.2", "1.3"] = "1.2",
        max_version: Literal["1.2", "1.3"] = "1.3",
        cipher_suites: Sequence[str] = ...,
    ) -> ServerTls:
        """
        ca_file: who may sign client certificates; needed unless `client_auth` is "none".
        client_auth: "optional" verifies a certificate that is sent, "required" demands one.
        sni: (host name, cert_file, key_file) for clients that ask for that name.
        crl_file: revoked client certificates (PEM).
        allowed_common_names, allowed_host_names: with either, a client certificate must bear one of
            them besides being signed; a host name may stand in it as a wildcard.
        cipher_suites: IANA names (TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, ...); empty: all that
            the library considers safe. An unknown name raises ValueError.
        """

@final
class ClientTls:
    """How a channel checks its server and proves itself. Files are PEM, read at each connect."""

    def __new__(
        cls,
        *,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        server_name: str | None = None,
        skip_verify: bool = False,
        min_version: Literal["1.2", "1.3"] = "1.2",
        max_version: Literal["1.2", "1.3"] = "1.3",
        cipher_suites: Sequence[str] = ...,
    ) -> ClientTls:
        """
        ca_file: None takes the system's bundle (SSL_CERT_FILE or the usual places).
        server_name: expected in the certificate and sent as SNI, instead of the target's host.
        """

@final
class ChannelSettings:
    """Rules of one client `Channel`. Immutable."""

    def __new__(
        cls,
        *,
        tls: ClientTls | None = None,
        authority: str | None = None,
        user_agent: str = "corum",
        recv_max_bytes: int = 2_147_483_647,
        connect_timeout_ms: int = 20_000,
        backoff_min_ms: int = 100,
        backoff_max_ms: int = 5_000,
        keepalive_time_ms: int = 0,
        keepalive_timeout_ms: int = 20_000,
        keepalive_permit_without_stream: bool = False,
        gzip: bool = False,
        idle_connections_max: int = 4,
    ) -> ChannelSettings:
        """
        tls: used for "https://" and "unixs://" targets; None means default `ClientTls`.
        authority: `:authority` and `Host`; None: the target's host and port.
        backoff_min_ms, backoff_max_ms: after a failed connect further calls fail with the same
            error until this time (doubling) is over; the next call then tries again.
        keepalive_time_ms: ping a silent HTTP/2 connection after it (0: never); no answer within
            `keepalive_timeout_ms` ends it.
        gzip: compress requests; answers may be compressed anyway.
        idle_connections_max: HTTP/1.1 connections kept open for the next `http_request`.
        """

@final
class Peer:
    """The other end of an accepted connection; one object per connection."""

    @property
    def address(self) -> str:
        """ "127.0.0.1:54321", "[::1]:54321", or "@" for a unix socket."""

    @property
    def tls(self) -> bool: ...
    @property
    def server_name(self) -> str | None:
        """The name the client asked for (SNI)."""

    @property
    def common_name(self) -> str | None:
        """CN of the verified client certificate; None without one ("" if it has no CN)."""

    @property
    def dns_names(self) -> list[str]:
        """DNS subject alternative names of the verified client certificate."""

    @property
    def ip_addresses(self) -> list[str]:
        """IP subject alternative names of the verified client certificate."""

    @property
    def certificate(self) -> bytes | None:
        """The verified client certificate itself (DER)."""

@final
class Listener:
    """A bound address that accepts connections until closed."""

    @property
    def id(self) -> int: ...
    @property
    def address(self) -> str:
        """As bound: "127.0.0.1:2379" (a port 0 resolved) or the socket's path."""

    def close(self) -> None:
        """Free the address before returning; open connections go on. Idempotent."""

@final
class Transport:
    """One Rust thread, its sockets, and the inbox. `close` it, or use it as a context manager."""

    def __new__(cls, settings: Settings | None = None) -> Transport: ...
    def __enter__(self) -> Transport: ...
    def __exit__(self, kind: object, value: object, traceback: object, /) -> None: ...
    def listen(
        self,
        url: str,
        *,
        tls: ServerTls | None = None,
        grpc: bool = True,
        http: bool = True,
        streaming: Sequence[str] = ...,
        unix_mode: int = 0o600,
    ) -> Listener:
        """Accept connections at "http(s)://host:port" or "unix(s)://path".

        HTTP/1.1 and HTTP/2 (with or without TLS) share the port. gRPC requests are answered by
        this transport's `methods` unless `grpc` is False; other requests become `HTTP` events
        unless `http` is False (then 415). Targets that begin with one of `streaming` become
        `HTTP_OPEN`. Raises TransportError (address, certificate files), ValueError (url).
        """

    def connect(self, target: str, settings: ChannelSettings | None = None) -> Channel:
        """A channel to "http(s)://host:port", "host:port" or "unix(s)://path"; connects at use."""

    # The inbox -------------------------------------------------------------------------------

    def poll(self, timeout_ms: int, events_max: int) -> list[tuple[Any, ...]]:
        """At most `events_max` events, oldest first; [] after `timeout_ms` or when closed.

        Owner thread only. -1 waits without end, always without the GIL; signals are handled
        (KeyboardInterrupt passes).
        """

    def post(self, obj: object, /) -> None:
        """Put `(POSTED, obj)` into the inbox and wake `poll`. The poster bounds itself."""

    def fileno(self) -> int:
        """A descriptor that is readable while events wait, for asyncio and selectors."""

    def drain_fileno(self) -> None:
        """Make `fileno()` unreadable until the next event; then `poll(0, n)` until empty."""

    # Answers of the server -------------------------------------------------------------------

    def reply(self, batch: Sequence[tuple[int, bytes | Sequence[bytes]]], /) -> None:
        """Answer unary calls with status OK: messages without gRPC prefix. One hand-over per batch.

        A message may come in pieces, which together are one. Pieces, and messages of 256 KiB and
        more, are not copied: the objects are kept until they are sent (see also `send`).
        For a server-streaming call it is the last message and the end of the stream.
        """

    def fail(self, batch: Sequence[tuple[int, int, str]], /) -> None:
        """End gRPC calls with (call, code, text), after what was sent; code 0 is OK."""

    def send(self, batch: Sequence[tuple[int, bytes]], /) -> list[int]:
        """Send stream messages, in order; returns the calls that are now over `high_water_bytes`.

        They are sent nevertheless; the sender stops until their `WRITABLE`, so that a slow reader
        costs one high-water mark. The same bytes object for neighbouring calls is handed over once.
        """

    def http_reply(
        self, call: int, status: int, headers: Sequence[tuple[str, str]], body: bytes
    ) -> None:
        """The whole answer to an HTTP request; Content-Length and Date are added."""

    def http_replies(self, batch: Sequence[tuple[int, int, bytes, bytes]], /) -> None:
        """Whole answers, each (call, status, header lines, body), in one hand-over per batch.

        The lines are sent as they are ("Name: value\\r\\n" each; see `http_rules.lines_of`):
        the caller vouches for them.
        """

    def http_start(self, call: int, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Begin a streamed answer: chunked unless `headers` give a content-length."""

    def http_send(self, call: int, chunk: bytes) -> bool:
        """A piece of a streamed answer or request; True: wait for `WRITABLE` (see `send`)."""

    def http_finish(self, call: int) -> None:
        """The end of a streamed answer or request."""

    def http_abort(self, call: int) -> None:
        """Break a streamed answer or request off: the other side sees it is incomplete."""

    def consume(self, call: int, data_bytes: int) -> None:
        """Give room back for `HTTP_CHUNK` / `RESPONSE_CHUNK` data that has been dealt with.

        At most 1 MiB per call is under way without it.
        """

    # Calls of the client ---------------------------------------------------------------------

    def stream_send(self, call: int, message: bytes) -> bool:
        """A message of a client's gRPC stream; True: wait for `WRITABLE` (see `send`)."""

    def half_close(self, call: int) -> None:
        """No more messages from this side of a client's gRPC stream."""

    def cancel(self, call: int) -> None:
        """Give up a client call: no further event for it."""

    # Life ------------------------------------------------------------------------------------

    def stats(self) -> dict[str, int]:
        """Counters since the start and gauges now.

        Counters: grpc_received_bytes, grpc_sent_bytes (frames and headers of gRPC connections),
        http_received_bytes, http_sent_bytes, accepted, accept_errors, tls_errors, protocol_errors,
        keepalive_goaways, stale_replies, calls_started, calls_refused.
        Gauges: connections, calls, inbox_events, inbox_bytes, partial_bytes.
        """

    def drain(self, timeout_ms: int) -> None:
        """Begin to leave: listeners close, GOAWAY is sent, new calls get UNAVAILABLE or 503.

        Returns at once; go on polling and answering. `DRAINED` follows when the last server call
        is answered or after `timeout_ms`.
        """

    def close(self) -> None:
        """Close every socket and join the thread. Idempotent; afterwards `poll` returns []."""

@final
class Channel:
    """A client's way to one target: one HTTP/2 connection for gRPC, a few HTTP/1.1 ones for HTTP.

    Connects at first use and again after a failure, with back-off. Safe from many threads.
    Losing the last reference closes it: keep it while its calls are open.
    """

    @property
    def state(self) -> Literal["idle", "connecting", "ready", "failed", "closed"]:
        """Of the gRPC connection."""

    @property
    def last_error(self) -> str | None:
        """Why the last connect failed or the last connection broke."""

    def unary(
        self,
        path: str,
        message: bytes,
        metadata: Sequence[tuple[str, str]] = ...,
        timeout_ms: int = 0,
    ) -> bytes:
        """Call and wait for the answer, without the GIL and without the inbox. 0: no deadline.

        Raises RpcError: the server's status, 14 UNAVAILABLE when it cannot be reached or the
        connection breaks, 4 DEADLINE_EXCEEDED. KeyboardInterrupt cancels the call.
        """

    def start_unary(
        self,
        path: str,
        message: bytes,
        metadata: Sequence[tuple[str, str]] = ...,
        timeout_ms: int = 0,
    ) -> int:
        """Like `unary`, answered by one `RESPONSE` or `RESPONSE_END` event."""

    def start_stream(
        self, path: str, metadata: Sequence[tuple[str, str]] = ..., timeout_ms: int = 0
    ) -> int:
        """Open a gRPC stream of any kind: RESPONSE_HEAD, RESPONSE_MESSAGE ..., RESPONSE_END follow.

        Send with `Transport.stream_send`, `half_close`, `cancel`.
        """

    def http_request(
        self,
        verb: str,
        target: str,
        headers: Sequence[tuple[str, str]] = ...,
        body: bytes | None = ...,
        timeout_ms: int = 0,
    ) -> int:
        """An HTTP/1.1 request; RESPONSE_HEAD, RESPONSE_CHUNK ..., RESPONSE_END follow.

        `body` None: stream it with `Transport.http_send` and `http_finish`. A failure is a
        RESPONSE_END with code 14 (connection), 4 (deadline) or 13 (not HTTP). `cancel` ends it.
        """

    def close(self) -> None:
        """Close its connections; open calls end with code 1. Idempotent."""

@final
class LogWriter:
    """Writes a log on its own Rust thread: one write (+ fdatasync) at a time, in order.

    Descriptors stay the caller's and must stay open until `LOG_SYNCED`. After an error the file
    is cut back to where that write began and every later `submit` fails with the same error until
    `clear_error`: nothing is ever written behind a gap.
    """

    def __new__(cls, transport: Transport, queue_max: int = 64) -> LogWriter: ...
    def submit(self, token: int, fd: int, data: bytes, sync: bool) -> None:
        """Append at the descriptor's offset; `LOG_SYNCED` follows. TransportError when full."""

    def write_now(self, fd: int, data: bytes, sync: bool) -> int:
        """The same on the caller's thread, without the GIL; nanoseconds. Raises TransportError.

        Only while nothing submitted is under way (else TransportError): it would overtake.
        """

    def clear_error(self) -> None:
        """Accept writes again after the caller has repaired what failed."""

    def close(self) -> None:
        """Finish what was submitted and join the thread. Idempotent."""

@final
class Records:
    """A repeated field of a protobuf message, decoded without an object for each of its messages.

    `fields`: number and kind ("bytes", or "int" for varints that are signed) of up to 8 fields.
    """

    def __new__(
        cls, number: int, fields: Sequence[tuple[int, Literal["bytes", "int"]]]
    ) -> Records: ...
    def decode(self, message: bytes) -> tuple[list[tuple[Any, ...]], bytes]:
        """(records, the rest of the message unchanged). A record is a tuple of its fields in the
        order they were named in, absent ones b"" or 0. Raises ValueError for broken messages."""

def crc32c(data: bytes, crc: int = 0, /) -> int:
    """CRC-32C (Castagnoli) of `data`, continuing from the value `crc`."""

def crc32c_chain(parts: Sequence[bytes], crc: int, /) -> list[int]:
    """The running value after each part."""
