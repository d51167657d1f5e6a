"""What the recorded conversations cannot show: waiting, limits, expiry order, odd snapshots."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corum.v2store import Event, Request, Store, V2Error, Waiter, apply, capture, recover
from corum.v2store.gojson import format_time, parse_time, quote
from corum.v2store.store import YEAR_2000_NS
from corum.v2store.tree import clean

S = 1_000_000_000
NOW = 1_800_000_000 * S


def put(store: Store, path: str, value: str = "v", ttl_s: int | None = None) -> Event:
    expire_ns = 0 if ttl_s is None else NOW + ttl_s * S
    return store.set(path, value, expire_ns=expire_ns, now_ns=NOW)


def wait(store: Store, path: str, since: int = 0, **how: bool) -> Waiter:
    return store.watch(
        path, recursive=how.get("recursive", False), stream=how.get("stream", False), since=since
    )


def told(waiter: Waiter) -> list[tuple[str, str]]:
    return [(event.action, event.node.key) for event in waiter.take()]


def test_a_waiter_gets_one_event_and_is_gone() -> None:
    """wait=true: the next event on the key, then nothing."""
    store = Store()
    waiter = wait(store, "/1/a")
    put(store, "/1/b")
    assert store.hub.take_told() == []
    put(store, "/1/a")
    put(store, "/1/a")
    assert store.hub.take_told() == [waiter]
    assert waiter.removed
    assert told(waiter) == [("set", "/1/a")]
    assert store.hub.count == 0


def test_a_future_index_waits_and_the_start_index_is_told() -> None:
    """Events before it do not count; X-Etcd-Index is the index when the wait began."""
    store = Store()
    put(store, "/1/a")
    waiter = wait(store, "/1/a", since=3)
    assert waiter.start_index == 1
    put(store, "/1/a")
    assert waiter.events == []
    assert put(store, "/1/a").index == 3
    assert told(waiter) == [("set", "/1/a")]


def test_recursive_waiters_see_below_but_not_hidden() -> None:
    """A waiter on the hidden path itself sees it."""
    store = Store()
    above = wait(store, "/1/a", recursive=True, stream=True)
    root = wait(store, "/", recursive=True, stream=True)
    inside = wait(store, "/1/a/_h", recursive=True, stream=True)
    flat = wait(store, "/1/a", stream=True)
    for path in ("/1/a/b", "/1/a/_h/x", "/1/a/c/_h", "/1/ab"):
        put(store, path)
    assert told(above) == [("set", "/1/a/b")]
    assert told(root) == [("set", "/1/a/b"), ("set", "/1/ab")]
    assert told(inside) == [("set", "/1/a/_h/x")]
    assert told(flat) == []


def test_a_stream_hears_of_its_own_deletion_twice() -> None:
    """Once as removed, once as changed: measured on etcd 3.5.1."""
    store = Store()
    put(store, "/1/a")
    stream = wait(store, "/1/a", stream=True)
    store.delete("/1/a", directory=False, recursive=False, now_ns=NOW)
    assert told(stream) == [("delete", "/1/a")] * 2


@pytest.mark.parametrize("how", ["delete", "expire"])
def test_waiters_below_a_vanishing_directory_are_told(how: str) -> None:
    """They get the directory's event, even though their own key had none."""
    store = Store()
    store.set("/1/d", "", directory=True, expire_ns=NOW + S, now_ns=NOW)
    put(store, "/1/d/a/b")
    waiter = wait(store, "/1/d/a/b")
    absent = wait(store, "/1/d/never")
    if how == "delete":
        store.delete("/1/d", directory=True, recursive=True, now_ns=NOW)
    else:
        store.delete_expired(NOW + S, NOW + S)
    assert told(waiter) == [(how, "/1/d")]
    assert told(absent) == []
    assert told(wait(store, "/1/d/a/b", since=3)) == [(how, "/1/d")], "and so says the history"


@pytest.mark.parametrize(("count", "dropped"), [(100, False), (101, True)])
def test_a_slow_stream_is_dropped_after_100_events(count: int, dropped: bool) -> None:
    """It keeps what it has; the server ends the answer."""
    store = Store()
    stream = wait(store, "/1/a", stream=True)
    for _ in range(count):
        put(store, "/1/a")
    assert stream.removed == dropped
    assert len(stream.take()) == 100
    assert store.hub.count == (0 if dropped else 1)
    assert store.hub.take_told() == [stream]


def test_the_history_keeps_1000_events_of_all_keys() -> None:
    """The oldest kept can be asked for, the one before it is 401 with both numbers."""
    store = Store()
    for _ in range(1_005):
        put(store, "/1/a")
    assert [event.index for event in wait(store, "/1/a", since=6).take()] == [6]
    with pytest.raises(V2Error) as raised:
        wait(store, "/1/a", since=5)
    assert raised.value.to_json() == (
        '{"errorCode":401,"message":"The event in requested index is outdated and cleared",'
        '"cause":"the requested history has been cleared [6/5]","index":1005}'
    )
    assert raised.value.http_status == 400


def test_refreshes_wake_nobody_and_are_skipped() -> None:
    """They move the index and the expiry, and keep the value."""
    store = Store()
    put(store, "/1/a", "x", ttl_s=5)
    waiter = wait(store, "/1/a")
    event = store.set("/1/a", "", expire_ns=NOW + 9 * S, refresh=True, now_ns=NOW)
    assert (event.node.value, event.node.ttl_s, event.index) == ("x", 9, 2)
    assert waiter.events == []
    assert wait(store, "/1/a", since=2).events == []
    assert store.delete_expired(NOW + 8 * S, NOW) == []
    assert [each.node.key for each in store.delete_expired(NOW + 9 * S, NOW)] == ["/1/a"]
    assert told(waiter) == [("expire", "/1/a")]


def test_expiry_comes_in_order_and_with_children() -> None:
    """The earliest first, equal ones by path; a directory takes everything with it."""
    store = Store()
    for path, ttl_s in (("/1/c", 3), ("/1/b", 1), ("/1/a", 3), ("/1/late", 4)):
        put(store, path, ttl_s=ttl_s)
    store.set("/1/dir", "", directory=True, expire_ns=NOW + 2 * S, now_ns=NOW)
    put(store, "/1/dir/x", ttl_s=3)
    events = store.delete_expired(NOW + 3 * S, NOW + 3 * S)
    assert [event.node.key for event in events] == ["/1/b", "/1/dir", "/1/a", "/1/c"]
    assert [event.index for event in events] == [7, 8, 9, 10]
    assert events[1].node.directory
    assert store.stats.counts["expireCount"] == 4
    assert store.has_ttl_keys
    store.update("/1/late", "v", now_ns=NOW)
    assert not store.has_ttl_keys


def test_an_expiry_before_2000_means_never_at_creation() -> None:
    """On update it is what it says: long due."""
    store = Store()
    event = store.set("/1/a", "x", expire_ns=YEAR_2000_NS - 1, now_ns=NOW)
    assert event.node.expire_ns == 0
    assert store.set("/1/a", "x", expire_ns=YEAR_2000_NS, now_ns=NOW).node.expire_ns == YEAR_2000_NS
    store.update("/1/a", "x", expire_ns=YEAR_2000_NS - 1, now_ns=NOW)
    assert len(store.delete_expired(NOW, NOW)) == 1


def test_a_directory_can_be_refreshed_by_an_update() -> None:
    """The documented way (3.5 alone answers an internal error); with a value it is refused."""
    store = Store()
    store.set("/1/d", "", directory=True, now_ns=NOW)
    event = store.update("/1/d", "", expire_ns=NOW + 5 * S, now_ns=NOW)
    assert (event.action, event.node.directory, event.node.ttl_s) == ("update", True, 5)
    shown = store.get("/1/d", recursive=False, ordered=False, now_ns=NOW).node
    assert (event.index, shown.modified_index) == (2, 1), "the directory itself keeps its index"
    refused = apply(store, Request("PUT", "/1/d", val="x", prev_exist=True), NOW)
    assert isinstance(refused, V2Error)
    assert refused.code == 102


def test_paths_may_be_as_deep_as_go_etcd_takes_them() -> None:
    """Whatever a Go member proposes is carried out, shown, saved, recovered and deleted."""
    store, depth = Store(), 2_040
    deep = "/1" + "/x" * depth
    put(store, deep)
    other = Store()
    recover(other, capture(store).encode())
    assert other.get(deep, recursive=False, ordered=False, now_ns=NOW).node.value == "v"
    shown = other.get("/1", recursive=True, ordered=True, now_ns=NOW).to_json()
    assert shown.count("nodes") == depth
    apply(other, Request("DELETE", "/1/x", recursive=True), NOW)
    with pytest.raises(V2Error):
        other.get(deep, recursive=False, ordered=False, now_ns=NOW)


def test_recovery_drops_the_waiters() -> None:
    """What happened in between is unknown: their clients start over."""
    saved = capture(Store()).encode()
    store = Store()
    waiters = [wait(store, "/1/a"), wait(store, "/1/b", stream=True)]
    recover(store, saved)
    assert store.hub.take_told() == waiters
    assert all(waiter.removed for waiter in waiters)
    put(store, "/1/a")
    assert waiters[0].take() == []


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"Root":null}', b'{"Root":{"Path":1}}'])
def test_other_bytes_are_no_snapshot(data: bytes) -> None:
    """And the store stays as it was."""
    store = Store()
    put(store, "/1/a")
    with pytest.raises(ValueError):
        recover(store, data)
    assert store.index == 1


def test_a_method_that_is_none() -> None:
    """Apply does not guess."""
    with pytest.raises(ValueError, match="unknown v2 method"):
        apply(Store(), Request("PATCH", "/1/a"), NOW)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a\\b\\f", '"a\\\\b\\\\f"'),
        ("\x08\x0c\n\r\t\x7f\x00", '"\\u0008\\u000c\\n\\r\\t\x7f\\u0000"'),
        ("<>&'\"/", '"\\u003c\\u003e\\u0026\'\\"/"'),
        (b"\xff\xc3".decode("utf-8", "surrogateescape"), '"\\ufffd\\ufffd"'),
        ("\u2028\u2029\ufffd", '"\\u2028\\u2029\ufffd"'),
    ],
)
def test_strings_as_go_writes_them(text: str, quoted: str) -> None:
    """HTML characters and line separators escaped, no short \\b and \\f, broken UTF-8 replaced."""
    assert quote(text) == quoted


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0001-01-01T00:00:00Z"),
        (1_795_284_624_046_528_051, "2026-11-21T18:10:24.046528051Z"),
        (1_795_284_624_100_000_000, "2026-11-21T18:10:24.1Z"),
        (1_795_284_624_000_000_000, "2026-11-21T18:10:24Z"),
    ],
)
def test_times_as_go_writes_them(ns: int, text: str) -> None:
    """RFC 3339, nine digits with trailing zeros cut; offsets are understood."""
    assert format_time(ns) == text
    assert parse_time(text) == ns
    if ns:
        assert parse_time(text.replace("T18:10:24", "T20:40:24").replace("Z", "+02:30")) == ns


@given(st.lists(st.sampled_from(["", ".", "..", "a", "b", "_c"]), max_size=8))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_clean_paths(parts: list[str]) -> None:
    """Absolute, no empty or dotted parts, and cleaning twice changes nothing."""
    path = clean("/".join(parts))
    assert path == "/" or not {"", ".", ".."} & set(path[1:].split("/"))
    assert clean(path) == path


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "dir", "delete", "update", "sync"]),
        st.sampled_from(["/1/a", "/1/a/b", "/1/b", "/1/b/_c"]),
        st.none() | st.integers(0, 20),
    ),
    max_size=40,
)


def perform(store: Store, kind: str, path: str, ttl_s: int | None, now_ns: int) -> object:
    if kind == "sync":
        return store.delete_expired(now_ns, now_ns)
    expiration = 0 if ttl_s is None else now_ns + ttl_s * S
    request = {
        "set": Request("PUT", path, val="v", expiration_ns=expiration),
        "dir": Request("PUT", path, dir=True, expiration_ns=expiration),
        "update": Request("PUT", path, val="u", prev_exist=True, expiration_ns=expiration),
        "delete": Request("DELETE", path, recursive=True),
    }[kind]
    return apply(store, request, now_ns)


def nodes(store: Store) -> list:
    found = []
    todo = [store.tree.root]
    while todo:
        node = todo.pop()
        found.append(node)
        todo += (node.children or {}).values()
    return found


@given(before=STEPS, after=STEPS)
@settings(max_examples=120, deadline=None, derandomize=True)
def test_a_recovered_store_goes_on_like_the_original(before: list, after: list) -> None:
    """Same answers, same snapshot; and nothing outlives its expiry or vanishes before it."""
    store, now_ns = Store(), NOW
    for kind, path, ttl_s in before:
        now_ns += S
        perform(store, kind, path, ttl_s, now_ns)
    other = Store()
    recover(other, capture(store).encode())
    for kind, path, ttl_s in after:
        now_ns += S
        due = {node.key for node in nodes(store) if 0 < node.expire_ns <= now_ns}
        perform(store, kind, path, ttl_s, now_ns)
        perform(other, kind, path, ttl_s, now_ns)
        if kind == "sync":
            assert not [n for n in nodes(store) if 0 < n.expire_ns <= now_ns]
            assert not due & {node.key for node in nodes(store)}
        with_ttl = {node for node in nodes(store) if node.expire_ns}
        assert len(store.tree.expiry) == len(with_ttl)
    assert capture(store).encode() == capture(other).encode()
