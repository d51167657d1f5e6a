"""/debug/pprof/ with `--enable-pprof`: what can be seen of a running member from outside.

Go's profiles are those of its runtime; ours are Python's. The index names what there is.
"""

from __future__ import annotations

import gc
import sys
import threading
import traceback
from collections import Counter
from typing import Final

from corum.api.http_rules import TEXT, Answer, not_found

_PAGES: Final = {
    "goroutine": "stacks of all threads",
    "heap": "live objects by type",
    "cmdline": "the command line",
    "threadcreate": "names of all threads",
}


def answer(path: str) -> Answer:
    """A page under /debug/pprof/."""
    name = path.removeprefix("/debug/pprof").strip("/")
    if not name:
        return _index()
    if name not in _PAGES:
        return not_found()
    text = {"goroutine": _stacks, "heap": _heap, "cmdline": _cmdline, "threadcreate": _threads}
    return Answer(200, (TEXT,), text[name]().encode())


def _index() -> Answer:
    rows = "".join(
        f'<li><a href="{name}">{name}</a>: {what}</li>\n' for name, what in _PAGES.items()
    )
    page = f"<html><head><title>/debug/pprof/</title></head><body><ul>\n{rows}</ul></body></html>\n"
    return Answer(200, (("content-type", "text/html; charset=utf-8"),), page.encode())


def _stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts: list[str] = []
    for ident, frame in sys._current_frames().items():  # the documented way to see other threads
        stack = "".join(traceback.format_stack(frame))
        parts.append(f"thread {names.get(ident, '?')} ({ident}):\n{stack}")
    return "\n".join(parts)


def _heap() -> str:
    found = Counter(type(one).__qualname__ for one in gc.get_objects())
    return "".join(f"{count:>10} {name}\n" for name, count in found.most_common(100))


def _cmdline() -> str:
    return "\0".join(sys.argv)


def _threads() -> str:
    return "".join(f"{thread.name}\n" for thread in threading.enumerate())
