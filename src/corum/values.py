"""Identifiers, unit constants and the `@value` decorator that every room shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NewType, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """Immutable by contract: pyright rejects assignment, the interpreter does not pay for it."""
    return dataclass(slots=True, unsafe_hash=True)(cls)


MemberId = NewType("MemberId", int)
ClusterId = NewType("ClusterId", int)
LeaseId = NewType("LeaseId", int)
Term = NewType("Term", int)
Index = NewType("Index", int)

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000
