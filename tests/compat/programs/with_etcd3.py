"""A program on the library etcd3, run by `test_foreign_clients`: python with_etcd3.py HOST PORT."""

import io
import sys
import threading

import etcd3

client = etcd3.client(host=sys.argv[1], port=int(sys.argv[2]), timeout=20)

client.put("a", "1")
client.put("a/b", "2")
value, meta = client.get("a")
assert (value, meta.key, meta.version) == (b"1", b"a", 1), (value, meta)
assert [value for value, _ in client.get_prefix("a")] == [b"1", b"2"]
assert client.replace("a", "1", "3")
assert not client.replace("a", "1", "4")
assert not client.put_if_not_exists("a", "x")

done, answers = client.transaction(
    compare=[client.transactions.value("a") == "3", client.transactions.version("a") > 0],
    success=[client.transactions.put("t", "yes"), client.transactions.get("a")],
    failure=[client.transactions.put("t", "no")],
)
assert done
assert answers[1][0][0] == b"3", answers

events, cancel = client.watch_prefix("w/")
threading.Timer(0.2, client.put, ("w/1", "x")).start()
event = next(events)
assert (event.key, event.value) == (b"w/1", b"x"), event
client.delete("w/1")
assert isinstance(next(events), etcd3.events.DeleteEvent)
cancel()

lease = client.lease(30)
client.put("l", "x", lease=lease)
assert lease.remaining_ttl > 0
assert lease.keys == [b"l"], lease.keys
list(lease.refresh())
lease.revoke()
assert client.get("l")[0] is None

with client.lock("mutex", ttl=10) as lock:
    assert lock.is_acquired()

assert client.delete_prefix("a").deleted == 2
assert [member.name for member in client.members] == ["default"]
status = client.status()
assert status.leader.name == "default"
assert list(client.list_alarms()) == []
assert client.hash() != 0
client.defragment()
client.compact(status.raft_index and client.put("z", "1").header.revision)
snapshot = io.BytesIO()
client.snapshot(snapshot)
assert len(snapshot.getvalue()) > 8_192
print("done")
