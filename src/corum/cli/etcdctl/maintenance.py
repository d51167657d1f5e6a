"""defrag, move-leader, downgrade."""

from __future__ import annotations

import sys
from time import monotonic_ns
from typing import TYPE_CHECKING

from corum.cli.command import EXIT_ERROR, bad_arguments
from corum.cli.etcdctl.context import Context, log_failure
from corum.cli.etcdctl.endpoint import endpoints
from corum.cli.gotext import GoSyntaxError, format_duration, parse_uint
from corum.client import methods
from corum.client.errors import ClientError
from corum.pb import rpc

if TYPE_CHECKING:
    from corum.cli.command import Invocation

ACTIONS = {"validate": 0, "enable": 1, "cancel": 2}


def defrag(invocation: Invocation) -> int:
    with Context(invocation) as context:
        if context.values.string("data-dir"):
            from corum.cli.etcdctl.offline import defragment

            return defragment(context.values.string("data-dir"))
        failures = 0
        for name in endpoints(context):
            failures += not _defragment(context, name)
        return EXIT_ERROR if failures else 0


def _defragment(context: Context, name: str) -> bool:
    begin_ns = monotonic_ns()
    try:
        with context.connect([name]) as session:
            session.call(methods.DEFRAGMENT, rpc.DefragmentRequest())
    except ClientError as error:
        log_failure(error, [name])
        took = format_duration(monotonic_ns() - begin_ns)
        sys.stderr.write(
            f"Failed to defragment etcd member[{name}]. took {took}. ({error.go_text()})\n"
        )
        return False
    took = format_duration(monotonic_ns() - begin_ns)
    context.out.line(f"Finished defragmenting etcd member[{name}]. took {took}")
    sys.stdout.flush()
    return True


def move_leader(invocation: Invocation) -> None:
    with Context(invocation) as context:
        if len(context.arguments) != 1:
            raise bad_arguments("move-leader command needs 1 argument")
        try:
            target = parse_uint(context.arguments[0], 16)
        except GoSyntaxError as error:
            raise bad_arguments(str(error)) from None
        leader, name = _leader(context)
        try:
            with context.connect([name]) as session:
                session.call(methods.MOVE_LEADER, rpc.MoveLeaderRequest(targetID=target))
        except ClientError as error:
            raise context.failure(error) from None
        context.out.line(f"Leadership transferred from {leader:x} to {target:x}")


def _leader(context: Context) -> tuple[int, str]:
    """The leader's id and its endpoint among --endpoints."""
    names = context.endpoints()
    for name in names:
        try:
            with context.connect([name]) as session:
                answer = session.call(methods.STATUS, rpc.StatusRequest())
        except ClientError as error:
            raise context.failure(error) from None
        if answer.header.member_id == answer.leader:
            return answer.leader, name
    raise bad_arguments(f"no leader endpoint given at [{' '.join(names)}]")


def downgrade(invocation: Invocation) -> None:
    with Context(invocation) as context:
        action = invocation.command.name
        version = ""
        if action != "cancel":
            if not context.arguments:
                raise bad_arguments("TARGET_VERSION not provided")
            if len(context.arguments) > 1:
                raise bad_arguments("too many arguments")
            version = context.arguments[0]
            if not version:
                raise bad_arguments("target version not provided")
        request = rpc.DowngradeRequest(action=ACTIONS[action], version=version)
        response = context.call(methods.DOWNGRADE, request)
        context.out.show(
            response,
            lambda: context.out.line(
                f"Downgrade {action} success, cluster version {response.version}"
            ),
        )
