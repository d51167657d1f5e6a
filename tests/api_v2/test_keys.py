"""`/v2/keys` of a running member, through plain HTTP: answers, headers, and every refusal."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

import corum
from corum.api.front import Rules

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def member() -> Iterator[corum.Member]:
    with corum.Member() as member:
        yield member


class Http:
    """One connection."""

    def __init__(self, address: str) -> None:
        self.connection = http.client.HTTPConnection(address, timeout=10)

    def ask(self, verb: str, path: str, **form: object) -> tuple[int, Any]:
        """Status and the decoded body."""
        answer = self.send(verb, path, **form)
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    def send(self, verb: str, path: str, **form: object) -> http.client.HTTPResponse:
        body = "&".join(f"{name}={value}" for name, value in form.items())
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        self.connection.request(verb, f"/v2/keys{path}", body if form else None, headers)
        return self.connection.getresponse()


@pytest.fixture
def v2(member: corum.Member) -> Iterator[Http]:
    """A connection, and a store without keys."""
    client = Http(member.endpoint)
    _, root = client.ask("GET", "/")
    for node in root["node"].get("nodes", ()):
        flags = "?recursive=true" if node.get("dir") else ""
        assert client.ask("DELETE", node["key"] + flags)[0] == 200
    yield client
    client.connection.close()


def test_set_get_delete(v2: Http) -> None:
    """201 for what is new, 200 for what was there; the previous node is told."""
    status, event = v2.ask("PUT", "/k", value="1")
    assert (status, event["action"], event["node"]["value"]) == (201, "set", "1")
    status, event = v2.ask("PUT", "/k", value="2")
    assert (status, event["prevNode"]["value"]) == (200, "1")
    index = event["node"]["modifiedIndex"]
    status, event = v2.ask("GET", "/k")
    assert status == 200
    node = {"key": "/k", "value": "2", "modifiedIndex": index, "createdIndex": index}
    assert event == {"action": "get", "node": node}
    status, event = v2.ask("DELETE", "/k")
    assert (status, event["action"], event["prevNode"]["value"]) == (200, "delete", "2")


def test_headers_tell_where_the_cluster_is(v2: Http) -> None:
    """X-Etcd-Index is the store's, the others are the cluster's and Raft's."""
    answer = v2.send("PUT", "/k", value="1")
    event = json.loads(answer.read())
    assert answer.getheader("X-Etcd-Index") == str(event["node"]["modifiedIndex"])
    assert int(answer.getheader("X-Raft-Index") or 0) > 0
    assert int(answer.getheader("X-Raft-Term") or 0) > 0
    assert int(answer.getheader("X-Etcd-Cluster-Id") or "", 16) > 0
    assert answer.getheader("Content-Type") == "application/json"


def test_queues_are_in_order(v2: Http) -> None:
    """POST makes keys that ascend."""
    for value in "abc":
        assert v2.ask("POST", "/queue", value=value)[0] == 201
    _, event = v2.ask("GET", "/queue?recursive=true&sorted=true")
    assert [node["value"] for node in event["node"]["nodes"]] == ["a", "b", "c"]


def test_a_wait_for_the_past_is_answered_at_once(v2: Http) -> None:
    """waitIndex names the first event that counts."""
    _, event = v2.ask("PUT", "/k", value="1")
    index = event["node"]["modifiedIndex"]
    v2.ask("PUT", "/k", value="2")
    _, event = v2.ask("GET", f"/k?wait=true&waitIndex={index}")
    assert event["node"]["value"] == "1"
    _, event = v2.ask("GET", f"/k?wait=true&waitIndex={index + 1}")
    assert event["node"]["value"] == "2"


def test_a_wait_ends_with_the_next_event(v2: Http, member: corum.Member) -> None:
    """The head of the answer comes at once, the event when it happens."""
    waiting = Http(member.endpoint)
    answer = waiting.send("GET", "/k?wait=true")
    assert answer.status == 200
    v2.ask("PUT", "/k", value="now")
    assert json.loads(answer.read())["node"]["value"] == "now"
    waiting.connection.close()


def test_a_quorum_read_leaves_the_log_alone(v2: Http) -> None:
    """Same answer, from what was confirmed to be the newest; the log does not grow of it."""
    before = v2.send("PUT", "/k", value="1")
    before.read()
    for verb in ("GET", "HEAD"):
        answer = v2.send(verb, "/k?quorum=true")
        text = answer.read()
        assert answer.status == 200
        assert answer.getheader("X-Raft-Index") == before.getheader("X-Raft-Index")
    assert not text
    status, event = v2.ask("GET", "/k?quorum=true")
    assert (status, event["node"]["value"]) == (200, "1")
    assert v2.ask("GET", "/none?quorum=true")[1]["errorCode"] == 100


REFUSED = [  # verb, path, form, status, code, message, cause
    ("GET", "/none", {}, 404, 100, "Key not found", "/none"),
    ("PUT", "/k", {"value": 2, "prevValue": "x"}, 412, 101, "Compare failed", "[x != 1]"),
    ("PUT", "/d", {"value": 1}, 403, 102, "Not a file", "/d"),
    ("PUT", "/k/below", {"value": 1}, 400, 104, "Not a directory", "/k"),
    ("PUT", "/k", {"value": 1, "prevExist": "false"}, 412, 105, "Key already exists", "/k"),
    ("PUT", "/", {"value": 1}, 400, 107, "Root is read only", "/"),
    ("DELETE", "/d?dir=true", {}, 403, 108, "Directory not empty", "/d"),
    *(
        ("PUT", "/k", form, 400, code, message, cause)
        for form, code, message, cause in (
            (
                {"prevValue": ""},
                201,
                "PrevValue is Required in POST form",
                '"prevValue" cannot be empty',
            ),
            (
                {"ttl": "x"},
                202,
                "The given TTL in POST form is not a number",
                'invalid value for "ttl"',
            ),
            (
                {"prevIndex": "x"},
                203,
                "The given index in POST form is not a number",
                'invalid value for "prevIndex"',
            ),
            ({"dir": "x"}, 209, "Invalid field", 'invalid value for "dir"'),
            ({"value": "%zz"}, 210, "Invalid POST form", 'invalid URL escape "%zz"'),
            (
                {"refresh": "true", "value": 1, "ttl": 9},
                211,
                "Value provided on refresh",
                "A value was provided on a refresh",
            ),
            ({"refresh": "true"}, 212, "A TTL must be provided on refresh", "No TTL value set"),
        )
    ),
]


@pytest.mark.parametrize(
    ("verb", "path", "form", "status", "code", "message", "cause"),
    REFUSED,
    ids=[str(row[4]) for row in REFUSED],
)
def test_refusals(
    v2: Http, verb: str, path: str, form: Any, status: int, code: int, message: str, cause: str
) -> None:
    """Status, code, message and cause of errors.md; the body ends with a newline."""
    v2.ask("PUT", "/k", value="1")
    v2.ask("PUT", "/d/inside", value="1")
    answer = v2.send(verb, path, **form)
    text = answer.read()
    body = json.loads(text)
    assert text.endswith(b"}\n")
    assert (answer.status, body["errorCode"]) == (status, code)
    assert (body["message"], body["cause"]) == (message, cause)
    assert answer.getheader("X-Etcd-Index") == str(body["index"])


def test_history_that_is_gone(v2: Http) -> None:
    """A thousand events are kept; who asks for older ones is told so (401)."""
    _, event = v2.ask("PUT", "/k", value="0")
    index = event["node"]["modifiedIndex"]
    for number in range(1_001):
        v2.ask("PUT", "/k", value=number)
    status, body = v2.ask("GET", f"/k?wait=true&waitIndex={index}")
    assert (status, body["errorCode"]) == (400, 401)
    assert body["cause"].startswith("the requested history has been cleared [")


def test_other_verbs_are_named(v2: Http) -> None:
    """405 with what would do."""
    answer = v2.send("PATCH", "/k")
    answer.read()
    assert answer.status == 405
    assert answer.getheader("Allow") == "HEAD,GET,PUT,POST,DELETE"


def test_the_host_in_a_target_is_not_part_of_the_path(v2: Http) -> None:
    """Clients behind a proxy name the whole URL."""
    v2.ask("PUT", "/k", value="1")
    v2.connection.request("GET", "http://somebody:1/v2/keys/k?quorum=true")
    answer = v2.connection.getresponse()
    assert (answer.status, json.loads(answer.read())["node"]["value"]) == (200, "1")


@pytest.mark.parametrize(
    ("verb", "path", "status", "where"),
    [
        ("GET", "/v2/keys/a%zz", 400, None),
        ("PUT", "//v2/keys/a", 301, "/v2/keys/a"),
        ("GET", "/v2/keys/a/..", 301, "/v2/keys"),
        ("HEAD", "/v2/members", 405, None),
        ("HEAD", "/v2/stats/self", 405, None),
        ("HEAD", "/health", 405, None),
        ("GET", "/v2/stats/", 404, None),
        ("DELETE", "/v2/members", 405, None),
        ("GET", "/v2/members/leader/", 404, None),
        ("POST", "/v2/members/x", 415, None),
        ("DELETE", "/v2/members/0x1", 404, None),
    ],
)
def test_what_a_path_is_good_for(
    v2: Http, verb: str, path: str, status: int, where: str | None
) -> None:
    """Measured on etcd 3.5.1."""
    v2.connection.request(verb, path)
    answer = v2.connection.getresponse()
    answer.read()
    assert (answer.status, answer.headers["Location"]) == (status, where)


def test_values_are_larger_than_those_of_v3(v2: Http) -> None:
    """As with etcd: --max-request-bytes is not for v2, whose forms end at 10 MiB."""
    status, event = v2.ask("PUT", "/k", value="v" * 2_000_000)
    assert (status, len(event["node"]["value"])) == (201, 2_000_000)
    status, refused = v2.ask("PUT", "/k", value="v" * (10 << 20))
    assert (status, refused["cause"]) == (400, "http: POST too large")


def test_a_quorum_read_does_not_wait(v2: Http) -> None:
    """Whoever asks for both reads now (measured on etcd 3.5.1)."""
    v2.ask("PUT", "/k", value="1")
    assert v2.ask("GET", "/k?wait=true&quorum=true")[1]["action"] == "get"


def test_a_member_survives_an_address_that_nobody_can_dial() -> None:
    """Such a member may be added; the others must not die of it."""
    with corum.Member() as lone:
        lone_http = Http(lone.endpoint)
        body = b'{"peerURLs": ["http://a:99999"]}'
        lone_http.connection.request(
            "POST", "/v2/members", body, {"Content-Type": "application/json"}
        )
        assert lone_http.connection.getresponse().status == 201
        lone_http.connection.close()
        again = Http(lone.endpoint)
        again.connection.request("GET", "/v2/keys/")
        assert again.connection.getresponse().status == 200
        again.connection.close()


def test_pages_of_named_origins_may_read() -> None:
    """--cors: who is on the list is named back, others get no such header."""
    member = corum.Member()
    member._settings.http = Rules(cors=("http://a.com:80",))
    with member:
        client = Http(member.endpoint)
        for origin, told in (("http://a.com:80", "http://a.com:80"), ("http://b.com", None)):
            client.connection.request("GET", "/v2/keys/", headers={"Origin": origin})
            answer = client.connection.getresponse()
            answer.read()
            assert answer.headers["Access-Control-Allow-Origin"] == told
        client.connection.close()
