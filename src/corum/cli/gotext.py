"""The text forms that Go's programs read and print: numbers, durations, quotes, sizes.

Scripts compare what etcd's commands print, so these forms are part of the commands' contract.
Nothing here reads flags or knows etcd. Imports are few: every `etcdctl` call pays for them.
"""

from __future__ import annotations

NS_PER_UNIT = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # micro sign
    "\u03bcs": 1_000,  # Greek mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
INT64_MAX = (1 << 63) - 1
UINT64_MAX = (1 << 64) - 1
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}
_UNESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}


class GoSyntaxError(ValueError):
    """A text that Go would refuse; `str()` is the message Go gives."""


def parse_bool(text: str) -> bool:
    """`strconv.ParseBool`."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise GoSyntaxError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")


def parse_int(text: str, base: int = 10) -> int:
    """`strconv.ParseInt(text, base, 64)`; base 0 takes 0x, 0o, 0b and underscores."""
    return _parse_int(text, base, "ParseInt", -INT64_MAX - 1, INT64_MAX)


def parse_uint(text: str, base: int = 10) -> int:
    """`strconv.ParseUint(text, base, 64)`."""
    return _parse_int(text, base, "ParseUint", 0, UINT64_MAX)


def _parse_int(text: str, base: int, name: str, low: int, high: int) -> int:
    digits = text[1:] if low and text[:1] in ("+", "-") and text else text
    number = _digits_value(digits, base)
    if number is None:
        raise GoSyntaxError(f"strconv.{name}: parsing {quote(text)}: invalid syntax")
    if text.startswith("-"):
        number = -number
    if not low <= number <= high:
        raise GoSyntaxError(f"strconv.{name}: parsing {quote(text)}: value out of range")
    return number


def _digits_value(digits: str, base: int) -> int | None:
    if base == 0:
        base, digits = _detect_base(digits)
    if not digits:
        return None
    number = 0
    for char in digits:
        place = _DIGITS.find(char.lower())
        if not 0 <= place < base:
            return None
        number = number * base + place
    return number


def _detect_base(digits: str) -> tuple[int, str]:
    for prefix, base in (("0x", 16), ("0b", 2), ("0o", 8)):
        if digits[:2].lower() == prefix:
            return base, digits[2:].replace("_", "")
    if len(digits) > 1 and digits[0] == "0":
        return 8, digits[1:].replace("_", "")
    return 10, digits.replace("_", "")


def parse_duration(text: str) -> int:
    """`time.ParseDuration` in nanoseconds: "1h15m30.918s", "300ms", "-1.5h", "0"."""
    bad = GoSyntaxError(f"time: invalid duration {quote(text)}")
    rest = text[1:] if text[:1] in ("+", "-") and text else text
    if rest == "0":
        return 0
    if not rest:
        raise bad
    total = 0
    while rest:
        number, rest = _take(rest, "0123456789.")
        if not number or number == "." or number.count(".") > 1:
            raise bad
        unit, rest = _take_unit(rest)
        if not unit:
            raise GoSyntaxError(f"time: missing unit in duration {quote(text)}")
        if unit not in NS_PER_UNIT:
            raise GoSyntaxError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        whole, _, fraction = number.partition(".")
        scale = NS_PER_UNIT[unit]
        total += int(whole or 0) * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
    if total > INT64_MAX:
        raise bad
    return -total if text.startswith("-") else total


def _take(text: str, chars: str) -> tuple[str, str]:
    end = 0
    while end < len(text) and text[end] in chars:
        end += 1
    return text[:end], text[end:]


def _take_unit(text: str) -> tuple[str, str]:
    end = 0
    while end < len(text) and text[end] not in "0123456789.":
        end += 1
    return text[:end], text[end:]


def format_duration(ns: int) -> str:
    """`time.Duration.String`: "1h0m0s", "1m0.5s", "3.456314ms", "0s"."""
    if ns == 0:
        return "0s"
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    for unit, scale in (("ns", 1), ("\u00b5s", 1_000), ("ms", 1_000_000)):
        if ns < scale * 1_000 and ns < 1_000_000_000:
            return sign + _decimal(ns, scale) + unit
    hours, ns = divmod(ns, NS_PER_UNIT["h"])
    minutes, ns = divmod(ns, NS_PER_UNIT["m"])
    text = _decimal(ns, 1_000_000_000) + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else sign + text


def _decimal(number: int, scale: int) -> str:
    whole, rest = divmod(number, scale)
    if not rest:
        return str(whole)
    return f"{whole}.{str(rest).rjust(len(str(scale)) - 1, '0')}".rstrip("0")


def quote(text: str | bytes) -> str:
    """`strconv.Quote`: double quotes, Go's escapes, bytes that are not UTF-8 as \\xNN."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return '"' + "".join(_quoted_rune(rune) for rune in text) + '"'


def _quoted_rune(rune: str) -> str:
    escaped = _ESCAPES.get(rune)
    if escaped is not None:
        return escaped
    if rune.isprintable():
        return rune
    number = ord(rune)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that was not UTF-8, as surrogateescape keeps it
        return f"\\x{number - 0xDC00:02x}"
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def unquote(text: str) -> bytes:
    """The bytes of a double-quoted Go string; GoSyntaxError "invalid syntax" otherwise."""
    bad = GoSyntaxError("invalid syntax")
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        raise bad
    body, out, at = text[1:-1], bytearray(), 0
    while at < len(body):
        char = body[at]
        if char in ('"', "\n"):
            raise bad
        if char != "\\":
            out += char.encode("utf-8", "surrogateescape")
            at += 1
            continue
        piece, at = _unescape(body, at + 1, bad)
        out += piece
    return bytes(out)


def _unescape(body: str, at: int, bad: GoSyntaxError) -> tuple[bytes, int]:
    """The bytes of the escape whose letter stands at `at`, and the place behind it."""
    letter = body[at : at + 1]
    if letter in _UNESCAPES:
        return bytes((_UNESCAPES[letter],)), at + 1
    widths = {"x": 2, "u": 4, "U": 8}
    try:
        if letter in widths:
            end = at + 1 + widths[letter]
            digits = body[at + 1 : end]
            if len(digits) != widths[letter]:
                raise bad
            number = int(digits, 16)
            return (bytes((number,)) if letter == "x" else chr(number).encode()), end
        if letter and letter in "01234567":
            return bytes((int(body[at : at + 3], 8),)), at + 3
    except ValueError:
        raise bad from None
    raise bad


def human_bytes(number: int) -> str:
    """Sizes as Go's commands print them, in powers of 1000: "20 kB", "2.1 GB", "9 B"."""
    if number < 10:
        return f"{number} B"
    units = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
    place = 0
    while number >= 1000 ** (place + 1) and place < len(units) - 1:
        place += 1
    rounded = int(number / 1000**place * 10 + 0.5) / 10
    return f"{rounded:.1f} {units[place]}" if rounded < 10 else f"{rounded:.0f} {units[place]}"
