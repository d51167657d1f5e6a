"""Who may do what: the questions the API asks before anything is proposed or read (rpc §9).

Each method raises when the caller may not, and returns the bytes that the request's header carries
about the user (empty while authentication is off), so that every member checks again at apply.
"""

from __future__ import annotations

from typing import Any


class OpenGate:
    """Authentication is off: everybody may do everything."""

    enabled = False

    def any_user(self, meta: Any) -> bytes:
        """Any valid user."""
        return b""

    def admin(self, meta: Any) -> bytes:
        """Users with role root."""
        return b""

    def read(self, meta: Any, key: bytes, end: bytes) -> None:
        """READ on the whole range."""

    def put(self, meta: Any, request: Any) -> bytes:
        """WRITE on the key, READ too for prev_kv, WRITE on all keys of the lease."""
        return b""

    def delete(self, meta: Any, request: Any) -> bytes:
        """WRITE on the range, READ too for prev_kv."""
        return b""

    def txn(self, meta: Any, request: Any) -> bytes:
        """What each comparison and operation needs."""
        return b""

    def lease(self, meta: Any, lease: int, *, write: bool = True) -> bytes:
        """WRITE (or READ) on every key attached to the lease."""
        return b""

    def all_leases(self, meta: Any) -> None:
        """READ on every leased key."""
