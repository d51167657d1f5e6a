"""`etcd`: read the settings, set up the log, run a member.

Only what the answer needs is imported: `--help` and `--version` come back at once.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from corum import config, logs
from corum.config import Config, ConfigError

_log = logs.get()


def main(argv: Sequence[str] | None = None) -> int:
    """The whole command with the words after its name (default: the process's); the exit code."""
    gc.disable()  # imports make little garbage; the member's loop turns it on again
    words = list(sys.argv[1:] if argv is None else argv)
    if not __debug__:
        print("etcd does not run without its assertions: leave out -O", file=sys.stderr)
        return 1
    if words[:1] == ["gateway"] or words[:1] == ["grpc-proxy"]:
        print(f"etcd {words[0]} is not there yet", file=sys.stderr)
        return 1
    try:
        settings = config.parse(words, os.environ)
    except config.HelpWanted:
        from corum.config.help import help_text

        sys.stdout.write(help_text())
        return 0
    except config.VersionWanted as wanted:
        from corum import versions

        sys.stdout.write(versions.version_text(versions.EMULATED[wanted.emulate_version]))
        return 0
    except ConfigError as error:
        return refuse(error, words)
    return _run(settings, words)


def refuse(error: ConfigError, words: Sequence[str]) -> int:
    """Tell why the settings cannot be used, as etcd does; the exit code."""
    if error.usage:
        from corum.config.help import USAGE

        sys.stderr.write(f"{error.text}\n{USAGE}")
    else:
        _log.info("Running: ", args=[sys.argv[0], *words])
        _log.warn("failed to verify flags", error=error.text)
    return error.exit_code


def _run(settings: Config, words: Sequence[str]) -> int:
    try:
        logs.configure(
            level=settings.log_level,
            console=settings.log_format == "console",
            outputs=settings.log_outputs,
            rotation=settings.log_rotation_config_json if settings.enable_log_rotation else None,
        )
    except OSError as error:
        return refuse(ConfigError(f"open {error.filename}: {error.strerror}"), words)
    for level, message, fields in settings.notes:
        _log.log(level, message, fields)
    _log.info("Running: ", args=[sys.argv[0], *words])
    if settings.config_file:
        text = (
            "loaded server configuration, other configuration command line flags and "
            "environment variables will be ignored if provided"
        )
        _log.info(text, path=settings.config_file)
    from corum.member import daemon

    return daemon.run(settings)


if __name__ == "__main__":
    sys.exit(main())
