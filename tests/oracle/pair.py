"""Two servers side by side that get the same requests: Go's, which is right, and ours.

Their revisions advance in lockstep. `align` gives a test a pair that is in step, with no keys,
leases or alarms; if an earlier test let them drift apart, both begin afresh.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from corum.pb import rpc
from oracle import servers
from oracle.rpc import Client, Refused

MASKED = {"cluster_id", "member_id"}  # follow from the peer URL, whose port differs
NEWER = {"hash_revision", "storageVersion", "dbSizeQuota", "version", "downgradeInfo"}  # than 3.5.1


def right() -> servers.Program | None:
    """Go etcd 3.5.1; the newest one with CORUM_ORACLE=newest."""
    return servers.go_newest() if os.environ.get("CORUM_ORACLE") == "newest" else servers.go35()


class Pair:
    """`go` and `ours` run; `clients` are one gRPC connection to each, Go's first."""

    def __init__(
        self, folder: Path, our_flags: Sequence[str] = (), go: servers.Program | None = None
    ) -> None:
        go, ours = go or right(), servers.ours()
        assert go, "no Go etcd here"
        assert ours, "corum has no daemon yet"
        self.go = servers.Server(go, folder / "go")
        self.ours = servers.Server(ours, folder / "ours", our_flags)
        self.clients: tuple[Client, Client] | None = None

    @property
    def servers(self) -> tuple[servers.Server, servers.Server]:
        return self.go, self.ours

    def start(self) -> "Pair":
        for server in self.servers:
            server.spawn()
        for server in self.servers:
            server.wait_ready()
        self.clients = (Client(self.go.endpoint), Client(self.ours.endpoint))
        return self

    def stop(self) -> None:
        for client in self.clients or ():
            client.close()
        self.clients = None
        for server in self.servers:
            server.kill()

    def each(self, work: Callable[[Client], Any]) -> tuple[Any, Any]:
        """`work` done on Go's client, then on ours."""
        assert self.clients, "the pair was not started"
        return work(self.clients[0]), work(self.clients[1])

    def call(self, method: str, request: Message) -> tuple[Any, Any]:
        return self.each(lambda client: client.call(method, request))

    def same(self, method: str, request: Message) -> Any:
        """Both servers' answer, masked, after it was found to be equal."""
        go, ours = (masked(answer) for answer in self.call(method, request))
        assert ours == go, f"{method} {request!s}\nours: {ours}\n  go: {go}"
        return go

    def align(self) -> "Pair":
        if not all(server.alive() for server in self.servers) or not self._in_step():
            self.stop()
            for server in self.servers:
                shutil.rmtree(server.data_dir, ignore_errors=True)
                server.log_path.unlink(missing_ok=True)
            self.start()
            assert self._in_step(), "two fresh servers differ in their revision"
        return self

    def _in_step(self) -> bool:
        go, ours = self.each(sweep)
        return go == ours


def sweep(client: Client) -> Any:
    """Remove all leases, keys and alarms; the revision afterwards, None if it did not work."""
    leases = client.call("Lease/LeaseLeases", rpc.LeaseLeasesRequest())
    if isinstance(leases, Refused):
        return None
    for lease in leases.leases:
        client.call("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease.ID))
    everything = rpc.DeleteRangeRequest(key=b"\0", range_end=b"\0")
    answer = client.call("KV/DeleteRange", everything)
    if isinstance(answer, Refused):
        return None
    return answer.header.revision, answer.header.raft_term


def masked(answer: Any) -> Any:
    """An answer as plain values without what may differ between two right servers."""
    if not isinstance(answer, Message):
        return answer
    out: dict[str, Any] = {}
    for field, found in answer.ListFields():
        if field.name in MASKED or field.name in NEWER:
            continue
        if field.message_type is None:
            out[field.name] = list(found) if is_list(found) else found
        elif is_list(found):
            out[field.name] = [masked(item) for item in found]
        else:
            out[field.name] = masked(found)
    return out


def is_list(found: Any) -> bool:
    return not isinstance(found, str | bytes | Message) and hasattr(found, "__iter__")
