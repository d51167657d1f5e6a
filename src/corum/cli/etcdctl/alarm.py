"""alarm list and disarm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.cli.command import bad_arguments
from corum.cli.etcdctl.context import Context
from corum.client import methods
from corum.pb import rpc

if TYPE_CHECKING:
    from corum.cli.command import Invocation
    from corum.cli.etcdctl.printers import Printer


def list_alarms(invocation: Invocation) -> None:
    with Context(invocation) as context:
        if context.arguments:
            raise bad_arguments("alarm list command accepts no arguments")
        _show(context.out, context.call(methods.ALARM, rpc.AlarmRequest()))


def disarm(invocation: Invocation) -> None:
    """End every alarm that is on, one by one; prints those that were."""
    with Context(invocation) as context:
        if context.arguments:
            raise bad_arguments("alarm disarm command accepts no arguments")
        ended = rpc.AlarmResponse()
        for alarm in context.call(methods.ALARM, rpc.AlarmRequest()).alarms:
            request = rpc.AlarmRequest(
                action=rpc.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm
            )
            ended.alarms.extend(context.call(methods.ALARM, request).alarms)
        _show(context.out, ended)


def _show(out: Printer, response: rpc.AlarmResponse) -> None:
    def simple() -> None:
        for alarm in response.alarms:
            out.line(_text_form(alarm))

    def fields() -> None:
        out.header(response)
        for alarm in response.alarms:
            out.field("MemberID", alarm.memberID)
            out.line(f'"AlarmType" : {rpc.AlarmType.Name(alarm.alarm)}')
            out.line("")

    out.show(response, simple, fields=fields)


def _text_form(alarm: rpc.AlarmMember) -> str:
    """As protobuf's text format writes it, the blank at the end included."""
    member = f"memberID:{alarm.memberID} " if alarm.memberID else ""
    kind = f"alarm:{rpc.AlarmType.Name(alarm.alarm)} " if alarm.alarm else ""
    return member + kind
