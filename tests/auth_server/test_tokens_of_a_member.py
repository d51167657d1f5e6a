"""Who calls: simple tokens, JSON web tokens, client certificates, and tokens that come early."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from corum import errors
from corum.auth import NOBODY, Identity, JwtTokens, SimpleTokens
from corum.backend.memory_backend import MemoryBackend
from corum.lease import Lessor
from corum.pb import raft_internal, rpc
from corum.raft import Entry, EntryType
from corum.server import operations as op
from corum.server.auth import EARLY_MAX, Auth, EarlyToken
from corum.server.ports import NodeConfig
from corum.values import NS_PER_S

SECRET = b"a secret of more than thirty-two bytes"


class Member:
    """As much of a node as authentication needs, with user `u` and authentication on."""

    def __init__(self, **config: Any) -> None:
        self.config = NodeConfig(**config)
        self.backend = MemoryBackend()
        self.lessor = Lessor(1)
        headers = SimpleNamespace(at=lambda revision: b"")
        self.applier = SimpleNamespace(
            operations={}, headers=headers, store=SimpleNamespace(revision=1)
        )
        self.ports = SimpleNamespace(unix_time_ns=lambda: 1_000 * NS_PER_S + self.now_ns)
        self.secrets = random.Random(1)
        self.now_ns = 0
        self.applied_index = self.committed = 10
        self.is_leader = False
        self.refuse = lambda call, error: None
        self.gate: Any = None
        self.auth = Auth(self)  # type: ignore[arg-type]
        store = self.auth.store
        for name in ("root", "u"):
            store.user_add(name, b"hash")
            store.user_grant_role(name, "root")
        self.apply(op.AUTH_ENABLE)

    def apply(self, operation: int, request: Any = None, index: int = 11) -> bytes:
        self.auth.refusal(Entry(1, index, EntryType.NORMAL, b""), op.AUTHENTICATE)
        return self.applier.operations[operation](request)

    def token(self) -> str:
        request = raft_internal.InternalAuthenticateRequest(name="u", simple_token="abc")
        answer = self.apply(op.AUTHENTICATE, request)
        self.applied_index = self.committed = 11
        return rpc.AuthenticateResponse.FromString(answer).token

    def who(
        self, token: str | None = None, *, bearer: str | None = None, peer: Any = None
    ) -> Identity:
        return self.auth.identify((token, bearer, None, None, 1, peer, None))


def certified(name: str | None) -> Any:
    return SimpleNamespace(common_name=name)


def test_a_token_by_either_header() -> None:
    """gRPC sends `token`, the gateway `authorization`; the first of them counts."""
    member = Member()
    token = member.token()
    you = Identity("u", member.auth.store.revision)
    assert token == "abc.11"
    assert member.who(token) == member.who(bearer=token) == member.who(token, bearer="x") == you
    assert member.who() == NOBODY
    assert member.auth.identify(None) == NOBODY


@pytest.mark.parametrize("token", ["", "abc", "abc.1", "x.11", "abc.11 "])
def test_other_tokens_are_invalid(token: str) -> None:
    """Also the empty one, and one whose entry was applied long ago."""
    member = Member()
    member.token()
    with pytest.raises(errors.INVALID_AUTH_TOKEN):
        member.who(token)


def test_unused_tokens_expire_on_ticks() -> None:
    """After their time without use; use begins it anew."""
    member = Member(tokens=lambda: SimpleTokens(5 * NS_PER_S))
    token = member.token()
    for second in (4, 8, 12):
        member.now_ns = second * NS_PER_S
        member.auth.tick(member.now_ns)
        member.who(token)
    member.now_ns = 18 * NS_PER_S
    member.auth.tick(member.now_ns)
    assert len(member.auth.tokens) == 0  # type: ignore[arg-type]
    with pytest.raises(errors.INVALID_AUTH_TOKEN):
        member.who(token)


def test_disabling_opens_the_gate_and_forgets_tokens() -> None:
    """Enabling it again does not bring old tokens back."""
    member = Member()
    assert member.gate.enabled
    token = member.token()
    member.apply(op.AUTH_DISABLE)
    assert not member.gate.enabled
    member.apply(op.AUTH_ENABLE)
    with pytest.raises(errors.INVALID_AUTH_TOKEN):
        member.who(token)


def test_a_web_token_carries_the_revision_it_was_made_at() -> None:
    """So that changed rights make its user come again; it ends by the wall clock."""
    member = Member(tokens=lambda: JwtTokens("HS256", b"", SECRET, 300))
    token = member.token()
    before = member.auth.store.revision
    member.auth.store.role_add("new")
    assert member.who(token) == Identity("u", before)
    with pytest.raises(errors.AUTH_OLD_REVISION):
        member.gate.read((token, None, None, None, 1, None, None), b"k", b"")
    member.now_ns = 301 * NS_PER_S
    with pytest.raises(errors.INVALID_AUTH_TOKEN):
        member.who(token)


def test_a_certificate_names_the_user_when_it_is_to() -> None:
    """Only with client certificate authentication, only without token, only with a name."""
    member = Member(client_cert_auth=True)
    you = Identity("u", member.auth.store.revision)
    assert member.who(peer=certified("u")) == you
    assert member.who(peer=certified(None)) == NOBODY
    assert member.who(peer=None) == NOBODY
    with pytest.raises(errors.INVALID_AUTH_TOKEN):
        member.who("bad", peer=certified("u"))
    assert Member().who(peer=certified("u")) == NOBODY


def test_a_token_of_an_entry_to_come_is_waited_for() -> None:
    """Another member answered with it before this one applied it: the call is done again then."""
    member = Member()
    with pytest.raises(EarlyToken) as early:
        member.who("abc.11")
    heard: list[Any] = []
    member.auth.wait(early.value, heard.append)
    member.auth.resume()
    assert heard == []
    token = member.token()
    member.auth.resume()
    assert heard == [None]
    assert member.who(token).user == "u"
    assert not member.auth.early


def test_nobody_waits_for_ever() -> None:
    """After the request timeout the token is invalid after all."""
    member = Member(timeout_ns=7)
    heard: list[Any] = []
    member.auth.wait(EarlyToken(99), heard.append)
    member.auth.tick(6)
    assert heard == []
    member.auth.tick(7)
    assert [error.text for error in heard] == ["etcdserver: invalid auth token"]


def test_who_cannot_be_early() -> None:
    """A leader knows every token that there is; and only so many may wait."""
    leader = Member()
    leader.is_leader = True
    leader.committed = 12
    with pytest.raises(EarlyToken):
        leader.who("abc.12")
    with pytest.raises(errors.INVALID_AUTH_TOKEN) as found:
        leader.who("abc.13")
    assert not isinstance(found.value, EarlyToken)
    full = Member()
    full.auth.early = [(99, 99, lambda error: None)] * EARLY_MAX
    with pytest.raises(errors.INVALID_AUTH_TOKEN):
        full.who("abc.13")


def test_an_early_token_is_an_invalid_one_to_who_does_not_wait() -> None:
    """Reads are served later anyway; code and text are those of the kind."""
    error = EarlyToken(5)
    kind = errors.INVALID_AUTH_TOKEN
    assert (error.code, error.text, error.index) == (kind.code, kind.text, 5)
