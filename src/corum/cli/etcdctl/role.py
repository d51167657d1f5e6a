"""role add, delete, get, list, grant-permission, revoke-permission."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.cli.command import bad_arguments
from corum.cli.etcdctl.context import Context, prefix_end, to_bytes
from corum.client import methods
from corum.pb import authpb, rpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corum.cli.command import Invocation
    from corum.cli.etcdctl.printers import Printer

READ, WRITE, READWRITE = 0, 1, 2
PERMISSIONS = {"read": READ, "write": WRITE, "readwrite": READWRITE}
OPEN = b"\0"  # as a range's end: no end


def add(invocation: Invocation) -> None:
    with Context(invocation) as context:
        name = _one(context, "add")
        response = context.call(methods.ROLE_ADD, rpc.AuthRoleAddRequest(name=name))
        context.out.done(response, f"Role {name} created")


def delete(invocation: Invocation) -> None:
    with Context(invocation) as context:
        name = _one(context, "delete")
        response = context.call(methods.ROLE_DELETE, rpc.AuthRoleDeleteRequest(role=name))
        context.out.done(response, f"Role {name} deleted")


def get(invocation: Invocation) -> None:
    with Context(invocation) as context:
        name = _one(context, "get")
        response = context.call(methods.ROLE_GET, rpc.AuthRoleGetRequest(role=name))
        show_role(context.out, response, name)


def list_roles(invocation: Invocation) -> None:
    with Context(invocation) as context:
        out = context.out
        if context.arguments:
            raise bad_arguments("role list command requires no arguments")
        response = context.call(methods.ROLE_LIST, rpc.AuthRoleListRequest())

        def simple() -> None:
            for role in response.roles:
                out.line(role)

        def fields() -> None:
            out.header(response)
            out.line('"Roles" :' + "".join(f' "{role}"' for role in response.roles))

        out.show(response, simple, fields=fields)


def grant(invocation: Invocation) -> None:
    with Context(invocation) as context:
        words = context.arguments
        if len(words) < 3:
            raise bad_arguments(
                "role grant command requires role name, permission type, and key [endkey] "
                "as its argument"
            )
        if words[1].lower() not in PERMISSIONS:
            raise bad_arguments(f"invalid permission type: {words[1]}")
        key, end = _range(context, words[2:])
        permission = authpb.Permission(
            permType=PERMISSIONS[words[1].lower()], key=key, range_end=end
        )
        request = rpc.AuthRoleGrantPermissionRequest(name=words[0], perm=permission)
        response = context.call(methods.ROLE_GRANT_PERMISSION, request)
        context.out.done(response, f"Role {words[0]} updated")


def revoke(invocation: Invocation) -> None:
    with Context(invocation) as context:
        words = context.arguments
        if len(words) < 2:
            raise bad_arguments(
                "role revoke-permission command requires role name and key [endkey] as its argument"
            )
        key, end = _range(context, words[1:])
        request = rpc.AuthRoleRevokePermissionRequest(role=words[0], key=key, range_end=end)
        response = context.call(methods.ROLE_REVOKE_PERMISSION, request)
        shown = _text(key)
        if not end:
            text = f"Permission of key {shown} is revoked from role {words[0]}"
        elif end == OPEN:
            text = f"Permission of range [{shown}, <open ended> is revoked from role {words[0]}"
        else:
            text = f"Permission of range [{shown}, {_text(end)}) is revoked from role {words[0]}"
        context.out.done(response, text)


def _range(context: Context, words: Sequence[str]) -> tuple[bytes, bytes]:
    """Key and range_end of a permission."""
    prefix, from_key = context.values.boolean("prefix"), context.values.boolean("from-key")
    if prefix and from_key:
        raise bad_arguments("--from-key and --prefix flags are mutually exclusive")
    key = to_bytes(words[0])
    if len(words) > 1:
        if prefix:
            raise bad_arguments("unexpected endkey argument with --prefix flag")
        if from_key:
            raise bad_arguments("unexpected endkey argument with --from-key flag")
        return key, to_bytes(words[1])
    if prefix:
        return (key, prefix_end(key)) if key else (b"\0", OPEN)
    return (key or b"\0", OPEN) if from_key else (key, b"")


def _one(context: Context, verb: str) -> str:
    if len(context.arguments) != 1:
        raise bad_arguments(f"role {verb} command requires role name as its argument")
    return context.arguments[0]


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def show_role(out: Printer, response: rpc.AuthRoleGetResponse, name: str) -> None:
    def simple() -> None:
        out.line(f"Role {name}")
        for title, other in (("KV Read:", WRITE), ("KV Write:", READ)):
            out.line(title)
            for permission in response.perm:
                if permission.permType != other:
                    out.line("\t" + _permitted(permission))

    def fields() -> None:
        out.header(response)
        for permission in response.perm:
            out.line(f'"PermType" :  {authpb.Permission.Type.Name(permission.permType)}')
            out.field("Key", permission.key)
            out.field("RangeEnd", permission.range_end)

    out.show(response, simple, fields=fields)


def _permitted(permission: authpb.Permission) -> str:
    key, end = permission.key, permission.range_end
    if not end:
        return _text(key)
    if end == OPEN:
        return f"[{_text(key)}, <open ended>"
    note = f" (prefix {_text(key)})" if prefix_end(key) == end else ""
    return f"[{_text(key)}, {_text(end)}){note}"
