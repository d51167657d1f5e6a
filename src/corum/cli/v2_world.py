"""`corum discovery` and `corum copy-v2`: what people with v2 clusters need besides etcdctl.

A discovery token is a directory of v2 keys on any member (or Go etcd up to 3.5): other clusters
find each other there (v2-store.md §11). A copy reads the v2 tree and writes v3 keys by the log.
"""

from __future__ import annotations

import json
import uuid
from base64 import b64encode
from typing import Any, Final, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

import click

REGISTRY: Final = "/v2/keys/_etcd/registry"
ENDPOINT: Final = "http://127.0.0.1:2379"
TXN_KEYS: Final = 64  # puts of one transaction; servers allow 128 operations
TIMEOUT_S: Final = 60

_endpoint = click.option(
    "--endpoint", default=ENDPOINT, show_default=True, metavar="URL", help="a member's client URL"
)


@click.group()
def discovery() -> None:
    """Have a member of this cluster help other clusters to find together."""


@discovery.command()
@click.option(
    "--size",
    type=click.IntRange(1, 1_000),
    default=3,
    show_default=True,
    help="members to wait for",
)
@_endpoint
@click.option("--user", metavar="NAME:PASSWORD", help="of the v2 API")
def new(size: int, endpoint: str, user: str | None) -> None:
    """Make a token and print its URL, for `etcd --discovery URL` on every new member."""
    url = f"{endpoint.rstrip('/')}{REGISTRY}/{uuid.uuid4().hex}"
    _ask("PUT", f"{url}/_config/size", user, {"value": str(size), "prevExist": "false"})
    click.echo(url)


@click.command()
@_endpoint
@click.option("--from", "below", default="/", show_default=True, metavar="KEY", help="v2 directory")
@click.option("--prefix", default="", help="what the v3 keys begin with")
@click.option("--overwrite", is_flag=True, help="also v3 keys that are there already")
@click.option("--user", metavar="NAME:PASSWORD", help="of both APIs")
def copy_v2(endpoint: str, below: str, prefix: str, overwrite: bool, user: str | None) -> None:
    """Copy all v2 keys to v3 keys; a TTL becomes a lease. The v2 keys stay.

    Keys that change meanwhile may be copied as before or after. Keys below hidden directories
    (`_name`) are listed by nobody: name them with --from.
    """
    from corum.v2store.copying import of_json

    path = quote("/" + below.strip("/"))
    found = _ask("GET", f"{endpoint.rstrip('/')}/v2/keys{path}?recursive=true&quorum=true", user)
    copied, leases, kept = _copy(endpoint, of_json(found["node"]), prefix, overwrite, user)
    click.echo(f"copied {copied} keys, {leases} leases", nl=False)
    click.echo(f"; {kept} keys were there already" if kept else "")


def _copy(
    endpoint: str, keys: list[Any], prefix: str, overwrite: bool, user: str | None
) -> tuple[int, int, int]:
    """(keys written, leases granted, keys that were there). Raises ClickException."""
    import time

    from corum import Client
    from corum.client.errors import ClientError
    from corum.v2store.copying import end_s
    from corum.values import NS_PER_S

    name, _, password = (user or "").partition(":")
    granted: dict[int, int] = {}
    copied = kept = 0
    try:
        with Client(endpoint, user=name or None, password=password or None) as client:
            for at in range(0, len(keys), TXN_KEYS):
                named = {
                    (prefix + key.path).encode("utf-8", "replace"): key
                    for key in keys[at : at + TXN_KEYS]
                }
                there = set[bytes]() if overwrite else _existing(client, list(named))
                kept += len(there)
                batch: list[tuple[bytes, str, int]] = []
                for v3, key in named.items():
                    end = end_s(key) if key.expire_ns else 0
                    left_s = end - time.time_ns() // NS_PER_S
                    if v3 in there or (end and left_s <= 0):
                        continue  # it is not wanted, or has gone meanwhile
                    if end and end not in granted:
                        granted[end] = client.lease(left_s).lease_id
                    batch.append((v3, key.value, granted.get(end, 0)))
                written = _put(client, batch, overwrite)
                copied += written
                kept += len(batch) - written
    except ClientError as error:
        raise click.ClickException(str(error)) from None
    return copied, len(granted), kept


def _existing(client: Any, keys: list[bytes]) -> set[bytes]:
    """Which of them are there: no lease need be made for these."""
    from corum.client.requests import get

    found = client.txn([], [get(key, keys_only=True) for key in keys]).results
    return {key for key, one in zip(keys, found, strict=True) if one}


def _put(client: Any, batch: list[tuple[bytes, str, int]], overwrite: bool) -> int:
    """Write them, each only where there is nothing unless told otherwise; how many were written."""
    from corum.client.requests import put, txn, version

    puts = [put(key, text, lease=lease) for key, text, lease in batch]
    if overwrite:
        client.txn([], puts)
        return len(puts)
    each = [txn([version(key) == 0], [one]) for (key, _, _), one in zip(batch, puts, strict=True)]
    return sum(inner.succeeded for inner in client.txn([], each).results)


def _ask(
    verb: str, url: str, user: str | None, form: dict[str, str] | None = None
) -> dict[str, Any]:
    """One request of the v2 API. Raises ClickException with what the server says."""
    body = urlencode(form).encode() if form else None
    request = Request(url, body, method=verb)
    if user:
        request.add_header("Authorization", f"Basic {b64encode(user.encode()).decode()}")
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT_S) as answer:
            return cast("dict[str, Any]", json.load(answer))
    except HTTPError as error:
        text = error.read().decode("utf-8", "replace").strip()
        raise click.ClickException(f"{url}: {error.code} {text}") from None
    except (URLError, OSError, ValueError) as error:
        raise click.ClickException(f"{url}: {error}") from None
