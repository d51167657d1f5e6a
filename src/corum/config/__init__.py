"""Flags, ETCD_* environment and YAML file -> one validated Config.

`parse` is the daemon's way in, `of` a program's. Precedence: the command line wins over the
environment (etcd since 3.4 refuses both; we warn and start), either over the defaults; a
configuration file replaces both.

Reading order: `model` (the table), `kinds`, `commandline`, `yamlfile`, `rules`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from corum.cli.gotext import quote
from corum.config import commandline, rules, urls, yamlfile
from corum.config.aliases import ALIASES, GATE_ALIASES
from corum.config.errors import ConfigError, HelpWanted, VersionWanted
from corum.config.kinds import BadValue, resolve_gates
from corum.config.model import FLAGS, PEER_URL, Config

__all__ = ["FLAGS", "Config", "ConfigError", "HelpWanted", "VersionWanted", "of", "parse"]

Note = tuple[str, str, dict[str, Any]]

_PREFIX: Final = "ETCD_"
_FOREIGN: Final = frozenset(("ETCD_UNSUPPORTED_ARCH", "ETCD_VERSION"))
"""Variables of that form that are not flags."""


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Config:
    """The settings of `etcd argv...` (without the program's name).

    Raises ConfigError, HelpWanted, VersionWanted.
    """
    words = commandline.read(argv)
    if words.rest:
        raise ConfigError(f"{quote(words.rest[0])} is not a valid flag")
    values = words.values
    if values.pop("version", False):
        raise VersionWanted(values.get("emulate-version", FLAGS["emulate-version"].default))
    notes: list[Note] = [
        ("warn", "flag is no longer supported - ignoring", {"flag-name": name})
        for name in words.ignored
    ]
    file = values.pop("config-file", "") or environ.get("ETCD_CONFIG_FILE", "")
    if file:
        return of(yamlfile.read(file), config_file=file, notes=notes)
    values.update(_from_environment(environ, values, notes))
    values = _modern(values, notes)
    unsaid = "listen-client-urls" in values and "advertise-client-urls" not in values
    if unsaid and values.get("proxy", "off") == "off":
        values["advertise-client-urls"] = ()
    return of(values, notes=notes)


def of(values: Mapping[str, Any], *, config_file: str = "", notes: Sequence[Note] = ()) -> Config:
    """A Config of these flags ("listen-client-urls": ("http://127.0.0.1:0",)) and the defaults.

    Values have the fields' types. Raises ConfigError.
    """
    config = Config(**{name.replace("-", "_"): found for name, found in values.items()})
    config.config_file = config_file
    config.given = frozenset(values)
    collected = list(notes)
    collected += [
        ("warn", "flag has no effect here", {"flag-name": name})
        for name, found in values.items()
        if FLAGS[name].is_idle and found != FLAGS[name].default
    ]
    _complete(config, collected)
    config.notes = tuple(collected)
    rules.check(config)
    return config


def _from_environment(
    environ: Mapping[str, str], given: Mapping[str, Any], notes: list[Note]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable in sorted(environ):
        if not variable.startswith(_PREFIX) or not environ[variable]:
            continue
        name = variable.removeprefix(_PREFIX).lower().replace("_", "-")
        kind = commandline.kind_of(name)
        if kind is None or variable in _FOREIGN:
            if variable != "ETCD_UNSUPPORTED_ARCH":
                known = {"environment-variable": f"{variable}={environ[variable]}"}
                notes.append(("warn", "unrecognized environment variable", known))
            continue
        if name in given:
            shadowed = {"environment-variable": variable, "flag": f"--{name}"}
            text = (
                f"recognized environment variable {variable}, but unused: "
                "shadowed by corresponding flag"
            )
            notes.append(("warn", text, shadowed))
            continue
        try:
            found[name] = kind.parse(environ[variable])
        except BadValue as error:
            shown = quote(environ[variable])
            raise ConfigError(f"invalid value {shown} for {variable}: {error}") from None
        used = {"variable-name": variable, "variable-value": environ[variable]}
        notes.append(("info", "recognized and used environment variable", used))
    return found


def _modern(values: Mapping[str, Any], notes: list[Note]) -> dict[str, Any]:
    """`values` with old spellings replaced by the flags that took their place."""
    modern = {name: found for name, found in values.items() if name in FLAGS}
    gates = dict(modern.get("feature-gates", ()))
    for old in [name for name in values if name in ALIASES]:
        alias = ALIASES[old]
        _refuse_both(old, values, gates)
        replacement = f", use --{alias.replaced_by}" if alias.replaced_by else ""
        notes.append(("warn", f"--{old} is deprecated{replacement}", {"flag-name": old}))
        for name, found in alias.sets(values[old]).items():
            is_gate = name == "feature-gates"
            modern[name] = (*modern.get(name, ()), *found) if is_gate else found
    return modern


def _refuse_both(old: str, values: Mapping[str, Any], gates: Mapping[str, bool]) -> None:
    new = ALIASES[old].replaced_by
    if old in GATE_ALIASES:
        gate = GATE_ALIASES[old]
        if gate in gates:
            ours, theirs = str(values[old]).lower(), str(gates[gate]).lower()
            raise ConfigError(
                f"cannot specify both flags: --{old}={ours} and --feature-gates={gate}={theirs} "
                f"at the same time, please just use --feature-gates={gate}={theirs}"
            )
    elif new in values and old.startswith("experimental-"):
        raise ConfigError(
            f"cannot set --{old} and --{new} at the same time, please use --{new} only"
        )


def _complete(config: Config, notes: list[Note]) -> None:
    """Fill in what follows from other settings."""
    found_elsewhere = (
        config.discovery
        or config.discovery_srv
        or config.discovery_srv_name
        or config.discovery_endpoints
    )
    if "initial-cluster" not in config.given:
        if found_elsewhere:
            config.initial_cluster = ""
        elif config.name != "default":
            mine = config.initial_advertise_peer_urls or (PEER_URL,)
            config.initial_cluster = ",".join(f"{config.name}={url}" for url in mine)
    if not config.data_dir:
        config.data_dir = f"{config.name}.etcd"
        text = "'data-dir' was empty; using default"
        notes.append(("warn", text, {"data-dir": config.data_dir}))
    config.features = resolve_gates(config.feature_gates)
    try:
        config.members = urls.parse_cluster(config.initial_cluster)
    except urls.BadUrl:
        config.members = {}  # told when it is used: a member that restarts ignores the flag
