"""The texts of `etcd --help` and of a usage error, from the table of flags."""

from __future__ import annotations

from itertools import groupby
from typing import Final

from corum.config.model import FLAGS, Flag

USAGE: Final = """Usage:

  etcd [flags]
    Start a member.

  etcd --version
    Print the version.

  etcd -h | --help
    Print this help.

  etcd --config-file FILE
    Start a member with the settings of a YAML file; other flags and the environment do not count.

  etcd gateway
    Forward TCP connections to a cluster.

  etcd grpc-proxy
    Serve the v3 API for a cluster.
"""
_SHOWN: Final = {"data-dir": "${name}.etcd", "feature-gates": ""}


def help_text() -> str:
    """Usage, then every flag with its default, in groups; each is $ETCD_... in the environment."""
    parts = [USAGE]
    for group, flags in groupby(FLAGS.values(), key=lambda flag: flag.group):
        parts.append(f"\n{group}:\n")
        parts += [f"  --{flag.name} '{_default(flag)}'\n    {flag.help}\n" for flag in flags]
    parts.append("\nEach flag is also read from the environment: --my-flag is ETCD_MY_FLAG.\n")
    return "".join(parts)


def _default(flag: Flag) -> str:
    return _SHOWN.get(flag.name) or flag.kind.show(flag.default)
