"""What every HTTP request on the client port is subject to, as pure functions.

CORS headers, the host check, path cleaning, and the two standard refusals. `Answer` is what all
handlers of the port give back.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final
from urllib.parse import unquote

from corum.values import value

Headers = tuple[tuple[str, str], ...]

TEXT: Final = ("content-type", "text/plain; charset=utf-8")
JSON: Final = ("content-type", "application/json")
BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
"""What makes a path, or a form, unreadable."""
_CONTROLS: Final = re.compile(r"[\r\n\0]")
NOSNIFF: Final = ("x-content-type-options", "nosniff")


@value
class Answer:
    """A whole HTTP answer; header names are lower-case."""

    status: int
    headers: Headers
    body: bytes


def text_answer(status: int, text: str, *more: tuple[str, str]) -> Answer:
    """A refusal in plain words, as Go's `http.Error` writes it: a newline follows the text."""
    return Answer(status, (TEXT, NOSNIFF, *more), f"{text}\n".encode())


def not_found() -> Answer:
    """404 for a path that nobody serves."""
    return text_answer(404, "404 page not found")


def wrong_verb(*allowed: str) -> Answer:
    """405; `allowed` are the verbs that would have been right."""
    return text_answer(405, "Method Not Allowed", ("allow", ",".join(allowed)))


def moved(verb: str, where: str) -> Answer:
    """301, with the page for people that Go's `http.Redirect` adds to a GET."""
    if verb not in ("GET", "HEAD"):
        return Answer(301, (("location", where),), b"")
    headers = (("location", where), ("content-type", "text/html; charset=utf-8"))
    page = f'<a href="{escape(where)}">Moved Permanently</a>.\n\n' if verb == "GET" else ""
    return Answer(301, headers, page.encode())


def clean_path(path: str) -> str:
    """The path to redirect to (301) when it differs: no "." and "..", no double slashes."""
    if path.startswith("/") and "//" not in path and "/." not in path:
        return path
    if not path.startswith("/"):
        path = f"/{path}"
    cleaned = posixpath.normpath(path)
    cleaned = f"/{cleaned.lstrip('/')}"  # POSIX lets two leading slashes stand
    return f"{cleaned}/" if path.endswith("/") and cleaned != "/" else cleaned


def path_of(target: str) -> str:
    """The path of a target that names scheme and host, as clients behind a proxy send it."""
    _, separator, rest = target.partition("://")
    return f"/{rest.partition('/')[2]}" if separator else target


def unescaped(path: str) -> str:
    """Without its escapes, all of them whole; bytes that are no UTF-8 are replaced."""
    return unquote(path, errors="replace") if "%" in path else path


def cors_headers(allowed: Sequence[str], origin: str | None) -> Headers:
    """The headers that let a browser on `origin` read the answer; none if it may not.

    `allowed`: --cors; "*" or nothing allows all. An OPTIONS request gets them with 200 and no body.
    """
    if not allowed or "*" in allowed:
        origin = "*"
    elif origin is None or origin not in allowed:
        return ()
    return (
        ("access-control-allow-methods", "POST, GET, OPTIONS, PUT, DELETE"),
        ("access-control-allow-origin", origin),
        ("access-control-allow-headers", "accept, content-type, authorization"),
    )


def host_refusal(whitelist: Sequence[str], host_header: str) -> Answer | None:
    """421 if a plain HTTP request names a host that --host-whitelist does not have, else None.

    It stops DNS rebinding: a page whose name was pointed at this machine keeps its own Host.
    """
    if not whitelist or "*" in whitelist:
        return None
    host = hostname(host_header)
    if host in whitelist:
        return None
    return text_answer(
        421,
        f'The Host header "{host}" is none that this etcd knows.\n\n'
        "Use TLS, or name the host on the command line:\n"
        f'  etcd --host-whitelist "{host}"\n\n'
        "The check stands against DNS rebinding (CVE-2018-5702).",
    )


def hostname(host_header: str) -> str:
    """The Host header without its port: "[::1]:2379" is "::1"."""
    if host_header.startswith("["):
        return host_header[1:].partition("]")[0]
    host, colon, port = host_header.rpartition(":")
    return host if colon and port.isdigit() and ":" not in host else host_header


def lines_of(headers: Iterable[tuple[str, str]]) -> bytes:
    """Headers as they are sent, one a line, Latin-1; line breaks within one become blanks."""
    text = "".join([f"{name}: {_CONTROLS.sub(' ', text)}\r\n" for name, text in headers])
    return text.encode("latin-1", "replace")


def canonical(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers as Go spells them (`X-Etcd-Index`): there are clients that compare the letters."""
    return [(name.title(), text) for name, text in headers]
