"""Which etcd we say we are: the reported version, and what depends on it.

`--emulate-version 3.4|3.5|3.6|3.7` changes reported versions and JSON shapes for old clients. It
takes nothing away: every RPC, flag and endpoint stays.
"""

from __future__ import annotations

import os
import platform
import sys
from typing import Final

from corum.values import value

CORUM_VERSION: Final = "0.1.0"


@value
class Emulated:
    """One etcd minor as its clients see it."""

    minor: str  # "3.7"
    server: str  # the full version in /version, Status and X-Server-Version
    old_gateway: bool  # error bodies with "error", 408 for Canceled, plain 404/405 (up to 3.5)
    health_reason: bool  # /health says why (since 3.5)
    storage_version: bool  # /version and Status name the storage version (since 3.6)
    range_stream: bool  # KV/RangeStream exists (since 3.7)

    @property
    def cluster(self) -> str:
        """The cluster version that a cluster of such members settles on."""
        return f"{self.minor}.0"


DEFAULT: Final = "3.7"
EMULATED: Final[dict[str, Emulated]] = {
    "3.4": Emulated("3.4", "3.4.45", True, False, False, False),
    "3.5": Emulated("3.5", "3.5.35", True, True, False, False),
    "3.6": Emulated("3.6", "3.6.16", False, True, True, False),
    "3.7": Emulated("3.7", "3.7.3", False, True, True, True),
}

GIT_SHA: Final = f"corum-{CORUM_VERSION}"
"""Stands where etcd prints its commit."""


def go_version() -> str:
    """Stands where etcd prints its Go version: what runs us instead."""
    return f"{sys.implementation.name}{platform.python_version()}"


def os_arch() -> tuple[str, str]:
    """Operating system and machine under Go's names ("linux", "amd64")."""
    machine = os.uname().machine
    names = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}
    return sys.platform, names.get(machine, machine)


def version_text(emulated: Emulated) -> str:
    """The four lines of `etcd --version`."""
    system, machine = os_arch()
    return (
        f"etcd Version: {emulated.server}\n"
        f"Git SHA: {GIT_SHA}\n"
        f"Go Version: {go_version()}\n"
        f"Go OS/Arch: {system}/{machine}\n"
    )
