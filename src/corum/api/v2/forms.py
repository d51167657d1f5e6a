"""What a v2 key request asks for: its parameters, checked in etcd's order (http §2.1). Pure."""

from __future__ import annotations

import re
from binascii import a2b_qp
from typing import Final
from urllib.parse import unquote

from corum.api.http_rules import BAD_ESCAPE
from corum.v2store import KEYS_PREFIX, Request, V2Error, errors
from corum.values import NS_PER_S, value

_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_NUMBER: Final = re.compile(r"[0-9]+")
_U64_MAX: Final = 2**64 - 1
_I64_HALF: Final = 2**63
FORM_MAX: Final = 10 << 20
"""Bytes of a form, and with that of a value: etcd's --max-request-bytes holds for v3 only."""
_FLAG_ORDER: Final = ("recursive", "sorted", "wait", "dir", "quorum", "stream")
_FLAGS: Final = frozenset(_FLAG_ORDER)
_NO_FLAGS: Final[frozenset[str]] = frozenset()
_HARMLESS: Final = frozenset(("value",))
"""Parameters that any request may have, and any text may be."""
FORM: Final = "application/x-www-form-urlencoded"
PREFIX: Final = "/v2/keys"

Form = dict[str, str]


@value
class Wanted:
    """A request of the store, and how its answer is wanted."""

    request: Request
    wait: bool = False
    since: int = 0
    quorum: bool = False
    stream: bool = False
    no_value: bool = False


def form_of(query: str, content_type: str, body: bytes, verb: str) -> Form:
    """Parameters of body (PUT and POST of a form) and query; of repeated ones the first counts."""
    found: Form = {}
    sources = [query] if query else []
    if verb in ("PUT", "POST") and _is_form(content_type):
        if len(body) > FORM_MAX:
            raise V2Error(errors.INVALID_FORM, "http: POST too large")
        sources.insert(0, body.decode("utf-8", "replace"))
    for source in sources:
        for pair in source.split("&"):
            if not pair:
                continue
            if "%" not in pair and "+" not in pair and ";" not in pair:
                name, _, text = pair.partition("=")
                found.setdefault(name, text)
                continue
            bad = BAD_ESCAPE.search(pair)
            if bad is not None:
                cause = f'invalid URL escape "{pair[bad.start() : bad.start() + 3]}"'
                raise V2Error(errors.INVALID_FORM, cause)
            if ";" in pair:
                raise V2Error(errors.INVALID_FORM, "invalid semicolon separator in query")
            name, _, text = pair.partition("=")
            found.setdefault(name if name.isalpha() else _unescape(name), _unescape(text))
    return found


def _is_form(content_type: str) -> bool:
    return content_type == FORM or content_type.partition(";")[0].strip().lower() == FORM


def _unescape(text: str) -> str:
    """Of a form: what stands behind its escapes, all whole; bytes that are no UTF-8 are replaced.

    Quoted-printable has the same escapes behind another sign, and is read in C.
    """
    quoted = text.encode().replace(b"+", b" ").replace(b"=", b"=3D").replace(b"%", b"=")
    return a2b_qp(quoted).decode("utf-8", "replace")


def parse(verb: str, path: str, form: Form, now_ns: int) -> Wanted:
    """The request, or the first thing wrong with it (V2Error with index 0)."""
    key = unquote(path, errors="replace") if "%" in path else path
    path = KEYS_PREFIX + key.removeprefix(PREFIX)
    method = "QGET" if verb in ("GET", "HEAD") else verb
    if form.keys() <= _HARMLESS:
        return Wanted(Request(method, path, form.get("value", "")))
    prev_index = _number(form, "prevIndex") if "prevIndex" in form else 0
    since = _number(form, "waitIndex") if "waitIndex" in form else 0
    flags = _NO_FLAGS if _FLAGS.isdisjoint(form) else _flags(form)
    wait = "wait" in flags
    if wait and verb != "GET":
        raise V2Error(errors.INVALID_FIELD, '"wait" can only be used with GET requests')
    if form.get("prevValue") == "":
        raise V2Error(errors.PREV_VALUE_REQUIRED, '"prevValue" cannot be empty')
    no_value = "noValueOnSuccess" in form and _as_bool(
        form["noValueOnSuccess"], '"noValueOnSuccess"'
    )
    expiration_ns = _expiration(form, now_ns) if "ttl" in form else 0
    prev_exist = _as_bool(form["prevExist"], "prevExist") if "prevExist" in form else None
    refresh = "refresh" in form and _as_bool(form["refresh"], "refresh")
    if refresh:
        if form.get("value"):
            raise V2Error(errors.REFRESH_VALUE, "A value was provided on a refresh")
        if not form.get("ttl"):
            raise V2Error(errors.REFRESH_TTL_REQUIRED, "No TTL value set")
    request = Request(
        method,
        path,
        form.get("value", ""),
        "dir" in flags,
        form.get("prevValue", ""),
        prev_index,
        prev_exist,
        expiration_ns,
        "recursive" in flags,
        "sorted" in flags,
        refresh,
    )
    return Wanted(request, wait, since, "quorum" in flags, "stream" in flags, no_value)


def _flags(form: Form) -> frozenset[str]:
    """Those that are set."""
    return frozenset(
        [name for name in _FLAG_ORDER if name in form and _as_bool(form[name], f'"{name}"')]
    )


def _number(form: Form, name: str) -> int:
    text = form[name]
    if not text:
        return 0
    if not _NUMBER.fullmatch(text) or int(text) > _U64_MAX:
        raise V2Error(errors.INDEX_NOT_A_NUMBER, f'invalid value for "{name}"')
    return int(text)


def _as_bool(text: str, shown: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise V2Error(errors.INVALID_FIELD, f"invalid value for {shown}")


def _expiration(form: Form, now_ns: int) -> int:
    text = form["ttl"]
    if not text:
        return 0
    if not _NUMBER.fullmatch(text) or int(text) > _U64_MAX:
        raise V2Error(errors.TTL_NOT_A_NUMBER, 'invalid value for "ttl"')
    # As a 64-bit number, which a TTL of centuries overflows (as etcd's does).
    return (now_ns + int(text) * NS_PER_S + _I64_HALF) % (2 * _I64_HALF) - _I64_HALF
