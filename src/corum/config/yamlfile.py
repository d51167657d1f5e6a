"""The YAML configuration file: flag names as keys, some of them grouped in maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from corum.cli import gotext
from corum.config.errors import ConfigError
from corum.config.kinds import BOOL, DURATION, INT, UINT, UINT32, WORDS, BadValue, Kind
from corum.config.model import FLAGS

_TLS: Final = {
    "cert-file": "cert-file",
    "key-file": "key-file",
    "client-cert-file": "client-cert-file",
    "client-key-file": "client-key-file",
    "client-cert-auth": "client-cert-auth",
    "trusted-ca-file": "trusted-ca-file",
    "auto-tls": "auto-tls",
}
_MAPS: Final[dict[str, dict[str, str]]] = {
    "client-transport-security": {
        **_TLS,
        "crl-file": "client-crl-file",
        "allowed-hostname": "client-cert-allowed-hostname",
    },
    "peer-transport-security": {
        **{key: f"peer-{flag}" for key, flag in _TLS.items()},
        "crl-file": "peer-crl-file",
        "allowed-cn": "peer-cert-allowed-cn",
        "allowed-hostname": "peer-cert-allowed-hostname",
        "skip-client-san-verification": "peer-skip-client-san-verification",
    },
    "socket-options": {
        "reuse-port": "socket-reuse-port",
        "reuse-address": "socket-reuse-address",
    },
    "discovery-config": {
        "discovery-token": "discovery-token",
        "discovery-endpoints": "discovery-endpoints",
        "token": "discovery-token",
        "endpoints": "discovery-endpoints",
        "dial-timeout": "discovery-dial-timeout",
        "request-timeout": "discovery-request-timeout",
        "keepalive-time": "discovery-keepalive-time",
        "keepalive-timeout": "discovery-keepalive-timeout",
        "cert": "discovery-cert",
        "key": "discovery-key",
        "cacert": "discovery-cacert",
        "insecure-transport": "discovery-insecure-transport",
        "insecure-skip-verify": "discovery-insecure-skip-tls-verify",
        "username": "discovery-user",
        "password": "discovery-password",
    },
}
"""Map in the file -> its key -> the flag that it sets."""
_ONLY_IN_MAPS: Final = frozenset(flag for keys in _MAPS.values() for flag in keys.values())
_SPELLINGS: Final = {"experimental-snapshot-catch-up-entries": "snapshot-catchup-entries"}


def read(path: str) -> dict[str, Any]:
    """Flag name -> value of every key that etcd knows; others are left out, as etcd does.

    Raises ConfigError for a file that cannot be read, is no YAML or holds values of a wrong type.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"open {path}: {reason}") from None
    return parse(data)


def parse(data: bytes) -> dict[str, Any]:
    """`read`, of a file's content."""
    import yaml  # 15 ms that only those pay who have a file

    try:
        loaded: Any = yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise ConfigError(f"error converting YAML to JSON: yaml: {_one_line(error)}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError("error unmarshaling JSON: the file is not a map of settings")
    return dict(_settings(cast("Mapping[str, Any]", loaded)))


def _settings(loaded: Mapping[str, Any]) -> list[tuple[str, Any]]:
    from corum.config.aliases import ALIASES

    found: list[tuple[str, Any]] = []
    for key, given in loaded.items():
        name = _SPELLINGS.get(key, key)
        if given is None:
            continue
        if name in _MAPS and isinstance(given, dict):
            found += _from_map(_MAPS[name], cast("Mapping[str, Any]", given))
        elif name in FLAGS and name not in _ONLY_IN_MAPS:
            found.append((name, convert(name, FLAGS[name].kind, given)))
        elif name in ALIASES:
            alias = ALIASES[name]
            found += alias.sets(convert(name, alias.kind, given)).items()
    return found


def _from_map(keys: Mapping[str, str], given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, inner in given.items():
        if isinstance(inner, dict) and key in ("secure", "auth"):
            found += _from_map(keys, cast("Mapping[str, Any]", inner))
        elif key in keys and inner is not None:
            found.append((keys[key], convert(key, FLAGS[keys[key]].kind, inner)))
    return found


def convert(key: str, kind: Kind, given: Any) -> Any:
    """A YAML value as a flag's value; raises ConfigError naming the key."""
    try:
        if isinstance(given, list):
            return _from_list(kind, [str(item) for item in cast("list[object]", given)])
        if kind is BOOL:
            if not isinstance(given, bool):
                raise BadValue("must be true or false")
            return given
        if kind is DURATION and isinstance(given, int):
            return given  # etcd's files count nanoseconds
        if kind in (INT, UINT, UINT32) and not isinstance(given, int):
            raise BadValue("must be a number")
        text = "true" if given is True else "false" if given is False else str(given)
        return kind.parse(text)
    except BadValue as error:
        shown = gotext.quote(f"{given}")
        raise ConfigError(f"unexpected error setting up {key}: {error} ({shown})") from None


def _from_list(kind: Kind, items: list[str]) -> Any:
    if kind is WORDS:
        return tuple(dict.fromkeys(items))
    return kind.parse(",".join(items))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
