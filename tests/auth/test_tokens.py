"""Simple tokens live while they are used; JWTs while they are young and well signed."""

from __future__ import annotations

from random import Random

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from corum import errors
from corum.auth import Identity, JwtTokens, SimpleTokens, draw_prefix, index_of, parse_options
from corum.auth.tokens import TokenOptions, TokenOptionsError
from corum.values import NS_PER_S as S


def test_simple_tokens_live_by_use() -> None:
    """300 s after the last use they are gone; a use renews them."""
    tokens = SimpleTokens()
    token = tokens.assign("u", "P" * 16, 42, 0)
    assert token == "P" * 16 + ".42"
    for second in (200, 400, 600):
        assert tokens.identify(token, 7, second * S) == Identity("u", 7)
        assert tokens.expire(second * S) == 0
    assert tokens.identify(token, 7, 900 * S) is None
    assert tokens.expire(900 * S) == 1
    assert len(tokens) == 0


def test_forgetting() -> None:
    """One user's tokens, or all."""
    tokens = SimpleTokens()
    mine = [tokens.assign("u", f"u{number}", number, 0) for number in range(3)]
    other = tokens.assign("v", "v", 9, 0)
    tokens.forget_user("u")
    assert [tokens.identify(each, 1, 1) for each in mine] == [None] * 3
    assert tokens.identify(other, 1, 1) == Identity("v", 1)
    tokens.forget_all()
    assert len(tokens) == 0
    assert tokens.expire(10_000 * S) == 0


def test_used_tokens_do_not_grow_the_queue() -> None:
    """Assigning and forgetting for ever stays small."""
    tokens = SimpleTokens()
    for number in range(1_000):
        tokens.assign("u", "x", number, number)
        tokens.forget_user("u")
    assert len(tokens._heap) < 100


@pytest.mark.parametrize(
    ("token", "index"),
    [("abc.12", 12), ("abc", None), ("abc.", None), (".1", None), ("a.b", None), ("a.1.2", None)],
)
def test_the_index_in_a_simple_token(token: str, index: int | None) -> None:
    """Everything else is no simple token."""
    assert index_of(token) == index


def test_prefixes_are_letters() -> None:
    """Sixteen, from the dice given."""
    first = draw_prefix(Random(1))
    assert len(first) == 16
    assert first.isalpha()
    assert first.isascii()
    assert first == draw_prefix(Random(1)) != draw_prefix(Random(2))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("simple", TokenOptions("simple")),
        (
            "jwt,pub-key=a.pub,priv-key=a.key,sign-method=RS256,ttl=10m",
            TokenOptions("jwt", "RS256", "a.pub", "a.key", 600),
        ),
        ("jwt,pub-key=a,sign-method=ES256", TokenOptions("jwt", "ES256", "a", "", 300)),
        ("jwt,priv-key=a,sign-method=HS256,ttl=1h30m", TokenOptions("jwt", "HS256", "", "a", 5400)),
    ],
)
def test_options(text: str, options: TokenOptions) -> None:
    """As of the flag `--auth-token`."""
    assert parse_options(text) == options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("other", "auth: invalid auth options"),
        ("jwt,a", "auth: invalid auth options"),
        ("jwt,a=b=c", "auth: invalid auth options"),
        ("jwt,pub-key=a,pub-key=b", "auth: invalid auth options"),
        ("jwt,pub-key=a,sign-method=RS256,ttl=10", "auth: invalid auth options"),
        ("jwt,pub-key=a", "auth: invalid auth signature method"),
        ("jwt,pub-key=a,sign-method=none", "auth: invalid auth signature method"),
        ("jwt,sign-method=RS256", "auth: missing key data"),
    ],
)
def test_bad_options(text: str, message: str) -> None:
    """etcd's texts."""
    with pytest.raises(TokenOptionsError, match=message):
        parse_options(text)


def keys() -> tuple[bytes, bytes]:
    """(public, private) as PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    return (
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def test_signed_tokens() -> None:
    """Who, and at which revision; not after the TTL, not with another key, not unsigned."""
    public, private = keys()
    tokens = JwtTokens("ES256", public, private, 300)
    token = tokens.assign("u", 9, 1_000)
    assert tokens.identify(token, 1_299) == Identity("u", 9)
    assert tokens.identify(token, 1_300) is None
    assert JwtTokens("ES256", keys()[0], None, 300).identify(token, 1_000) is None
    head, body, _ = token.split(".")
    assert tokens.identify(f"{head}.{body}.", 1_000) is None
    assert tokens.identify("nonsense", 1_000) is None


def test_a_verifier_does_not_sign() -> None:
    """Without the private key tokens are only checked; mismatched keys are refused at once."""
    public, private = keys()
    verifier = JwtTokens("ES256", public, None, 300)
    token = JwtTokens("ES256", public, private, 300).assign("u", 1, 0)
    assert verifier.identify(token, 0) == Identity("u", 1)
    with pytest.raises(errors.EtcdError, match="verify-only key"):
        verifier.assign("u", 1, 0)
    with pytest.raises(TokenOptionsError, match="don't match"):
        JwtTokens("ES256", keys()[0], private, 300)


def test_shared_secrets() -> None:
    """HMAC needs one secret, the private key."""
    tokens = JwtTokens("HS256", b"", b"s" * 32, 300)
    assert tokens.identify(tokens.assign("u", 3, 0), 0) == Identity("u", 3)
