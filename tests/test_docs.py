"""Reference pages are what the code says."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_reference_pages_are_fresh() -> None:
    """`tools/gen_docs.py` would write exactly what is committed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/gen_docs.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
