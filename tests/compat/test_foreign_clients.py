"""Programs on other Python libraries, unmodified, against Go etcd 3.5.1 and ours.

The libraries need environments of their own, as they want old versions of others; `make
bench-client` makes them. (Go's clientv3 is what the load generator and Go's etcdctl are made of.)
"""

import subprocess
from pathlib import Path

import pytest

from oracle import servers

pytestmark = [pytest.mark.compat, pytest.mark.process]

PROGRAMS = Path(__file__).parent / "programs"
ENVIRONMENTS = servers.REPOSITORY / ".build" / "clients"
TIMEOUT_S = 100


@pytest.mark.parametrize("library", ["etcd3", "aetcd"])
@pytest.mark.parametrize("kind", ["go-3.5.1", "ours"])
def test_program(library: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """It finds everything as it expects it."""
    python = ENVIRONMENTS / library / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no environment with {library}; make bench-client makes it")
    program: servers.Program = request.getfixturevalue(
        "go_program" if kind == "go-3.5.1" else "our_program"
    )
    with servers.running(program, tmp_path / "server") as server:
        ran = subprocess.run(
            [
                *(str(python), str(PROGRAMS / f"with_{library}.py")),
                *("127.0.0.1", str(server.client_port)),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
            env=servers.plain_environment() | {"PYTHONWARNINGS": "ignore"},
        )
    assert (ran.returncode, ran.stdout) == (0, "done\n"), ran.stderr
