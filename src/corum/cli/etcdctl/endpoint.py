"""endpoint health, status, hashkv: each endpoint asked by itself."""

from __future__ import annotations

import sys
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from corum.cli.command import EXIT_ERROR, ExitError
from corum.cli.etcdctl.context import Context, log_failure
from corum.cli.etcdctl.member import client_urls
from corum.cli.etcdctl.printers import go_json, message_object
from corum.cli.gotext import format_duration, human_bytes
from corum.client import methods
from corum.client.errors import ClientError
from corum.pb import rpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from corum.cli.command import Invocation
    from corum.cli.etcdctl.printers import Printer
    from corum.client._sync.session import Session
    from corum.client.methods import T

STATUS_COLUMNS = (
    "Endpoint", "ID", "Version", "DB Size", "Is Leader", "Is Learner", "Raft Term", "Raft Index",
    "Raft Applied Index", "Errors",
)  # fmt: skip
STATUS_COLUMNS_36 = (
    "Endpoint", "ID", "Version", "Storage Version", "DB Size", "In Use", "Percentage Not In Use",
    "Quota", "Is Leader", "Is Learner", "Raft Term", "Raft Index", "Raft Applied Index", "Errors",
    "Downgrade Target Version", "Downgrade Enabled",
)  # fmt: skip
HEALTH_COLUMNS = ("Endpoint", "Health", "Took", "Error")


def endpoints(context: Context) -> list[str]:
    """--endpoints, or with --cluster all client URLs of the members."""
    if not context.values.boolean("cluster"):
        return list(context.endpoints())
    response = context.call(methods.MEMBER_LIST, rpc.MemberListRequest(linearizable=True))
    return client_urls(response.members)


def _ask_each(
    context: Context,
    what: str,
    method: methods.Method[T],
    request: Message,
    show: Callable[[Printer, list[tuple[str, T]]], None],
) -> int:
    """Show what the endpoints answer, each by itself; who fails is named, and the last failure ends
    the command."""
    answers: list[tuple[str, T]] = []
    failed: ClientError | None = None
    for name in endpoints(context):
        try:
            with context.connect([name]) as session:
                answers.append((name, session.call(method, request)))
        except ClientError as error:
            log_failure(error, [name])
            sys.stderr.write(f"Failed to get the {what} of endpoint {name} ({error.go_text()})\n")
            failed = error
    show(context.out, answers)
    if failed is not None:
        raise ExitError(EXIT_ERROR, failed.go_text())
    return 0


# health --------------------------------------------------------------------------------------


class Health(NamedTuple):
    endpoint: str
    healthy: bool
    took: str
    error: str


def health(invocation: Invocation) -> int:
    """A read through consensus on every endpoint, all at the same time."""
    with Context(invocation) as context:
        found = _each(context, endpoints(context), _health)
        _show_health(context.out, found)
        if all(one.healthy for one in found):
            return 0
        raise ExitError(EXIT_ERROR, "unhealthy cluster")


def _each(
    context: Context, names: list[str], ask: Callable[[Context, str], Health]
) -> list[Health]:
    from threading import Thread

    found: dict[int, Health] = {}

    def run(index: int, name: str) -> None:
        found[index] = ask(context, name)

    threads = [Thread(target=run, args=item, daemon=True) for item in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[index] for index in sorted(found)]


def _health(context: Context, name: str) -> Health:
    begin_ns = monotonic_ns()
    error = ""
    try:
        with context.connect([name]) as session:
            begin_ns = monotonic_ns()
            session.call(methods.RANGE, rpc.RangeRequest(key=b"health"))
            error = _alarms(session)
    except ClientError as failure:
        if failure.text != "etcdserver: permission denied":  # refused by consensus, so it works
            log_failure(failure, [name])
            error = failure.go_text()
    except ExitError as failure:
        error = failure.text
    return Health(name, not error, format_duration(monotonic_ns() - begin_ns), error)


def _alarms(session: Session) -> str:
    try:
        response = session.call(methods.ALARM, rpc.AlarmRequest())
    except ClientError:
        return "Unable to fetch the alarm list"
    if not response.alarms:
        return ""
    names = [rpc.AlarmType.Name(alarm.alarm) for alarm in response.alarms]
    return "Active Alarm(s): " + ", ".join(names)


def _show_health(out: Printer, found: list[Health]) -> None:
    def simple() -> None:
        for one in found:
            if one.healthy:
                out.line(
                    f"{one.endpoint} is healthy: successfully committed proposal: took = {one.took}"
                )
            else:
                sys.stdout.flush()
                sys.stderr.write(
                    f"{one.endpoint} is unhealthy: failed to commit proposal: {one.error}\n"
                )

    def fields() -> None:
        for one in found:
            out.field("Endpoint", one.endpoint)
            out.field("Health", one.healthy)
            out.line(f'"Took" : {one.took}')
            out.line(f'"Error" : {one.error}')
            out.line("")

    def table() -> None:
        out.table(HEALTH_COLUMNS, [(e, str(h).lower(), t, x) for e, h, t, x in found])

    def json() -> str:
        return go_json(
            [
                {"endpoint": e, "health": h, "took": t, **({"error": x} if x else {})}
                for e, h, t, x in found
            ]
        )

    out.show(None, simple, fields=fields, table=table, json=json)


# status --------------------------------------------------------------------------------------


def status(invocation: Invocation) -> int:
    with Context(invocation) as context:
        return _ask_each(context, "status", methods.STATUS, rpc.StatusRequest(), _show_status)


def _show_status(out: Printer, answers: list[tuple[str, rpc.StatusResponse]]) -> None:
    newer = any(answer.storageVersion for _, answer in answers)  # servers from 3.6 on
    columns, row = (STATUS_COLUMNS_36, _row_36) if newer else (STATUS_COLUMNS, _row)
    rows = [row(name, answer) for name, answer in answers]

    def simple() -> None:
        for cells in rows:
            out.line(", ".join(cells))

    def fields() -> None:
        for name, answer in answers:
            _status_fields(out, name, answer, newer=newer)

    def json() -> str:
        return go_json([{"Endpoint": n, "Status": message_object(a)} for n, a in answers])

    out.show(None, simple, fields=fields, table=lambda: out.table(columns, rows), json=json)


def _row(name: str, answer: rpc.StatusResponse) -> tuple[str, ...]:
    return (
        name, f"{answer.header.member_id:x}", answer.version, human_bytes(answer.dbSize),
        *_raft_cells(answer),
    )  # fmt: skip


def _row_36(name: str, answer: rpc.StatusResponse) -> tuple[str, ...]:
    unused = 100 - answer.dbSizeInUse * 100 // answer.dbSize if answer.dbSize else 0
    info = answer.downgradeInfo
    return (
        name, f"{answer.header.member_id:x}", answer.version, answer.storageVersion,
        human_bytes(answer.dbSize), human_bytes(answer.dbSizeInUse), f"{unused}%",
        human_bytes(max(answer.dbSizeQuota, 0)), *_raft_cells(answer), info.targetVersion,
        "true" if info.enabled else "false",
    )  # fmt: skip


def _raft_cells(answer: rpc.StatusResponse) -> tuple[str, ...]:
    return (
        "true" if answer.leader == answer.header.member_id else "false",
        "true" if answer.isLearner else "false",
        str(answer.raftTerm),
        str(answer.raftIndex),
        str(answer.raftAppliedIndex),
        ", ".join(answer.errors),
    )


def _status_fields(out: Printer, name: str, answer: rpc.StatusResponse, *, newer: bool) -> None:
    out.header(answer)
    out.field("Version", answer.version)
    if newer:
        out.field("StorageVersion", answer.storageVersion)
    out.field("DBSize", answer.dbSize)
    if newer:
        out.field("DBSizeInUse", answer.dbSizeInUse)
        out.field("DBSizeQuota", answer.dbSizeQuota)
    out.field("Leader", answer.leader)
    out.field("IsLearner", answer.isLearner)
    out.field("RaftIndex", answer.raftIndex)
    out.field("RaftTerm", answer.raftTerm)
    out.field("RaftAppliedIndex", answer.raftAppliedIndex)
    out.line(f'"Errors" : [{" ".join(answer.errors)}]')
    out.field("Endpoint", name)
    if newer:
        out.field("DowngradeTargetVersion", answer.downgradeInfo.targetVersion)
        out.field("DowngradeEnabled", answer.downgradeInfo.enabled)
    out.line("")


# hashkv --------------------------------------------------------------------------------------


def hashkv(invocation: Invocation) -> int:
    with Context(invocation) as context:
        request = rpc.HashKVRequest(revision=context.values.integer("rev"))
        return _ask_each(context, "hash", methods.HASH_KV, request, _show_hashes)


def _show_hashes(out: Printer, answers: list[tuple[str, rpc.HashKVResponse]]) -> None:
    newer = any(answer.hash_revision for _, answer in answers)  # servers from 3.6 on
    columns = ("Endpoint", "Hash", "Hash Revision")[: 3 if newer else 2]
    rows = [
        (name, str(answer.hash), str(answer.hash_revision))[: len(columns)]
        for name, answer in answers
    ]

    def simple() -> None:
        for cells in rows:
            out.line(", ".join(cells))

    def fields() -> None:
        for name, answer in answers:
            out.header(answer)
            out.field("Endpoint", name)
            out.field("Hash", answer.hash)
            if newer:
                out.field("HashRevision", answer.hash_revision)
            out.line("")

    def json() -> str:
        objects: list[Any] = [{"Endpoint": n, "HashKV": message_object(a)} for n, a in answers]
        return go_json(objects)

    out.show(None, simple, fields=fields, table=lambda: out.table(columns, rows), json=json)
