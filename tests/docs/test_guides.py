"""The guides' examples, in their order: they run, and print what their comments say."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

import corum.recipes

pytestmark = pytest.mark.slow
DOCS = Path(__file__).resolve().parents[2] / "docs"
SAYS = re.compile(r"\bprint\(.*\)  # (.*)$", re.M)


def run_page(name: str) -> None:
    """Every block of a page in one namespace; a block's output is what its comments say."""
    text = (DOCS / name).read_text()
    blocks = [
        (text[: match.start()].count("\n") + 2, match[1])
        for match in re.finditer(r"```python\n(.*?)```", text, re.DOTALL)
    ]
    assert len(blocks) > 5
    names: dict[str, Any] = {}
    try:
        for line, block in blocks:
            printed = io.StringIO()
            code = compile("\n" * (line - 1) + block, f"docs/{name}", "exec")
            with contextlib.redirect_stdout(printed):
                exec(code, names)
            assert printed.getvalue().splitlines() == SAYS.findall(block), f"line {line}"
    finally:
        for end in (names.get("client"), names.get("member")):
            if end is not None:
                getattr(end, "close", getattr(end, "stop", None))()


@pytest.mark.parametrize("name", ["client.md", "client-v2.md", "recipes.md"])
def test_examples(name: str) -> None:
    """Every block of the page."""
    run_page(name)


def test_every_recipe_is_in_the_guide() -> None:
    """Each public class that is made by hand is shown; its twin for asyncio has the same name."""
    text = (DOCS / "recipes.md").read_text()
    given = {"Change", "Changes", "Instance", "Leaders", "Task", "Transaction"}  # by others
    for name in corum.recipes.__all__:
        if not name.startswith("Async") and not name.endswith("_async") and name not in given:
            assert re.search(rf"\b{name}\b", text), name


@pytest.mark.parametrize("name", ["client.md", "client-v2.md", "recipes.md"])
def test_links_lead_somewhere(name: str) -> None:
    """Files are there, and so are the headings that links name."""
    for link in re.findall(r"\]\(([^)]+)\)", (DOCS / name).read_text()):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = DOCS / file if file else DOCS / name
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}
