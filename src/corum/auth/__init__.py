"""Authentication: users and roles, who may do what, tokens (rpc.md §9).

In: committed changes (`AuthStore`), identities to check. Out: the client's error or nothing; jobs
(`CheckPassword`, `HashPassword`) that the server runs in a worker, since bcrypt takes 50 ms.
Invariant: users, roles and the auth revision are the same on every member at the same log index,
and any change of them moves the revision. Tokens belong to one member.

Reading order: `permissions` (ranges), `records` (bytes), `store`, `passwords`, `tokens`.
"""

from corum.auth.passwords import CheckPassword, HashPassword, pack_hash, unpack_hash
from corum.auth.permissions import READ, READWRITE, WRITE, Permission
from corum.auth.store import NOBODY, AuthStore, Identity
from corum.auth.tokens import JwtTokens, SimpleTokens, draw_prefix, index_of, parse_options

__all__ = [
    "NOBODY",
    "READ",
    "READWRITE",
    "WRITE",
    "AuthStore",
    "CheckPassword",
    "HashPassword",
    "Identity",
    "JwtTokens",
    "Permission",
    "SimpleTokens",
    "draw_prefix",
    "index_of",
    "pack_hash",
    "parse_options",
    "unpack_hash",
]
