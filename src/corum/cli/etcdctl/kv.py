"""put, get, del, compaction: single keys and ranges.

The requests of these commands are also what a transaction is made of (`txn`), so making them is
apart from sending them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from corum.cli.command import EXIT_BAD_FEATURE, EXIT_ERROR, ExitError, bad_arguments
from corum.cli.etcdctl.context import Context, lease_id, prefix_end, to_bytes
from corum.cli.gotext import GoSyntaxError, parse_int
from corum.client import methods
from corum.client.options import DEFAULT
from corum.pb import rpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corum.cli.command import Invocation
    from corum.cli.etcdctl.printers import Printer
    from corum.cli.flags import Values

ORDERS = {"": 0, "ASCEND": 1, "DESCEND": 2}
TARGETS = {"": 0, "KEY": 0, "VERSION": 1, "CREATE": 2, "MODIFY": 3, "VALUE": 4}
DELETE_DELAY_S = 2.0
FROM_KEY = b"\0"  # as a range's end: no end
PUT_USAGE = "put command needs 1 argument and input from stdin or 2 arguments"
TOO_MANY = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set"
BOTH = "`--prefix` and `--from-key` cannot be set at the same time, choose one"


# put -----------------------------------------------------------------------------------------


def put(invocation: Invocation) -> None:
    with Context(invocation) as context:
        request = put_request(context.values, context.arguments, from_stdin=True)
        show_put(context.out, context.call(methods.PUT, request))


def put_request(
    values: Values, arguments: Sequence[str], *, from_stdin: bool = False
) -> rpc.PutRequest:
    """from_stdin: a missing value is read there."""
    if not arguments:
        raise bad_arguments(PUT_USAGE)
    ignore_value = values.boolean("ignore-value")
    if ignore_value and len(arguments) > 1:
        raise bad_arguments("put command needs only 1 argument when 'ignore-value' is set")
    value = b"" if ignore_value else _value(arguments, from_stdin=from_stdin)
    return rpc.PutRequest(
        key=to_bytes(arguments[0]),
        value=value,
        lease=lease_id(values.string("lease"), "bad lease ID"),
        prev_kv=values.boolean("prev-kv"),
        ignore_value=ignore_value,
        ignore_lease=values.boolean("ignore-lease"),
    )


def _value(arguments: Sequence[str], *, from_stdin: bool) -> bytes:
    """The second argument, or all of stdin when there is none and somebody feeds it."""
    if len(arguments) > 1:
        return to_bytes(arguments[1])
    if not from_stdin or _is_null_device():
        raise bad_arguments(PUT_USAGE)
    value = sys.stdin.buffer.read()
    if not value:
        raise bad_arguments(PUT_USAGE)
    return value


def _is_null_device() -> bool:
    import os
    import stat

    try:
        return stat.S_ISCHR(os.fstat(0).st_mode) and not os.isatty(0)
    except OSError:
        return True


def show_put(out: Printer, response: rpc.PutResponse) -> None:
    def simple() -> None:
        out.line("OK")
        if response.HasField("prev_kv"):
            out.pair(response.prev_kv)

    def fields() -> None:
        out.header(response)
        if response.HasField("prev_kv"):
            out.pair_fields(response.prev_kv, "Prev")

    out.show(response, simple, fields=fields)


# get -----------------------------------------------------------------------------------------


def get(invocation: Invocation) -> None:
    with Context(invocation) as context:
        values, form = context.values, context.out.form
        request = get_request(values, context.arguments)
        values_only = values.boolean("print-value-only")
        if request.count_only and form != "fields":
            raise bad_arguments("--count-only is only for `--write-out=fields`")
        if values_only and form != "simple":
            raise bad_arguments("print-value-only is only for `--write-out=simple`")
        if values.boolean("stream"):
            response = _streamed(context, request)
        else:
            response = context.call(methods.RANGE, request)
        show_get(context.out, response, values_only=values_only)


def get_request(values: Values, arguments: Sequence[str]) -> rpc.RangeRequest:
    if not arguments:
        raise bad_arguments(
            "get command needs one argument as key and an optional argument as range_end"
        )
    key, end = _range(values, arguments)
    keys_only, count_only = values.boolean("keys-only"), values.boolean("count-only")
    if keys_only and count_only:
        raise bad_arguments(
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one"
        )
    order, target = _sorting(values)
    consistency = values.string("consistency")
    if consistency not in ("l", "s"):
        raise ExitError(EXIT_BAD_FEATURE, f'unknown consistency flag "{consistency}"')
    return rpc.RangeRequest(
        key=key,
        range_end=end,
        limit=values.integer("limit"),
        revision=max(values.integer("rev"), 0),
        sort_order=order,
        sort_target=target,
        serializable=consistency == "s",
        keys_only=keys_only,
        count_only=count_only,
        min_mod_revision=values.integer("min-mod-rev"),
        max_mod_revision=values.integer("max-mod-rev"),
        min_create_revision=values.integer("min-create-rev"),
        max_create_revision=values.integer("max-create-rev"),
    )


def _range(values: Values, arguments: Sequence[str]) -> tuple[bytes, bytes]:
    """Key and range_end of get and del."""
    prefix, from_key = values.boolean("prefix"), values.boolean("from-key")
    if prefix and from_key:
        raise bad_arguments(BOTH)
    key = to_bytes(arguments[0])
    if len(arguments) > 1:
        if prefix or from_key:
            raise bad_arguments(TOO_MANY)
        return key, to_bytes(arguments[1])
    if prefix:
        return (key, prefix_end(key)) if key else (b"\0", FROM_KEY)
    if from_key:
        return key or b"\0", FROM_KEY
    return key, b""


def _sorting(values: Values) -> tuple[int, int]:
    order, target = values.string("order").upper(), values.string("sort-by").upper()
    if order not in ORDERS:
        raise ExitError(EXIT_BAD_FEATURE, f"bad sort order {values.string('order')}")
    if target not in TARGETS:
        raise ExitError(EXIT_BAD_FEATURE, f"bad sort target {values.string('sort-by')}")
    if target and not order:
        return ORDERS["ASCEND"], TARGETS[target]
    return ORDERS[order], TARGETS[target]


def _streamed(context: Context, request: rpc.RangeRequest) -> rpc.RangeResponse:
    """The same answer through RangeStream (3.7): pieces whose pairs follow each other."""
    whole = rpc.RangeResponse()
    from corum.cli.etcdctl.streams import messages

    for piece in messages(context, methods.RANGE_STREAM, request):
        whole.MergeFrom(piece.range_response)
    return whole


def show_get(out: Printer, response: rpc.RangeResponse, *, values_only: bool = False) -> None:
    def simple() -> None:
        for pair in response.kvs:
            out.pair(pair, values_only=values_only)

    def fields() -> None:
        out.header(response)
        for pair in response.kvs:
            out.pair_fields(pair)
        out.field("More", response.more)
        out.field("Count", response.count)

    out.show(response, simple, fields=fields)


# del -----------------------------------------------------------------------------------------


def delete(invocation: Invocation) -> None:
    with Context(invocation) as context:
        request = delete_request(context.values, context.arguments)
        if len(context.arguments) > 1 and not context.values.boolean("range"):
            _warn_of_range(context.arguments)
        show_delete(context.out, context.call(methods.DELETE_RANGE, request))


def delete_request(values: Values, arguments: Sequence[str]) -> rpc.DeleteRangeRequest:
    if not 1 <= len(arguments) <= 2:
        raise bad_arguments(
            "del command needs one argument as key and an optional argument as range_end"
        )
    key, end = _range(values, arguments)
    return rpc.DeleteRangeRequest(key=key, range_end=end, prev_kv=values.boolean("prev-kv"))


def _warn_of_range(arguments: Sequence[str]) -> None:
    """A second key deletes a range, which some do not expect: time to think again."""
    from time import sleep

    first, last = arguments
    sys.stderr.write(
        f'Warning: Keys between "{first}" and "{last}" will be deleted. Please interrupt the '
        "command within next 2 seconds to cancel. You can provide `--range` flag to avoid the "
        "delay.\n"
    )
    sys.stderr.flush()
    sleep(DELETE_DELAY_S)


def show_delete(out: Printer, response: rpc.DeleteRangeResponse) -> None:
    def simple() -> None:
        out.line(str(response.deleted))
        for pair in response.prev_kvs:
            out.pair(pair)

    def fields() -> None:
        out.header(response)
        out.field("Deleted", response.deleted)
        for pair in response.prev_kvs:
            out.pair_fields(pair, "Prev")

    out.show(response, simple, fields=fields)


# compaction ----------------------------------------------------------------------------------


def compaction(invocation: Invocation) -> None:
    with Context(invocation) as context:
        if len(context.arguments) != 1:
            raise bad_arguments("compaction command needs 1 argument")
        try:
            revision = parse_int(context.arguments[0])
        except GoSyntaxError as error:
            raise ExitError(EXIT_ERROR, str(error)) from None
        request = rpc.CompactionRequest(
            revision=revision, physical=context.values.boolean("physical")
        )
        timeout_s = None if request.physical else DEFAULT  # rewriting the store takes what it takes
        context.call(methods.COMPACT, request, timeout_s=timeout_s)
        context.out.line(f"compacted revision {revision}")
