"""What a v2 request asks for, and every way to ask wrongly."""

from typing import Any

import pytest

from corum.api.v2.forms import FORM, form_of, parse
from corum.v2store import V2Error, errors
from corum.values import NS_PER_S

NOW_NS = 1_700_000_000_000_000_000
U64_MAX = 2**64 - 1


def wanted(query: str = "", verb: str = "GET", path: str = "/v2/keys/k", body: bytes = b"") -> Any:
    return parse(verb, path, form_of(query, FORM, body, verb), NOW_NS)


def refusal(query: str, verb: str) -> tuple[int, str, int]:
    with pytest.raises(V2Error) as raised:
        wanted(query, verb)
    return raised.value.code, raised.value.cause, raised.value.index


WRONG = [
    ("PUT", "prevValue=", errors.PREV_VALUE_REQUIRED, '"prevValue" cannot be empty'),
    ("DELETE", "prevValue=", errors.PREV_VALUE_REQUIRED, '"prevValue" cannot be empty'),
    ("PUT", "ttl=soon", errors.TTL_NOT_A_NUMBER, 'invalid value for "ttl"'),
    ("PUT", "ttl=-1", errors.TTL_NOT_A_NUMBER, 'invalid value for "ttl"'),
    ("PUT", "ttl=1.5", errors.TTL_NOT_A_NUMBER, 'invalid value for "ttl"'),
    ("PUT", f"ttl={U64_MAX + 1}", errors.TTL_NOT_A_NUMBER, 'invalid value for "ttl"'),
    ("PUT", "prevIndex=x", errors.INDEX_NOT_A_NUMBER, 'invalid value for "prevIndex"'),
    ("PUT", "prevIndex=-1", errors.INDEX_NOT_A_NUMBER, 'invalid value for "prevIndex"'),
    ("GET", "waitIndex=x", errors.INDEX_NOT_A_NUMBER, 'invalid value for "waitIndex"'),
    ("GET", f"waitIndex={U64_MAX + 1}", errors.INDEX_NOT_A_NUMBER, 'invalid value for "waitIndex"'),
    *(
        ("GET", f"{name}=maybe", errors.INVALID_FIELD, f'invalid value for "{name}"')
        for name in (
            *("recursive", "sorted", "wait", "dir", "quorum", "stream", "noValueOnSuccess"),
        )
    ),
    ("GET", "recursive=", errors.INVALID_FIELD, 'invalid value for "recursive"'),
    ("PUT", "prevExist=maybe", errors.INVALID_FIELD, "invalid value for prevExist"),
    ("PUT", "refresh=maybe", errors.INVALID_FIELD, "invalid value for refresh"),
    ("PUT", "wait=true", errors.INVALID_FIELD, '"wait" can only be used with GET requests'),
    ("PUT", "a=%zz", errors.INVALID_FORM, 'invalid URL escape "%zz"'),
    ("PUT", "a=%", errors.INVALID_FORM, 'invalid URL escape "%"'),
    ("PUT", "a=1;b=2", errors.INVALID_FORM, "invalid semicolon separator in query"),
    (
        "PUT",
        "refresh=true&value=v&ttl=5",
        errors.REFRESH_VALUE,
        "A value was provided on a refresh",
    ),
    ("PUT", "refresh=true", errors.REFRESH_TTL_REQUIRED, "No TTL value set"),
]


@pytest.mark.parametrize(("verb", "query", "code", "cause"), WRONG)
def test_what_is_wrong_is_named(verb: str, query: str, code: int, cause: str) -> None:
    """Code and cause are etcd's; the index is 0, for the store was not asked."""
    assert refusal(query, verb) == (code, cause, 0)


def test_the_first_thing_wrong_is_told() -> None:
    """etcd's order: numbers, flags, prevValue, ttl."""
    everything = "ttl=x&prevValue=&wait=maybe&prevIndex=x"
    order: list[int] = []
    for fixed in ("prevIndex=x", "wait=maybe", "prevValue=", "ttl=x"):
        order.append(refusal(everything, "PUT")[0])
        everything = "&".join(part for part in everything.split("&") if part != fixed)
    assert order == [
        errors.INDEX_NOT_A_NUMBER,
        errors.INVALID_FIELD,
        errors.PREV_VALUE_REQUIRED,
        errors.TTL_NOT_A_NUMBER,
    ]


def test_a_plain_read() -> None:
    """Nothing asked is nothing wanted; HEAD reads as GET does."""
    for verb in ("GET", "HEAD"):
        found = wanted(verb=verb)
        assert (found.request.method, found.request.path) == ("QGET", "/1/k")
        assert not any((found.wait, found.quorum, found.stream, found.no_value, found.since))
        assert found.request.prev_exist is None


def test_everything_at_once() -> None:
    """Each parameter arrives where it belongs."""
    found = wanted("wait=true&waitIndex=7&recursive=1&sorted=T&quorum=true&stream=TRUE&dir=t")
    assert (found.wait, found.since, found.quorum, found.stream) == (True, 7, True, True)
    assert (found.request.recursive, found.request.sorted, found.request.dir) == (True, True, True)
    body = b"value=a+b%20c&prevValue=old&prevIndex=9&prevExist=false&ttl=5&noValueOnSuccess=true"
    found = wanted(verb="PUT", body=body)
    request = found.request
    assert (request.val, request.prev_value, request.prev_index) == ("a b c", "old", 9)
    assert request.prev_exist is False
    assert request.expiration_ns == NOW_NS + 5 * NS_PER_S
    assert found.no_value


@pytest.mark.parametrize(("text", "value"), [("true", True), ("0", False), ("F", False)])
def test_prev_exist_has_three_states(text: str, value: bool) -> None:
    """Absent does not ask."""
    assert wanted(f"prevExist={text}", "PUT").request.prev_exist is value
    assert wanted("", "PUT").request.prev_exist is None


def test_the_body_counts_before_the_query() -> None:
    """The first of repeated parameters counts; only PUT and POST of a form have a body."""
    assert wanted("value=query", "PUT", body=b"value=body").request.val == "body"
    assert wanted("value=one&value=two", "PUT").request.val == "one"
    assert wanted("value=query", "DELETE", body=b"value=body").request.val == "query"
    as_json = form_of("value=query", "application/json", b"value=body", "PUT")
    assert as_json == {"value": "query"}
    assert form_of("", f"{FORM}; charset=utf-8", b"value=body", "POST") == {"value": "body"}


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/v2/keys", "/1"),
        ("/v2/keys/", "/1/"),
        ("/v2/keys/a/b", "/1/a/b"),
        ("/v2/keys/a%20b%2Fc", "/1/a b/c"),
        ("/v2/keys/%C3%BC", "/1/ü"),
    ],
)
def test_keys_lie_below_the_prefix(path: str, key: str) -> None:
    """Escapes are undone, the rest is kept."""
    assert wanted(path=path).request.path == key
