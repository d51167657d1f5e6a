"""Write the tables of flags, errors and metrics in `docs/reference/` from the code.

Run without arguments to write; with `--check` to fail when the committed pages are stale.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from corum import errors
from corum.config.aliases import ALIASES, IGNORED
from corum.config.model import FLAGS, Flag
from corum.metrics import Metrics
from corum.prometheus import Family

TARGET = Path(__file__).resolve().parent.parent / "docs/reference"
_NOTE = "This page is written by `tools/gen_docs.py` from the code; change it there.\n"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"


def _table(*heads: str) -> str:
    return _row(*heads) + _row(*("---" for _ in heads))


def flags_page() -> str:
    """Every flag by group, then the old names."""
    parts = [
        "# Flags of `etcd`\n\n",
        _NOTE,
        "Each flag is also read from the environment (`--my-flag` is `ETCD_MY_FLAG`) and, under ",
        "its name, from the YAML file of `--config-file`.\n",
        "The command line wins over the environment.\n",
    ]
    for group, flags in groupby(FLAGS.values(), key=lambda flag: flag.group):
        parts += [f"\n## {group}\n\n", _table("flag", "kind", "default", "meaning")]
        parts += [_row(f"`--{f.name}`", f.kind.name, _default(f), f.help) for f in flags]
    parts += ["\n## Old names\n\n", "They still work, and are warned about.\n\n"]
    parts.append(_table("flag", "kind", "replaced by"))
    for name, alias in sorted(ALIASES.items()):
        new = f"`--{alias.replaced_by}`" if alias.replaced_by else "nothing; without effect"
        parts.append(_row(f"`--{name}`", alias.kind.name, new))
    ignored = ", ".join(f"`--{name}`" for name in sorted(IGNORED))
    parts.append(f"\nTaken and ignored, as etcd does: {ignored}.\n")
    return "".join(parts)


def _default(flag: Flag) -> str:
    shown = "${name}.etcd" if flag.name == "data-dir" else flag.kind.show(flag.default)
    return f"`{shown}`" if shown else ""


def errors_page() -> str:
    """Every kind of error with its code and text."""
    parts = [
        "# Errors\n\n",
        _NOTE,
        "Clients match on the texts, so they are etcd's to the byte.\n\n",
    ]
    parts.append(_table("`corum.errors`", "gRPC code", "HTTP", "text"))
    for name, kind in errors.KINDS.items():
        code = f"{errors.code_name(kind.code)} ({kind.code})"
        parts.append(_row(f"`{name}`", code, str(errors.http_status(kind.code)), f"`{kind.text}`"))
    return "".join(parts)


def metrics_page() -> str:
    """Every metric with its kind and labels."""
    parts = ["# Metrics\n\n", _NOTE]
    parts.append("Beside them: `grpc_server_*` per method and code, `process_*`, and stand-ins\n")
    parts.append("for some `go_*` (threads and resident memory).\n\n")
    parts.append(_table("metric", "kind", "labels", "meaning"))
    for name, (kind, meaning, metric) in sorted(Metrics().registry.declared().items()):
        labels = ", ".join(metric.label_names) if isinstance(metric, Family) else ""
        parts.append(_row(f"`{name}`", kind, labels, meaning))
    return "".join(parts)


def main() -> int:
    """Write, or with `--check` compare; 1 when something is stale."""
    pages = {"flags.md": flags_page(), "errors.md": errors_page(), "metrics.md": metrics_page()}
    stale = [
        name
        for name, page in pages.items()
        if not (TARGET / name).exists() or (TARGET / name).read_text() != page
    ]
    if "--check" in sys.argv[1:]:
        print(f"stale: {', '.join(stale)}; run tools/gen_docs.py" if stale else "up to date")
        return 1 if stale else 0
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (TARGET / name).write_text(pages[name])
    print(f"{len(stale)} of {len(pages)} pages written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
