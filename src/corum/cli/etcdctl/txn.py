"""txn: conditions and requests, one per line, each list ended by an empty line.

Input that ends early closes the lists that are still open: a here-document need not end with
empty lines.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from corum.cli import flags as flagging
from corum.cli.command import EXIT_INVALID_INPUT, ExitError, bad_arguments, usage_text
from corum.cli.etcdctl import kv
from corum.cli.etcdctl.commands import PROGRAM
from corum.cli.etcdctl.context import Context
from corum.cli.gotext import GoSyntaxError, parse_int, unquote
from corum.client import methods
from corum.pb import rpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corum.cli.command import Invocation
    from corum.cli.etcdctl.printers import Printer

TARGETS = {
    "ver": "version",
    "version": "version",
    "c": "create_revision",
    "create": "create_revision",
    "m": "mod_revision",
    "mod": "mod_revision",
    "val": "value",
    "value": "value",
    "lease": "lease",
}
NUMBERS = {"version": 0, "create_revision": 1, "mod_revision": 2, "value": 3, "lease": 4}
RESULTS = {"=": 0, ">": 1, "<": 2, "!=": 3}


def txn(invocation: Invocation) -> None:
    with Context(invocation) as context:
        if context.arguments:
            raise bad_arguments("txn command does not accept argument")
        prompt = context.values.boolean("interactive")
        request = rpc.TxnRequest()
        _prompt(prompt, "compares:")
        request.compare.extend(compare(line) for line in _lines())
        _prompt(prompt, "success requests (get, put, del):")
        request.success.extend(request_op(line) for line in _lines())
        _prompt(prompt, "failure requests (get, put, del):")
        request.failure.extend(request_op(line) for line in _lines())
        show(context.out, context.call(methods.TXN, request))


def _prompt(wanted: bool, text: str) -> None:
    if wanted:
        print(text, flush=True)


def _lines() -> Sequence[str]:
    """The lines up to an empty one, or to the end of the input."""
    lines: list[str] = []
    while line := sys.stdin.buffer.readline():
        text = line.rstrip(b"\n").decode("utf-8", "surrogateescape")
        if not text:
            break
        lines.append(text)
    return lines


def _invalid(text: str) -> ExitError:
    return ExitError(EXIT_INVALID_INPUT, text)


def compare(line: str) -> rpc.Compare:
    """A condition: `mod("key") > "0"`."""
    words = line.split("(", 1)
    if len(words) != 2:
        raise _invalid(f"malformed comparison: {line}")
    target = words[0].strip()
    key, operator, operand = _operation(words[1])
    if key is None or not operator or operand is None:
        shown = f"{target}({_shown(key)}) {operator} {_shown(operand)}"
        raise _invalid(f"malformed comparison: {line}; got {shown}")
    field = TARGETS.get(target)
    if field is None:
        raise _invalid(f"malformed comparison: {line} (unknown target {target})")
    if operator not in RESULTS:
        raise _invalid(f"malformed comparison: {line} (unknown operator {operator})")
    value: bytes | int = operand
    if field != "value":
        try:
            base = 16 if field == "lease" else 10
            value = parse_int(operand.decode("utf-8", "surrogateescape"), base)
        except GoSyntaxError:
            raise _invalid(f"invalid txn compare request: {line}") from None
    made: dict[str, Any] = {field: value}
    return rpc.Compare(result=RESULTS[operator], target=NUMBERS[field], key=key, **made)


def _operation(rest: str) -> tuple[bytes | None, str, bytes | None]:
    """What stands behind `target(`: key, operator, operand; None or "" for what cannot be read."""
    quoted, rest = _take_quoted(rest.strip())
    if quoted is None or not rest.startswith(")"):
        return quoted, "", None
    words = rest[1:].split(None, 1)
    if len(words) != 2:
        return quoted, "", None
    operand, rest = _take_quoted(words[1])
    return quoted, words[0], None if rest.strip() else operand


def _take_quoted(text: str) -> tuple[bytes | None, str]:
    """The Go-quoted string at the beginning of `text`, and what follows it."""
    if not text.startswith('"'):
        return None, text
    end = 1
    while end < len(text) and text[end] != '"':
        end += 2 if text[end] == "\\" else 1
    try:
        return unquote(text[: end + 1]), text[end + 1 :]
    except GoSyntaxError:
        return None, text


def _shown(data: bytes | None) -> str:
    return '""' if data is None else f'"{data.decode("utf-8", "surrogateescape")}"'


def request_op(line: str) -> rpc.RequestOp:
    """A request: the command line of get, put or del."""
    words = split_words(line)
    if len(words) < 2:
        raise _invalid(f"invalid txn compare request: {line}")
    command = PROGRAM.find(words[0]) if words[0] in ("get", "put", "del") else None
    if command is None:
        raise _invalid(f"invalid txn request: {line}")
    try:
        values, arguments, _ = flagging.parse(command.flags, words[1:])
    except flagging.FlagError:
        sys.stderr.write(usage_text([command]) + "\n")
        raise _invalid(f"invalid txn request: {line}") from None
    if command.name == "put":
        return rpc.RequestOp(request_put=kv.put_request(values, arguments))
    if command.name == "get":
        return rpc.RequestOp(request_range=kv.get_request(values, arguments))
    return rpc.RequestOp(request_delete_range=kv.delete_request(values, arguments))


def split_words(line: str) -> list[str]:
    """The words of a line; quotes, single or double, keep blanks, and double ones Go's escapes."""
    words: list[str] = []
    rest = line.strip()
    while rest:
        if rest[0] == '"':
            data, after = _take_quoted(rest)
            if data is None:
                return []
            word, rest = data.decode("utf-8", "surrogateescape"), after
        elif rest[0] == "'":
            word, quote, rest = rest[1:].partition("'")
            if not quote:
                return []
        else:
            word, _, rest = rest.partition(" ")
        words.append(word)
        rest = rest.strip()
    return words


def show(out: Printer, response: rpc.TxnResponse) -> None:
    def each() -> None:
        for item in response.responses:
            if out.form == "simple":
                out.line("")
            _show_item(out, item)

    def simple() -> None:
        out.line("SUCCESS" if response.succeeded else "FAILURE")
        each()

    def fields() -> None:
        out.header(response)
        out.field("Succeeded", response.succeeded)
        each()

    out.show(response, simple, fields=fields)


def _show_item(out: Printer, item: rpc.ResponseOp) -> None:
    match item.WhichOneof("response"):
        case "response_range":
            kv.show_get(out, item.response_range)
        case "response_put":
            kv.show_put(out, item.response_put)
        case "response_delete_range":
            kv.show_delete(out, item.response_delete_range)
        case _:
            show(out, item.response_txn)
