"""Which cases of the shared black-box corpus corum must pass (all but LATER), and how they are run.

The corpus lies beside the repository (`../shared/acceptance`) or where `CORUM_ACCEPTANCE` says;
it is not part of the repository.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from oracle.servers import REPOSITORY

LATER: dict[str, str] = {}  # what needs a part that is not built yet
JOBS = 2

Outcomes = dict[str, tuple[str, str, float]]


def folder() -> Path | None:
    place = os.environ.get("CORUM_ACCEPTANCE") or REPOSITORY.parent / "shared" / "acceptance"
    return Path(place) if (Path(place) / "run.py").exists() else None


def due() -> list[str]:
    """Names of the cases to pass, read from the corpus; [] where it is absent."""
    place = folder()
    if place is None:
        return []
    listed = subprocess.run(
        [sys.executable, str(place / "run.py"), "--list"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split()[0] for line in listed.stdout.splitlines()[:-1] if line.strip()]


def run(binaries: Path, results: Path, *more: str) -> Outcomes:
    """Run the due cases: name -> (pass, fail or skip; what went wrong; seconds).

    Cases with times of their own may miss them beside others, so what failed is run again, alone.
    """
    names = [name for name in due() if name not in LATER]
    found = _run(binaries, results, names, JOBS, *more)
    failed = [name for name, (status, _, _) in found.items() if status == "fail"]
    return found | (_run(binaries, results, failed, 1, *more) if failed else {})


def _run(binaries: Path, results: Path, names: Sequence[str], jobs: int, *more: str) -> Outcomes:
    place = folder()
    assert place is not None, "the corpus is not here"
    subprocess.run(
        [
            sys.executable,
            str(place / "run.py"),
            f"--bin={binaries}",
            f"--jobs={jobs}",
            f"--json={results}",
            *(f"--only={name}" for name in names),
            *more,
        ],
        capture_output=True,
        check=False,  # its status says that a case failed; the results say which
        timeout=900,
    )
    content = json.loads(results.read_text())
    return {name: (status, text, seconds) for name, (status, text, seconds) in content.items()}
