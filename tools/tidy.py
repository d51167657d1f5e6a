"""Style that no linter knows: function lengths, impure imports in cores, TODOs, machine paths.

`python tools/tidy.py` prints what it finds, one per line, and ends with 1 if there is anything;
`tests/test_tidy.py` runs the same checks. A function that may be longer stands in LONG_FUNCTIONS
with the length it may have and the reason; it may shrink, not grow.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FUNCTION_LINES_MAX: Final = 60

LONG_FUNCTIONS: Final[dict[str, tuple[int, str]]] = {
    "src/corum/server/node.py:__init__": (110, "wires the rooms; each line is one of them"),
}
"""path:function -> (lines it may have, why)."""

CORES: Final = (
    *("raft", "mvcc", "auth", "v2store", "membership"),
    *("lease.py", "backend/memory_backend.py", "backend/backend.py"),
    *("backend/layers.py", "backend/layered.py"),
    *("recipes/balance.py", "recipes/range_state.py", "recipes/stm_sets.py"),
    *("api/gateway.py", "api/json_messages.py", "api/http_rules.py", "api/status.py"),
)
"""What must stay free of I/O, time, chance and threads, below src/corum."""
IMPURE: Final = frozenset(
    ("time", "random", "asyncio", "threading", "socket", "os", "subprocess", "select", "secrets")
)
# `Random` is the type of the dice that a core is given; the module itself would be its own.
_GIVEN: Final = frozenset((("random", "Random"),))

# Python, Rust, Markdown and configuration that people write; not locks and generated data.
_SUFFIXES: Final = frozenset((".py", ".pyi", ".rs", ".md", ".toml", ".proto", ".sh", ".go"))
_TODO: Final = re.compile(r"\b(?:TODO|FIXME|XXX)\b(?!\(#\d+\))")
_MACHINE_PATH: Final = re.compile(r"(?<![\w.$~}/-])/(?:root|home|work|Users)/[\w.-]+")


def tracked_files(root: Path = ROOT) -> list[Path]:
    """Files that people wrote: what git tracks, or would."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True).stdout
    paths = [root / name for name in listed.decode().split("\0") if name]
    return sorted(path for path in paths if path.suffix in _SUFFIXES and path.is_file())


def long_functions(name: str, source: str) -> Iterator[str]:
    """Functions of a Python file beyond the limit; the docstring counts."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        limit, _ = LONG_FUNCTIONS.get(f"{name}:{node.name}", (FUNCTION_LINES_MAX, ""))
        if lines > limit:
            yield f"{name}:{node.lineno}: {node.name} has {lines} lines, at most {limit}"


def impure_imports(name: str, source: str) -> Iterator[str]:
    """Imports of a core that would let time, chance or the world in."""
    inside = name.removeprefix("src/corum/")
    if inside == name or not any(inside == core or inside.startswith(f"{core}/") for core in CORES):
        return
    for node in ast.walk(ast.parse(source)):
        for module in _imported(node):
            if module in IMPURE:
                yield f"{name}:{getattr(node, 'lineno', 0)}: a core imports {module}"


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        given = all((node.module, alias.name) in _GIVEN for alias in node.names)
        return [] if given else [node.module.partition(".")[0]]
    return []


def bad_lines(name: str, source: str) -> Iterator[str]:
    """Unfinished work without an issue, and paths of somebody's machine."""
    for number, line in enumerate(source.splitlines(), 1):
        if _TODO.search(line):
            yield f"{name}:{number}: unfinished work needs an issue, as TODO" + "(#123)"
        if _MACHINE_PATH.search(line):
            yield f"{name}:{number}: a path of one machine"


def findings(root: Path = ROOT) -> Iterator[str]:
    """Everything wrong below `root`."""
    for path in tracked_files(root):
        name = path.relative_to(root).as_posix()
        source = path.read_text(encoding="utf-8")
        if name not in ("tools/tidy.py", "tests/test_tidy.py"):  # they quote what they look for
            yield from bad_lines(name, source)
        if path.suffix == ".py":
            yield from impure_imports(name, source)
            if not name.startswith("tests/"):
                yield from long_functions(name, source)


def main() -> int:
    """Print the findings; 1 if there are any."""
    found = list(findings())
    print("\n".join(found) or "tidy")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
