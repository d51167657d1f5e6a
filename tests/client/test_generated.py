"""The synchronous client is what tools/unasync.py makes of the asynchronous one."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_generated_half_is_fresh() -> None:
    """Nobody has changed one half alone."""
    tool = REPOSITORY / "tools" / "unasync.py"
    ran = subprocess.run(
        [sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout
