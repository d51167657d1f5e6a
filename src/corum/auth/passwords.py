"""bcrypt as jobs: what takes 50 ms and more runs in a worker thread, never on the loop.

The only place of the room that costs time and draws a salt; the jobs carry all they need.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Final

from corum import errors
from corum.values import value

COST_DEFAULT: Final = 10
COST_MIN: Final = 4
COST_MAX: Final = 31
_BYTES_MAX: Final = 72  # bcrypt looks at no more; etcd cuts silently, too


@value
class CheckPassword:
    """Does `password` belong to `password_hash`? Done for auth revision `revision`.

    When the store's revision has changed meanwhile, the answer is stale: ask again.
    """

    password: str
    password_hash: bytes
    revision: int

    def run(self) -> bool:
        import bcrypt

        try:
            return bcrypt.checkpw(self.password.encode()[:_BYTES_MAX], self.password_hash)
        except ValueError:  # no bcrypt hash: nobody's password
            return False


@value
class HashPassword:
    """A new hash of `password`, with a salt of its own, as Go's bcrypt writes it ($2a$)."""

    password: str
    cost: int = COST_DEFAULT

    def run(self) -> bytes:
        import bcrypt

        salt = bcrypt.gensalt(self.cost, prefix=b"2a")
        return bcrypt.hashpw(self.password.encode()[:_BYTES_MAX], salt)


def pack_hash(password_hash: bytes) -> str:
    """As it travels in `hashedPassword`."""
    return b64encode(password_hash).decode()


def unpack_hash(text: str) -> bytes:
    """Inverse of `pack_hash`. Raises NO_PASSWORD_USER for other texts, as etcd."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise errors.NO_PASSWORD_USER() from None
