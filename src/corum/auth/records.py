"""Users and roles as values, and as authpb bytes in the buckets (proto3, encoded by hand)."""

from __future__ import annotations

from collections.abc import Iterator

from corum.auth.permissions import Permission
from corum.pb.wire import (
    BYTES,
    VARINT,
    bytes_field,
    bytes_of,
    fields,
    int_field,
    read_varint,
    text_of,
)
from corum.values import value


@value
class User:
    """authpb.User. `password_hash` is bcrypt's text; empty for users without password."""

    name: str
    password_hash: bytes = b""
    roles: tuple[str, ...] = ()  # sorted
    no_password: bool = False

    def encode(self) -> bytes:
        """name (1), password (2), roles (3), options (4, always present)."""
        name = bytes_of(self.name)
        return (
            (bytes_field(1, name) if name else b"")
            + (bytes_field(2, self.password_hash) if self.password_hash else b"")
            + b"".join([bytes_field(3, bytes_of(role)) for role in self.roles])
            + bytes_field(4, int_field(1, self.no_password))
        )


@value
class Role:
    """authpb.Role; permissions sorted by key."""

    name: str
    permissions: tuple[Permission, ...] = ()

    def encode(self) -> bytes:
        """name (1), keyPermission (2)."""
        name = bytes_of(self.name)
        return (bytes_field(1, name) if name else b"") + b"".join(
            [bytes_field(2, encode_permission(each)) for each in self.permissions]
        )


def encode_permission(permission: Permission) -> bytes:
    """permType (1), key (2), range_end (3); what is empty is left out."""
    return (
        int_field(1, permission.kind)
        + (bytes_field(2, permission.key) if permission.key else b"")
        + (bytes_field(3, permission.range_end) if permission.range_end else b"")
    )


def decode_user(data: bytes) -> User:
    """Raises ValueError for what is no authpb.User."""
    name = password_hash = b""
    roles: list[str] = []
    no_password = False
    for field, content in _contents(data):
        if field == 1:
            name = content
        elif field == 2:
            password_hash = content
        elif field == 3:
            roles.append(text_of(content))
        elif field == 4:
            no_password = _number(content, 1) != 0
    return User(text_of(name), password_hash, tuple(roles), no_password)


def decode_role(data: bytes) -> Role:
    """Raises ValueError for what is no authpb.Role."""
    name = b""
    permissions: list[Permission] = []
    for field, content in _contents(data):
        if field == 1:
            name = content
        elif field == 2:
            parts = dict(_contents(content))
            kind = _number(content, 1)
            permissions.append(Permission(kind, parts.get(2, b""), parts.get(3, b"")))
    return Role(text_of(name), tuple(permissions))


def _contents(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(field, content) of the length-delimited fields."""
    for field, kind, start, end in fields(data):
        if kind == BYTES:
            yield field, data[start:end]


def _number(data: bytes, wanted: int) -> int:
    """The varint field `wanted`; 0 when absent."""
    for field, kind, start, _ in fields(data):
        if field == wanted and kind == VARINT:
            return read_varint(data, start)[0]
    return 0
