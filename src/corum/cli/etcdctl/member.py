"""member list, add, remove, update, promote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from corum.cli.command import EXIT_BAD_FEATURE, EXIT_ERROR, ExitError, bad_arguments
from corum.cli.etcdctl.context import Context, member_id
from corum.cli.etcdctl.printers import go_json, message_object
from corum.client import methods
from corum.pb import rpc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

    from corum.cli.command import Invocation
    from corum.cli.etcdctl.printers import Printer

COLUMNS = ("ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner")
SCHEMES = ("http", "https", "unix", "unixs")


def list_members(invocation: Invocation) -> None:
    with Context(invocation) as context:
        out = context.out
        consistency = context.values.string("consistency")
        if consistency not in ("l", "s"):
            raise ExitError(EXIT_BAD_FEATURE, f'unknown consistency flag "{consistency}"')
        request = rpc.MemberListRequest(linearizable=consistency == "l")
        response = context.call(methods.MEMBER_LIST, request)
        rows = [_row(member) for member in response.members]

        def simple() -> None:
            for row in rows:
                out.line(", ".join(row))

        def fields() -> None:
            out.header(response)
            for member in response.members:
                _member_fields(out, member)

        out.show(
            response,
            simple,
            fields=fields,
            table=lambda: out.table(COLUMNS, rows),
            json=(lambda: go_json(_hexadecimal(response))) if out.hexadecimal else None,
        )


def _row(member: rpc.Member) -> tuple[str, ...]:
    return (
        f"{member.ID:x}",
        "started" if member.name else "unstarted",
        member.name,
        ",".join(member.peerURLs),
        ",".join(member.clientURLs),
        "true" if member.isLearner else "false",
    )


def _member_fields(out: Printer, member: rpc.Member) -> None:
    out.field("ID", member.ID)
    out.field("Name", member.name)
    for url in member.peerURLs:
        out.field("PeerURL", url)
    for url in member.clientURLs:
        out.field("ClientURL", url)
    out.field("IsLearner", member.isLearner)
    out.line("")


def _hexadecimal(response: rpc.MemberListResponse) -> dict[str, Any]:
    """The JSON form with ids as hexadecimal text."""
    whole = message_object(response)
    for holder, names in [(whole["header"], ("cluster_id", "member_id"))] + [
        (member, ("ID",)) for member in whole.get("members", [])
    ]:
        for name in names:
            if name in holder:
                holder[name] = f"{holder[name]:x}"
    return whole


def add(invocation: Invocation) -> None:
    with Context(invocation) as context:
        if not context.arguments:
            raise bad_arguments("member name not provided")
        if len(context.arguments) > 1:
            message = "too many arguments"
            if any(_looks_like_url(word) for word in context.arguments[1:]):
                message += f", did you mean --peer-urls={context.arguments[1]}"
            raise bad_arguments(message)
        name = context.arguments[0]
        urls = _peer_urls(context)
        request = rpc.MemberAddRequest(peerURLs=urls, isLearner=context.values.boolean("learner"))
        response = context.call(methods.MEMBER_ADD, request)
        _show_add(context.out, response, name)


def _looks_like_url(word: str) -> bool:
    return word.partition("://")[0] in SCHEMES and "://" in word


def _peer_urls(context: Context) -> list[str]:
    given = context.values.string("peer-urls")
    if not given:
        raise bad_arguments("member peer urls not provided")
    urls = given.split(",")
    for url in urls:
        problem = _url_problem(url)
        if problem:
            raise ExitError(EXIT_ERROR, problem)
    return urls


def _url_problem(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket, as far as Python is concerned
        if url.count("[") == url.count("]"):
            return ""  # the server knows what it thinks of such an address
        return f"parse \"{url}\": missing ']' in host"
    if parts.scheme not in SCHEMES:
        return f"URL scheme must be http, https, unix, or unixs: {url}"
    if parts.scheme in ("http", "https"):
        host, colon, port = parts.netloc.rpartition(":")
        if not colon or not port.isdigit() or not host:
            return f'URL address does not have the form "host:port": {url}'
    if parts.path not in ("", "/") and parts.scheme in ("http", "https"):
        return f"URL must not contain a path: {url}"
    return ""


def _show_add(out: Printer, response: rpc.MemberAddResponse, name: str) -> None:
    member = response.member

    def simple() -> None:
        word = "added as learner to" if member.isLearner else "added to"
        out.line(f"Member {member.ID:16x} {word} cluster {response.header.cluster_id:16x}")
        others = [
            f"{other.name if other.ID != member.ID else name}={url}"
            for other in response.members
            for url in other.peerURLs
        ]
        out.line(f'\nETCD_NAME="{name}"')
        out.line(f'ETCD_INITIAL_CLUSTER="{",".join(others)}"')
        out.line(f'ETCD_INITIAL_ADVERTISE_PEER_URLS="{",".join(member.peerURLs)}"')
        out.line('ETCD_INITIAL_CLUSTER_STATE="existing"')

    out.show(response, simple)


def remove(invocation: Invocation) -> None:
    with Context(invocation) as context:
        identity = _one_id(context)
        response = context.call(methods.MEMBER_REMOVE, rpc.MemberRemoveRequest(ID=identity))
        _show_done(context.out, response, identity, "removed from")


def update(invocation: Invocation) -> None:
    with Context(invocation) as context:
        identity = _one_id(context)
        urls = context.values.string("peer-urls")
        if not urls:
            raise bad_arguments("member peer urls not provided")
        request = rpc.MemberUpdateRequest(ID=identity, peerURLs=urls.split(","))
        _show_done(
            context.out, context.call(methods.MEMBER_UPDATE, request), identity, "updated in"
        )


def promote(invocation: Invocation) -> None:
    with Context(invocation) as context:
        identity = _one_id(context)
        response = context.call(methods.MEMBER_PROMOTE, rpc.MemberPromoteRequest(ID=identity))
        _show_done(context.out, response, identity, "promoted in")


def _one_id(context: Context) -> int:
    if len(context.arguments) != 1:
        raise bad_arguments("member ID is not provided")
    return member_id(context.arguments[0])


def _show_done(out: Printer, response: Message, identity: int, what: str) -> None:
    header: rpc.ResponseHeader = getattr(response, "header")  # noqa: B009

    def simple() -> None:
        out.line(f"Member {identity:16x} {what} cluster {header.cluster_id:16x}")

    out.show(response, simple)


def client_urls(members: Iterable[rpc.Member]) -> list[str]:
    """All client URLs, in the order of the members."""
    return [url for member in members for url in member.clientURLs]
