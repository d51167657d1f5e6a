"""v2 requests in the log as Go members write them."""

from corum import v2store
from corum.membership.members import Member
from corum.server.v2 import decode, encode
from corum.v2store import Event, Request, Store
from corum.values import MemberId
from server.lone import Lone

IDENTITY = b"\x08\x05"


def test_what_is_no_utf8_is_kept() -> None:
    """Go etcd takes any bytes for keys and values; who cannot read its log dies of it."""
    request = Request("PUT", "/1/kQx", "aQb", prev_value="Q")
    identity, found = decode(encode(request, IDENTITY).replace(b"Q", b"\xff"))
    assert identity == 5
    assert (found.path, found.val, found.prev_value) == ("/1/k\udcffx", "a\udcffb", "\udcff")
    store = Store()
    event = v2store.apply(store, Request("PUT", found.path, found.val), 0)
    assert isinstance(event, Event)
    assert r'"key":"/k\ufffdx","value":"a\ufffdb"' in event.to_json("/1")
    assert rb"a\ufffdb" in v2store.capture(store).encode()


def test_changes_of_the_member_list_count_as_with_etcd() -> None:
    """Additions are creations, new URLs updates; the counts are saved and replicated."""
    lone = Lone()
    v2, counts = lone.node.v2, lone.node.v2.store.stats.counts
    before = dict(counts)
    v2.member_added(Member(MemberId(7), ["http://a:1"]))
    v2.member_added(Member(MemberId(7), ["http://b:1"]))
    v2.member_named(7, "seven", ["http://c:1"])
    v2.member_removed(7)
    changed = {name: counts[name] - before[name] for name in counts if counts[name] != before[name]}
    assert changed == {
        "createSuccess": 2, "updateSuccess": 1, "setsSuccess": 1, "deleteSuccess": 1,
    }  # fmt: skip
