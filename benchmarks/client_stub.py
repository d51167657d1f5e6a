"""An etcd that costs nearly nothing: canned answers, so that what is measured is the client.

    python benchmarks/client_stub.py        prints its port, serves until its input ends

It knows Put, Range (one key, or the ten thousand of a range) and Watch (created, then twenty
thousand events in twenty messages), with headers, keys and values as a real member sends them.
"""

import sys
import threading

from client_worker import EVENTS, EVENTS_PREFIX, RANGE_KEYS, RANGE_PREFIX, VALUE, key
from corum._transport import STREAM_MESSAGE, UNARY, Settings, Transport
from corum.pb import kv, rpc

PATHS = ("/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range", "/etcdserverpb.Watch/Watch")
PUT, RANGE = 0, 1
EVENTS_IN_MESSAGE = 1_000


def header(revision: int) -> rpc.ResponseHeader:
    return rpc.ResponseHeader(
        cluster_id=14841639068965178418, member_id=10276657743932975437,
        revision=revision, raft_term=2,
    )  # fmt: skip


def pair(name: bytes, revision: int) -> kv.KeyValue:
    return kv.KeyValue(
        key=name, value=VALUE, create_revision=revision, mod_revision=revision, version=1
    )


def answers() -> tuple[bytes, bytes, bytes]:
    """A put's, one key's, and the whole range's."""
    put = rpc.PutResponse(header=header(70_000))
    one = rpc.RangeResponse(header=header(70_000), kvs=[pair(key(1), 69_999)], count=1)
    names = (RANGE_PREFIX + b"%06d" % number for number in range(RANGE_KEYS))
    pairs = [pair(name, 1_000 + number) for number, name in enumerate(names)]
    bulk = rpc.RangeResponse(header=header(70_000), kvs=pairs, count=RANGE_KEYS)
    return put.SerializeToString(), one.SerializeToString(), bulk.SerializeToString()


def watch_messages() -> list[bytes]:
    created = rpc.WatchResponse(header=header(70_000), created=True)
    found = [created.SerializeToString()]
    for first in range(0, EVENTS, EVENTS_IN_MESSAGE):
        numbers = range(first, first + EVENTS_IN_MESSAGE)
        events = [kv.Event(kv=pair(EVENTS_PREFIX + b"%06d" % n, 20_000 + n)) for n in numbers]
        response = rpc.WatchResponse(header=header(70_000), events=events)
        found.append(response.SerializeToString())
    return found


def main() -> None:
    put, one, bulk = answers()
    events = watch_messages()
    kinds = ("unary", "unary", "bidi")
    with Transport(Settings(methods=list(zip(PATHS, kinds, strict=True)))) as transport:
        print(transport.listen("http://127.0.0.1:0").address.rpartition(":")[2], flush=True)
        threading.Thread(target=lambda: (sys.stdin.read(), transport.close()), daemon=True).start()
        while batch := transport.poll(-1, 1_024):
            replies = []
            for event in batch:
                if event[0] == UNARY:
                    wanted = one if event[2] == RANGE else put
                    if event[2] == RANGE and RANGE_PREFIX in event[3]:
                        wanted = bulk
                    replies.append((event[1], wanted))
                elif event[0] == STREAM_MESSAGE and event[2][:1] == b"\n":  # a create request
                    transport.send([(event[1], message) for message in events])
            if replies:
                transport.reply(replies)


if __name__ == "__main__":
    main()
