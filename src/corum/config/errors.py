"""How reading a configuration can end other than in a Config."""

from __future__ import annotations


class ConfigError(Exception):
    """The settings cannot be used; `text` is etcd's, `exit_code` the process's.

    `usage`: a mistake in writing flags, to be shown with the usage on stderr. Otherwise it is
    logged as etcd does ("failed to verify flags").
    """

    def __init__(self, text: str, *, usage: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.usage = usage
        self.exit_code = 2 if usage else 1


class HelpWanted(Exception):
    """`-h` or `--help` stood on the command line."""


class VersionWanted(Exception):
    """`--version` stood on the command line."""

    def __init__(self, emulate_version: str) -> None:
        super().__init__(emulate_version)
        self.emulate_version = emulate_version
