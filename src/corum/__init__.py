"""corum: etcd in Python. The public names; nothing is imported before it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corum import recipes as recipes
    from corum import v2 as v2
    from corum.client._async.client import AsyncClient
    from corum.client._sync.client import Client
    from corum.client.options import Tls
    from corum.cluster.cluster import LocalCluster
    from corum.member.embed import Member

__all__ = ["AsyncClient", "Client", "LocalCluster", "Member", "Tls", "recipes", "v2"]

_WHERE = {
    "AsyncClient": "corum.client._async.client",
    "Client": "corum.client._sync.client",
    "LocalCluster": "corum.cluster.cluster",
    "Member": "corum.member.embed",
    "Tls": "corum.client.options",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in ("recipes", "v2"):
        return import_module(f"corum.{name}")
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
