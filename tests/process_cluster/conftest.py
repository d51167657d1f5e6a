"""A cluster of processes that is gone after the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from oracle.clusters import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        for member in made.members.values():
            member.kill()
