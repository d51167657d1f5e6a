"""user add, delete, get, list, passwd, grant-role, revoke-role."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from corum.cli.command import bad_arguments
from corum.cli.etcdctl.context import Context
from corum.cli.etcdctl.role import show_role
from corum.cli.secret import secret
from corum.client import methods
from corum.pb import authpb, rpc

if TYPE_CHECKING:
    from corum.cli.command import Invocation


def add(invocation: Invocation) -> None:
    with Context(invocation) as context:
        if len(context.arguments) != 1:
            raise bad_arguments("user add command requires user name as its argument")
        name, password = _name_and_password(context, context.arguments[0])
        request = rpc.AuthUserAddRequest(
            name=name,
            password=password,
            options=authpb.UserAddOptions(no_password=context.values.boolean("no-password")),
        )
        response = context.call(methods.USER_ADD, request)
        context.out.done(response, f"User {name} created")


def _name_and_password(context: Context, word: str) -> tuple[str, str]:
    values = context.values
    if values.boolean("no-password"):
        return word, ""
    if values.string("new-user-password"):
        return word, values.string("new-user-password")
    name, colon, password = word.partition(":")
    if not colon:
        return name, _ask_password(name, interactive=values.boolean("interactive"))
    if not name:
        raise bad_arguments("empty user name is not allowed")
    return name, password


def _ask_password(name: str, *, interactive: bool) -> str:
    if not interactive:
        return sys.stdin.readline().rstrip("\r\n")
    first = secret(f"Password of {name}: ")
    if not first:
        raise bad_arguments("empty password")
    again = secret(f"Type password of {name} again for confirmation: ")
    if first != again:
        raise bad_arguments("given passwords are different")
    return first


def delete(invocation: Invocation) -> None:
    with Context(invocation) as context:
        name = _one(context, "user delete command requires user name as its argument")
        response = context.call(methods.USER_DELETE, rpc.AuthUserDeleteRequest(name=name))
        context.out.done(response, f"User {name} deleted")


def get(invocation: Invocation) -> None:
    with Context(invocation) as context:
        out = context.out
        name = _one(context, "user get command requires user name as its argument")
        response = context.call(methods.USER_GET, rpc.AuthUserGetRequest(name=name))
        if not context.values.boolean("detail"):

            def simple() -> None:
                out.line(f"User: {name}")
                out.line("Roles:" + "".join(f" {role}" for role in response.roles))

            out.show(response, simple)
            return
        out.line(f"User: {name}")
        for role in response.roles:
            out.line("")
            show_role(out, context.call(methods.ROLE_GET, rpc.AuthRoleGetRequest(role=role)), role)


def list_users(invocation: Invocation) -> None:
    with Context(invocation) as context:
        if context.arguments:
            raise bad_arguments("user list command requires no arguments")
        response = context.call(methods.USER_LIST, rpc.AuthUserListRequest())

        def simple() -> None:
            for user in response.users:
                context.out.line(user)

        context.out.show(response, simple)


def passwd(invocation: Invocation) -> None:
    with Context(invocation) as context:
        name = _one(context, "user passwd command requires user name as its argument")
        password = _ask_password(name, interactive=context.values.boolean("interactive"))
        request = rpc.AuthUserChangePasswordRequest(name=name, password=password)
        response = context.call(methods.USER_CHANGE_PASSWORD, request)
        context.out.done(response, "Password updated")


def grant_role(invocation: Invocation) -> None:
    with Context(invocation) as context:
        if len(context.arguments) != 2:
            raise bad_arguments(
                "user grant command requires user name and role name as its argument"
            )
        user, role = context.arguments
        request = rpc.AuthUserGrantRoleRequest(user=user, role=role)
        response = context.call(methods.USER_GRANT_ROLE, request)
        context.out.done(response, f"Role {role} is granted to user {user}")


def revoke_role(invocation: Invocation) -> None:
    with Context(invocation) as context:
        if len(context.arguments) != 2:
            raise bad_arguments("user revoke-role requires user name and role name as its argument")
        user, role = context.arguments
        request = rpc.AuthUserRevokeRoleRequest(name=user, role=role)
        response = context.call(methods.USER_REVOKE_ROLE, request)
        context.out.done(response, f"Role {role} is revoked from user {user}")


def _one(context: Context, complaint: str) -> str:
    if len(context.arguments) != 1:
        raise bad_arguments(complaint)
    return context.arguments[0]
