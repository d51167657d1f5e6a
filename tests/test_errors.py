"""The error table is API: clients match on its texts."""

import pytest

from corum import errors


def test_a_kind_is_raised_caught_and_carries_its_text() -> None:
    """`raise errors.COMPACTED()` is an EtcdError with code, text and HTTP status of its own."""
    with pytest.raises(errors.COMPACTED) as caught:
        raise errors.COMPACTED()
    error = caught.value
    assert isinstance(error, errors.EtcdError)
    assert (error.code, error.http) == (errors.OUT_OF_RANGE, 400)
    assert str(error) == "etcdserver: mvcc: required revision has been compacted" == error.text


def test_kinds_are_the_module_constants() -> None:
    """Every kind stands in the module under the name it reports, and its text leads back to it."""
    for name, kind in errors.KINDS.items():
        assert getattr(errors, name) is kind
        assert errors.by_text(kind.text) is kind
        assert kind().args == (kind.text,)


def test_texts_are_unique() -> None:
    """No two kinds share a text, or clients could not tell them apart."""
    texts = [kind.text for kind in errors.KINDS.values()]
    assert len(set(texts)) == len(texts)


def test_two_declared_codes_reach_the_wire_as_unknown() -> None:
    """etcd returns the client-side error for these two, so their gRPC code is Unknown."""
    unknown = {kind.text for kind in errors.KINDS.values() if kind.code == errors.UNKNOWN}
    assert {
        "etcdserver: too many requests",
        "etcdserver: re-configuration failed due to not enough started members",
    } == {text for text in unknown if text.startswith("etcdserver: ")}


def test_codes_have_go_names_and_http_statuses() -> None:
    """The gateway's statuses follow grpc-gateway 2 (etcd 3.6 and newer)."""
    names = [errors.code_name(code) for code in (0, 1, 3, 14, 16, 99)]
    assert names == [
        "OK",
        "Canceled",
        "InvalidArgument",
        "Unavailable",
        "Unauthenticated",
        "Code(99)",
    ]
    statuses = [errors.http_status(code) for code in range(17)]
    assert statuses == [
        200,
        499,
        500,
        400,
        504,
        404,
        409,
        403,
        429,
        400,
        409,
        400,
        501,
        500,
        503,
        500,
        401,
    ]
    assert errors.http_status(42) == 500
