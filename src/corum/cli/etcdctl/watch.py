"""watch: print changes, or run a command for each, until interrupted.

With -i, commands are read from standard input while the watches print; each has its own thread.
A watch resumes by itself after a broken connection (`corum.client.watch_state` decides where).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from corum.cli import flags as flagging
from corum.cli.command import (
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_INVALID_INPUT,
    ExitError,
    bad_arguments,
)
from corum.cli.etcdctl.context import Context, prefix_end, to_bytes
from corum.cli.etcdctl.printers import EVENT_NAMES, go_json, message_object
from corum.cli.gotext import quote
from corum.client._sync.watching import Watching
from corum.client.errors import ClientError, Compacted, WatchCanceled
from corum.client.watch_state import WatchState
from corum.pb import rpc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event

    from corum.cli.command import Invocation
    from corum.cli.etcdctl.printers import Printer
    from corum.cli.flags import Values
    from corum.pb import kv as kvpb

NO_COMMANDS = "bad number of arguments (found separator --, but no commands)"


def watch(invocation: Invocation) -> None:
    with Context(invocation) as context:
        if context.values.boolean("interactive"):
            _interactive(context)
        words = list(context.arguments)
        ranged, command = _split(words, invocation.dash)
        key, end = _range(ranged, context.values)
        _run(context, _state(context.values, key, end), command)
        raise ExitError(EXIT_INTERRUPTED, "watch is canceled by the server")


def _split(words: Sequence[str], dash: int) -> tuple[list[str], list[str]]:
    """Key and range_end, and the command behind `--`."""
    if dash < 0:
        return list(words), []
    if dash == len(words):
        raise bad_arguments(NO_COMMANDS)
    return list(words[:dash]), list(words[dash:])


def _range(words: Sequence[str], values: Values) -> tuple[bytes, bytes]:
    """The keys to watch, from the arguments or else from the environment."""
    env_key = os.environ.get("ETCDCTL_WATCH_KEY", "")
    env_end = os.environ.get("ETCDCTL_WATCH_RANGE_END", "")
    if not env_key and env_end:
        raise bad_arguments(
            f"ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={quote(env_end)}"
        )
    if env_key and words:
        raise bad_arguments("bad number of arguments (found conflicting environment key)")
    if env_key:
        words = [env_key, env_end] if env_end else [env_key]
    if not words:
        raise bad_arguments("bad number of arguments")
    key = to_bytes(words[0])
    prefix = values.boolean("prefix")
    if len(words) > 1:
        if prefix:
            raise bad_arguments("`range_end` and `--prefix` are mutually exclusive")
        return key, to_bytes(words[1])
    if prefix:
        return (key, prefix_end(key)) if key else (b"\0", b"\0")
    return key, b""


def _state(values: Values, key: bytes, end: bytes) -> WatchState:
    return WatchState(
        rpc.WatchCreateRequest(
            key=key,
            range_end=end,
            start_revision=values.integer("rev"),
            prev_kv=values.boolean("prev-kv"),
            progress_notify=values.boolean("progress-notify"),
            fragment=True,
        )
    )


def _run(context: Context, state: WatchState, command: Sequence[str]) -> None:
    """Print what the watch brings until the server ends it."""
    with Watching(context.session, state) as watching:
        _follow(context, watching, command)


def _follow(context: Context, watching: Watching, command: Sequence[str]) -> None:
    out = context.out
    try:
        for response in watching:
            message = response.message()
            if not message.events:
                out.line(f"progress notify: {message.header.revision}")
                if out.form == "simple":
                    sys.stdout.flush()
                    continue
            show(out, message)
            for event in message.events if command else ():
                _execute(command, event, message.header.revision)
    except (Compacted, WatchCanceled) as error:
        sys.stdout.flush()
        sys.stderr.write(f"watch was canceled ({error.text})\n")
    except ClientError as error:
        raise context.failure(error) from None


def _execute(command: Sequence[str], event: kvpb.Event, revision: int) -> None:
    """Run the command for one event; the program ends when it fails."""
    import subprocess

    environment = {
        **os.environ,
        "ETCD_WATCH_REVISION": str(revision),
        "ETCD_WATCH_EVENT_TYPE": quote(EVENT_NAMES[event.type]),
        "ETCD_WATCH_KEY": quote(event.kv.key),
        "ETCD_WATCH_VALUE": quote(event.kv.value),
    }
    sys.stdout.flush()
    try:
        status = subprocess.run(list(command), env=environment, check=False).returncode
        problem = f"exit status {status}" if status > 0 else f"signal: {-status}" if status else ""
    except OSError:
        problem = f'exec: "{command[0]}": executable file not found in $PATH'
    if problem:
        shown = " ".join(quote(word) for word in command)
        sys.stderr.write(f"command [{shown}] error ({problem})\n")
        raise ExitError(EXIT_ERROR, "")


# The interactive form ------------------------------------------------------------------------


def _interactive(context: Context) -> None:
    """Read commands until the input ends, which is an error, as nothing else ends it."""
    from threading import Event, Thread

    session = context.session
    running: list[Watching] = []
    ended = Event()  # set before the session closes under the watches
    while data := sys.stdin.buffer.readline():
        line = data.decode("utf-8", "surrogateescape").removesuffix("\n")
        words = _words(line)
        match words[:1]:
            case []:
                _complain(f"Invalid command: {line} (watch and progress supported)")
            case ["watch"] if len(words) < 2 and "ETCDCTL_WATCH_KEY" not in os.environ:
                _complain(f"Invalid command {line} (command type or key is not provided)")
            case ["watch"]:
                made = _line_watch(line, words[1:])
                if made is None:
                    continue
                watching = Watching(session, made[0])
                running.append(watching)
                follow = (context, watching, made[1], ended)
                Thread(target=_line_thread, args=follow, daemon=True).start()
            case ["progress"]:
                for watching in running[:1]:  # one stream carries them all
                    watching.request_progress()
            case _:
                _complain(f"Invalid command {line} (only support watch)")
    sys.stdout.flush()
    ended.set()
    raise ExitError(EXIT_INVALID_INPUT, "error reading watch request line: EOF")


def _complain(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _words(line: str) -> list[str]:
    from corum.cli.etcdctl.txn import split_words

    return split_words(line)


def _line_watch(line: str, words: Sequence[str]) -> tuple[WatchState, list[str]] | None:
    """The watch that a line asks for; None when it does not make sense."""
    from corum.cli.etcdctl.commands import PROGRAM

    command = PROGRAM.find("watch")
    assert command is not None, "no command watch"
    try:
        values, ranged, dash = flagging.parse(command.flags, words)
    except flagging.FlagError as error:
        raise bad_arguments(str(error)) from None
    ranged, run = _split(ranged, dash)
    try:
        key, end = _range(ranged, values)
    except ExitError as error:
        if "conflicting" in error.text:
            raise
        _complain(f"Invalid command {line} ({error.text})")
        return None
    return _state(values, key, end), run


def _line_thread(
    context: Context, watching: Watching, command: Sequence[str], ended: Event
) -> None:
    try:
        _follow(context, watching, command)
    except ExitError as error:
        if ended.is_set():
            return
        if error.text:
            _complain(f"Error: {error.text}")
        sys.stdout.flush()
        os._exit(error.code)  # the input still blocks the main thread


# Output --------------------------------------------------------------------------------------


def show(out: Printer, response: rpc.WatchResponse) -> None:
    def simple() -> None:
        for event in response.events:
            out.line(EVENT_NAMES[event.type])
            if event.HasField("prev_kv"):
                out.pair(event.prev_kv)
            out.pair(event.kv)

    def fields() -> None:
        out.header(response)
        for event in response.events:
            out.line(f'"Type" : {EVENT_NAMES[event.type]}')
            if event.HasField("prev_kv"):
                out.pair_fields(event.prev_kv, "Prev")
            out.pair_fields(event.kv)

    def json() -> str:
        return go_json(
            {
                "Header": message_object(response.header),
                "Events": [message_object(event) for event in response.events],
                "CompactRevision": response.compact_revision,
                "Canceled": response.canceled,
                "Created": response.created,
            }
        )

    out.show(response, simple, fields=fields, json=json)
