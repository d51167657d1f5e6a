"""Run our own scripts and write what they print into them: `python tests/raft/rewrite.py [name]`.

Commit only a diff you can explain.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parents[1] / "src"))
sys.path.remove(str(HERE))  # where `describe` etc. would be found a second time

from raft import datadriven  # noqa: E402  # found by the lines above
from raft.interaction import Interaction  # noqa: E402


def main(names: list[str]) -> None:
    for path in sorted((HERE / "scripts").glob("*.txt")):
        if not names or path.stem in names:
            datadriven.rewrite(path, Interaction().handle)


if __name__ == "__main__":
    main(sys.argv[1:])
