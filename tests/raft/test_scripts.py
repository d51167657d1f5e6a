"""Conversations between members in text; see datadriven.py for the form, rewrite.py to renew.

The shared scripts are etcd-io/raft's own and run where their folder is present.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from raft import datadriven
from raft.arithmetic import ConfChanges, Quorums
from raft.interaction import Interaction

OURS = Path(__file__).parent / "scripts"
SHARED = Path(__file__).parents[3] / "shared" / "reference" / "raft-scripts"
_KINDS = {"interaction": Interaction, "confchange": ConfChanges, "quorum": Quorums}


def _shared() -> list[Path]:
    return [path for kind in _KINDS for path in sorted((SHARED / kind).glob("*.txt"))]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared scripts are not here")
@pytest.mark.parametrize("path", _shared(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shared_script(path: Path) -> None:
    """Each command prints what etcd's raft prints, but for its log lines."""
    datadriven.run(path, _KINDS[path.parent.name]().handle)


@pytest.mark.parametrize("path", sorted(OURS.glob("*.txt")), ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    """Each command prints what is in the script."""
    datadriven.run(path, Interaction().handle)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared scripts are not here")
def test_all_shared_scripts_are_found() -> None:
    """The folder holds the 41 scripts that conformance means."""
    assert len(_shared()) == 41
