"""Which cases of the shared black-box corpus corum must pass by now, and how they are run.

The corpus lies beside the repository (`../shared/acceptance`) or where `CORUM_ACCEPTANCE` says;
it is not part of the repository.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from oracle.servers import REPOSITORY

TOPICS = ("v3ctl", "gateway", "goclient")  # whole topics
CASES = (  # of topics whose other cases use v2 requests, which come later
    "server.version",
    "server.programs",
    "server.start_log",
    "server.all_addresses",
    "server.help_flags",
    "server.data_dir_follows_name",
    "server.zap_log",
    "server.pprof",
    "server.stop_and_start",
    "storage.layout",
    "storage.snapshot_count_default",
    "storage.retention_defaults",
    "storage.wal_crc",
    "storage.v3_snapshot",
)
LATER: dict[str, str] = {}  # of the whole topics: what needs a part that is not built yet
JOBS = 2


def folder() -> Path | None:
    place = os.environ.get("CORUM_ACCEPTANCE") or REPOSITORY.parent / "shared" / "acceptance"
    return Path(place) if (Path(place) / "run.py").exists() else None


def due() -> list[str]:
    """Names of the cases to pass, read from the corpus; [] where it is absent."""
    place = folder()
    if place is None:
        return []
    patterns = [f"--only={topic}.*" for topic in TOPICS]
    listed = subprocess.run(
        [sys.executable, str(place / "run.py"), "--list", *patterns],
        capture_output=True,
        text=True,
        check=True,
    )
    names = [line.split()[0] for line in listed.stdout.splitlines()[:-1] if line.strip()]
    return [*names, *CASES]


def run(binaries: Path, results: Path, *more: str) -> dict[str, tuple[str, str, float]]:
    """Run the due cases: name -> (pass, fail or skip; what went wrong; seconds)."""
    place = folder()
    assert place is not None, "the corpus is not here"
    only = [f"--only={name}" for name in due() if name not in LATER]
    subprocess.run(
        [
            sys.executable,
            str(place / "run.py"),
            f"--bin={binaries}",
            f"--jobs={JOBS}",
            f"--json={results}",
            *only,
            *more,
        ],
        capture_output=True,
        check=False,  # its status says that a case failed; the results say which
        timeout=540,
    )
    found = json.loads(results.read_text())
    return {name: (status, text, seconds) for name, (status, text, seconds) in found.items()}
