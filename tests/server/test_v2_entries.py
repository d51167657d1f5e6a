"""v2 requests in the log as Go members write them."""

from corum import v2store
from corum.server.v2 import decode, encode
from corum.v2store import Event, Request, Store

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
