"""JSON and times as Go's standard library writes them, so that bodies and `.snap` files are equal.

Go escapes `<`, `>`, `&` and the line separators, writes control characters as \\u00XX (the short
forms only for \\n, \\r, \\t), and replaces bytes that are not UTF-8, which we hold as surrogates.
Times are RFC 3339 with nanoseconds, trailing zeros cut; the zero time means "never" and is 0 here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Final

ZERO_TIME: Final = "0001-01-01T00:00:00Z"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NS: Final = 1_000_000_000

_special: Final = re.compile("[<>&\u2028\u2029\ud800-\udfff]|\\\\[bf]")
_escape: Final = re.compile("\\\\.|[<>&\u2028\u2029\ud800-\udfff]")
_REPLACEMENTS: Final = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
    "\\b": "\\u0008",
    "\\f": "\\u000c",
}


def quote(text: str) -> str:
    """A JSON string."""
    return escape_rest(encode_basestring(text))


def escape_rest(json: str) -> str:
    """Go's JSON of that of Python, whose strings `encode_basestring` made.

    Of a whole text at once, as what is different never stands outside of its strings.
    """
    if (json.isascii() and not _needs_more(json)) or not _special.search(json):
        return json
    return _escape.sub(_replace, json)


def _needs_more(quoted: str) -> bool:
    """Five searches of a character take a tenth of the time of the expression's one."""
    return (
        "<" in quoted
        or ">" in quoted
        or "&" in quoted
        or ("\\" in quoted and ("\\b" in quoted or "\\f" in quoted))
    )


def _replace(match: re.Match[str]) -> str:
    found = match[0]
    if "\ud800" <= found <= "\udfff":
        return "\\ufffd"
    return _REPLACEMENTS.get(found, found)


def format_time(ns: int) -> str:
    """Unix nanoseconds as RFC 3339 in UTC; 0 is the zero time."""
    if not ns:
        return ZERO_TIME
    seconds, fraction = divmod(ns, _NS)
    text = _format_second(seconds)
    if fraction:
        text += f".{fraction:09d}".rstrip("0")
    return text + "Z"


@lru_cache(maxsize=4096)  # expiries crowd in few seconds
def _format_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def parse_time(text: str) -> int:
    """Unix nanoseconds of an RFC 3339 time with any offset. Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time: {text!r}")
    whole, fraction, zone = match.groups()
    moment = datetime.fromisoformat(whole).replace(tzinfo=UTC) - _EPOCH
    seconds = moment.days * 86_400 + moment.seconds
    if zone != "Z":
        offset = int(zone[1:3]) * 3_600 + int(zone[4:6]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    ns = seconds * _NS + int((fraction or "").ljust(9, "0"))
    return 0 if text.startswith("0001-01-01T00:00:00") else ns
