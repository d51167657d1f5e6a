"""The judge of a run's history: who made which revision."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from corum.pb import rpc
from corum.sim.checkers import Attribution
from corum.sim.model import Event, History
from corum.sim.sessions import GAVE_UP, Operation
from corum.sim.world import Violation


def unknown(ticket: int, name: str, request: Any) -> Operation:
    """A request whose client gave up: nobody can say whether it was carried out."""
    return Operation("client", name, request, ticket, 0, returned=ticket + 1, text=GAVE_UP)


def written_or_deleted(ticket: int, value: bytes) -> Operation:
    """If the key is there it is deleted, else written."""
    request = rpc.TxnRequest()
    request.compare.add(key=b"k", target=rpc.Compare.VERSION, result=rpc.Compare.EQUAL, version=0)
    request.success.add().request_put.CopyFrom(rpc.PutRequest(key=b"k", value=value))
    request.failure.add().request_delete_range.CopyFrom(rpc.DeleteRangeRequest(key=b"k"))
    return unknown(ticket, "KV/Txn", request)


def auditor(*revisions: Event) -> Any:
    history = History()
    for event in revisions:
        history.add([event])
    seen = {revision: (100 + revision, 0) for revision in range(2, history.revision + 1)}
    return SimpleNamespace(history=history, seen=seen)


def test_a_transaction_known_by_its_value_is_not_looked_at_for_a_deletion() -> None:
    """Another one made that, though the first would have done the same there."""
    txn = written_or_deleted(1, b"v")
    delete = unknown(3, "KV/DeleteRange", rpc.DeleteRangeRequest(key=b"k"))
    found = Attribution(auditor(Event(b"k", b"v"), Event(b"k", None)), [txn, delete])
    assert found.by_revision == {2: txn, 3: delete}


def test_a_transaction_carried_out_twice_is_found_out() -> None:
    txn = written_or_deleted(1, b"v")
    with pytest.raises(Violation, match="nobody made revision 3"):
        Attribution(auditor(Event(b"k", b"v"), Event(b"k", None)), [txn])
