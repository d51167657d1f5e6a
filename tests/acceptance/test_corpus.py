"""The shared acceptance corpus, one test per case; the corpus runs once per session."""

import os
import sys
from pathlib import Path

import pytest

from acceptance import corpus

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.timeout(1_500),
]
NAMES = corpus.due()


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> corpus.Outcomes:
    """`CORUM_TEST_BIN` names another folder of binaries, to test this test."""
    file = tmp_path_factory.mktemp("corpus") / "results.json"
    other = os.environ.get("CORUM_TEST_BIN")
    if other:
        return corpus.run(Path(other), file, "--go35")
    return corpus.run(Path(sys.executable).parent, file)


@pytest.mark.skipif(not NAMES, reason="the acceptance corpus is not beside this repository")
@pytest.mark.parametrize("name", NAMES)
def test_case(results: corpus.Outcomes, name: str) -> None:
    """The case passes."""
    if name in corpus.LATER:
        pytest.skip(corpus.LATER[name])
    status, text, _seconds = results[name]
    if status == "skip":
        pytest.skip(text)
    assert status == "pass", text
