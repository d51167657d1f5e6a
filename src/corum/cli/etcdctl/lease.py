"""lease grant, revoke, timetolive, list, keep-alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corum.cli.command import EXIT_BAD_CONNECTION, ExitError, bad_arguments
from corum.cli.etcdctl.context import Context, lease_id
from corum.cli.etcdctl.printers import flat_header, go_json
from corum.cli.gotext import GoSyntaxError, parse_int
from corum.client import methods
from corum.client._sync.runtime import RpcError
from corum.client.errors import ClientError, from_status
from corum.pb import rpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corum.cli.command import Invocation
    from corum.cli.etcdctl.printers import Printer

EXPIRED = -1


def grant(invocation: Invocation) -> None:
    with Context(invocation) as context:
        if len(context.arguments) != 1:
            raise bad_arguments("lease grant command needs TTL argument")
        try:
            ttl_s = parse_int(context.arguments[0])
        except GoSyntaxError as error:
            raise bad_arguments(f"bad TTL ({error})") from None
        try:
            response = context.session.call(methods.LEASE_GRANT, rpc.LeaseGrantRequest(TTL=ttl_s))
        except ClientError as error:
            raise context.failure(error, "failed to grant lease ({})") from None
        _show_grant(context.out, response)


def _show_grant(out: Printer, response: rpc.LeaseGrantResponse) -> None:
    def simple() -> None:
        out.line(f"lease {response.ID:016x} granted with TTL({response.TTL}s)")

    def fields() -> None:
        out.header(response)
        out.field("ID", response.ID)
        out.field("TTL", response.TTL)

    def json() -> str:
        own = {"ID": response.ID, "TTL": response.TTL, "Error": response.error}
        return go_json({**flat_header(response), **own})

    # Go prints the header alone as protobuf
    out.show(response.header, simple, fields=fields, json=json)


def revoke(invocation: Invocation) -> None:
    with Context(invocation) as context:
        if len(context.arguments) != 1:
            raise bad_arguments("lease revoke command needs 1 argument")
        identity = lease_id(context.arguments[0])
        try:
            request = rpc.LeaseRevokeRequest(ID=identity)
            response = context.session.call(methods.LEASE_REVOKE, request)
        except ClientError as error:
            raise context.failure(error, "failed to revoke lease ({})") from None
        out = context.out
        out.show(
            response,
            lambda: out.line(f"lease {identity:016x} revoked"),
            fields=lambda: out.header(response),
        )


def time_to_live(invocation: Invocation) -> None:
    with Context(invocation) as context:
        if len(context.arguments) != 1:
            raise bad_arguments("lease timetolive command needs lease ID as argument")
        with_keys = context.values.boolean("keys")
        request = rpc.LeaseTimeToLiveRequest(ID=lease_id(context.arguments[0]), keys=with_keys)
        response = context.call(methods.LEASE_TIME_TO_LIVE, request)
        response.keys.sort()  # Go etcd's servers give them in no order at all
        _show_time_to_live(context.out, response, with_keys=with_keys)


def _show_time_to_live(
    out: Printer, response: rpc.LeaseTimeToLiveResponse, *, with_keys: bool
) -> None:
    def simple() -> None:
        name = f"lease {response.ID:016x}"
        if response.grantedTTL == 0 and response.TTL == EXPIRED:
            out.line(f"{name} already expired")
            return
        text = f"{name} granted with TTL({response.grantedTTL}s), remaining({response.TTL}s)"
        out.raw(text.encode())
        if with_keys:
            out.raw(b", attached keys([" + b" ".join(response.keys) + b"])")
        out.raw(b"\n")

    def fields() -> None:
        out.header(response)
        out.field("ID", response.ID)
        out.field("TTL", response.TTL)
        out.field("GrantedTTL", response.grantedTTL)
        for key in response.keys:
            out.field("Key", key)

    def json() -> str:
        from base64 import b64encode

        keys = [b64encode(key).decode() for key in response.keys] or None
        own = {"id": response.ID, "ttl": response.TTL, "granted-ttl": response.grantedTTL}
        return go_json({**flat_header(response), **own, "keys": keys})

    out.show(response.header, simple, fields=fields, json=json)


def list_leases(invocation: Invocation) -> None:
    with Context(invocation) as context:
        out = context.out
        response = context.call(methods.LEASE_LEASES, rpc.LeaseLeasesRequest())
        identities = [lease.ID for lease in response.leases]

        def simple() -> None:
            out.line(f"found {len(identities)} leases")
            for identity in identities:
                out.line(f"{identity:016x}")

        def fields() -> None:
            out.header(response)
            for identity in identities:
                out.field("ID", identity)

        def json() -> str:
            leases = [{"id": identity} for identity in identities]
            return go_json({**flat_header(response), "leases": leases})

        out.show(response.header, simple, fields=fields, json=json)


def keep_alive(invocation: Invocation) -> None:
    with Context(invocation) as context:
        if len(context.arguments) != 1:
            raise bad_arguments("lease keep-alive command needs lease ID as argument")
        identity = lease_id(context.arguments[0])
        if context.values.boolean("once"):
            response = _renew_once(context, identity)
            if response.TTL <= 0:
                raise ExitError(EXIT_BAD_CONNECTION, "etcdserver: requested lease not found")
            _show_renewal(context.out, response)
            return
        for response in renewals(context, identity):
            _show_renewal(context.out, response)
        context.out.line(f"lease {identity:016x} expired or revoked.")


def _renew_once(context: Context, identity: int) -> rpc.LeaseKeepAliveResponse:
    for response in renewals(context, identity, with_end=True):
        return response
    raise AssertionError("renewals ended without an answer")


def renewals(
    context: Context, identity: int, *, with_end: bool = False
) -> Iterator[rpc.LeaseKeepAliveResponse]:
    """Renew a lease every third of its TTL; every answer, until it is gone.

    with_end: also the answer that says so (TTL 0). Connections that break are made again.
    """
    from time import sleep

    request = rpc.LeaseKeepAliveRequest(ID=identity).SerializeToString()
    while True:
        stream = context.session.stream(methods.LEASE_KEEP_ALIVE)
        try:
            while True:
                stream.send(request)
                data = stream.receive()
                if data is None:
                    break
                response = methods.LEASE_KEEP_ALIVE.decode(data)
                if response.TTL <= 0:
                    if with_end:
                        yield response
                    return
                yield response
                sleep(max(response.TTL / 3, 0.5))
        except RpcError as error:
            if not context.session.stream_ended(stream, error):
                raise context.failure(from_status(error.code, error.text)) from None
        finally:
            stream.cancel()


def _show_renewal(out: Printer, response: rpc.LeaseKeepAliveResponse) -> None:
    def simple() -> None:
        out.line(f"lease {response.ID:016x} keepalived with TTL({response.TTL})")

    def fields() -> None:
        out.header(response)
        out.field("ID", response.ID)
        out.field("TTL", response.TTL)

    def json() -> str:
        return go_json({**flat_header(response), "ID": response.ID, "TTL": response.TTL})

    out.show(response.header, simple, fields=fields, json=json)
