"""Kinds of flags: how a text becomes a value, with the words of Go's flag package when it does not.

A kind never sees where the text came from (command line, environment, YAML).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from corum.cli import gotext
from corum.config import urls
from corum.values import value


class BadValue(ValueError):
    """A text that is no value of its kind; `str()` is what etcd says about it."""


@value
class Kind:
    """What a flag's text means."""

    name: str
    """As the documentation calls it: "duration", "bool", ..."""
    parse: Callable[[str], Any]
    """The value; raises BadValue."""
    show: Callable[[Any], str] = str
    """A value as `--help` prints it."""


def _parse_bool(text: str) -> bool:
    try:
        return gotext.parse_bool(text)
    except gotext.GoSyntaxError:
        raise BadValue("parse error") from None


def _number(parse: Callable[[str, int], int], high: int | None = None) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            number = parse(text, 0)
        except gotext.GoSyntaxError as error:
            reason = "value out of range" if "out of range" in str(error) else "parse error"
            raise BadValue(reason) from None
        if high is not None and number > high:
            raise BadValue("value out of range")
        return number

    return convert


def _parse_duration(text: str) -> int:
    try:
        return gotext.parse_duration(text)
    except gotext.GoSyntaxError:
        raise BadValue("parse error") from None


def _parse_words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(","))) if text else ()


def _parse_urls(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    try:
        return urls.parse_list(text)
    except urls.BadUrl as error:
        raise BadValue(str(error)) from None


def _parse_origins(text: str) -> tuple[str, ...]:
    return ("*",) if text == "*" else _parse_urls(text)


def _joined(items: tuple[str, ...]) -> str:
    return ",".join(items)


def _show_bool(flag: bool) -> str:
    return "true" if flag else "false"


TEXT: Final = Kind("string", str)
BOOL: Final = Kind("bool", _parse_bool, _show_bool)
INT: Final = Kind("int", _number(gotext.parse_int))
UINT: Final = Kind("uint", _number(gotext.parse_uint))
UINT32: Final = Kind("uint32", _number(gotext.parse_uint, 0xFFFFFFFF))
DURATION: Final = Kind("duration", _parse_duration, gotext.format_duration)
"""Nanoseconds, written in Go's way ("1m30s")."""
WORDS: Final = Kind("list", _parse_words, _joined)
"""Comma separated, each once."""
URLS: Final = Kind("URL list", _parse_urls, _joined)
"""Comma separated, each once, sorted."""
ORIGINS: Final = Kind("URL list or *", _parse_origins, _joined)


def choice(*words: str) -> Kind:
    """One of a few words."""

    def parse(text: str) -> str:
        if text not in words:
            raise BadValue(f"invalid value {gotext.quote(text)}")
        return text

    return Kind(" or ".join(words), parse)


# Alpha features are off, beta features on, unless the table says otherwise (etcd 3.6, 3.7).
GATES: Final[dict[str, tuple[bool, str]]] = {
    "StopGRPCServiceOnDefrag": (False, "ALPHA"),
    "InitialCorruptCheck": (False, "ALPHA"),
    "CompactHashCheck": (False, "ALPHA"),
    "TxnModeWriteWithSharedBuffer": (True, "BETA"),
    "LeaseCheckpoint": (False, "ALPHA"),
    "LeaseCheckpointPersist": (False, "ALPHA"),
    "SetMemberLocalAddr": (False, "ALPHA"),
    "FastLeaseKeepAlive": (True, "BETA"),
    "PriorityRequest": (False, "ALPHA"),
}
"""Feature gate -> (default, stage)."""
_GROUPS: Final = {"AllAlpha": "ALPHA", "AllBeta": "BETA"}


def _parse_gates(text: str) -> tuple[tuple[str, bool], ...]:
    found: dict[str, bool] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, word = (part.strip() for part in item.partition("="))
        if not equals:
            raise BadValue(f"missing bool value for {name}")
        try:
            on = gotext.parse_bool(word)
        except gotext.GoSyntaxError as error:
            raise BadValue(f"invalid value of {name}={word}, err: {error}") from None
        if name not in GATES and name not in _GROUPS:
            raise BadValue(f"unrecognized feature gate: {name}")
        found[name] = on
    return tuple(found.items())


def _show_gates(gates: tuple[tuple[str, bool], ...]) -> str:
    return ",".join(f"{name}={_show_bool(on)}" for name, on in gates)


FEATURES: Final = Kind("list of Name=bool", _parse_gates, _show_gates)


def resolve_gates(given: tuple[tuple[str, bool], ...]) -> dict[str, bool]:
    """Every gate's state: AllAlpha / AllBeta set their stage, a gate's own word wins over them."""
    features = {name: on for name, (on, _) in GATES.items()}
    words = dict(given)
    for group, stage in _GROUPS.items():
        if group in words:
            features.update((name, words[group]) for name, (_, s) in GATES.items() if s == stage)
    features.update((name, on) for name, on in words.items() if name in GATES)
    return features
