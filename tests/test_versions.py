"""Who we say we are."""

import re

import pytest

from corum.versions import EMULATED, version_text


@pytest.mark.parametrize("minor", sorted(EMULATED))
def test_version_text(minor: str) -> None:
    """Four lines of one word each after the label, as scripts cut them."""
    text = version_text(EMULATED[minor])
    words = r"etcd Version: (\d+\.\d+)\.\d+\nGit SHA: \S+\nGo Version: \S+\nGo OS/Arch: \w+/\w+\n"
    match = re.fullmatch(words, text)
    assert match
    assert match[1] == minor
    assert EMULATED[minor].cluster == f"{minor}.0"
