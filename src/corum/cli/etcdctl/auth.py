"""auth enable, disable, status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.cli.command import EXIT_ERROR, ExitError, bad_arguments
from corum.cli.etcdctl.context import Context
from corum.client import methods
from corum.client.errors import ClientError
from corum.pb import rpc

if TYPE_CHECKING:
    from corum.cli.command import Invocation

NO_ROOT_ROLE = "etcdserver: root user does not have root role"


def enable(invocation: Invocation) -> None:
    """Switch it on; a root user who lacks the role root is given it first."""
    with Context(invocation) as context:
        _no_arguments(context, "enable")
        for _ in range(2):
            try:
                context.session.call(methods.AUTH_ENABLE, rpc.AuthEnableRequest())
                break
            except ClientError as error:
                if error.text != NO_ROOT_ROLE:
                    raise context.failure(error) from None
                context.call(methods.ROLE_ADD, rpc.AuthRoleAddRequest(name="root"))
                request = rpc.AuthUserGrantRoleRequest(user="root", role="root")
                context.call(methods.USER_GRANT_ROLE, request)
        else:
            raise ExitError(EXIT_ERROR, NO_ROOT_ROLE)
        context.out.line("Authentication Enabled")


def disable(invocation: Invocation) -> None:
    with Context(invocation) as context:
        _no_arguments(context, "disable")
        context.call(methods.AUTH_DISABLE, rpc.AuthDisableRequest())
        context.out.line("Authentication Disabled")


def status(invocation: Invocation) -> None:
    with Context(invocation) as context:
        _no_arguments(context, "status")
        response = context.call(methods.AUTH_STATUS, rpc.AuthStatusRequest())

        def simple() -> None:
            context.out.line(f"Authentication Status: {'true' if response.enabled else 'false'}")
            context.out.line(f"AuthRevision: {response.authRevision}")

        context.out.show(response, simple)


def _no_arguments(context: Context, verb: str) -> None:
    if context.arguments:
        raise bad_arguments(f"auth {verb} command does not accept any arguments")
