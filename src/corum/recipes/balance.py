"""Which instance of a service gets the next request. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from corum.values import value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corum.client.results import KeyValue


@value
class Instance:
    """One provider of a service, as it registered itself. `load` is that of its metadata."""

    key: bytes
    address: str
    metadata: Any
    load: float = 0.0


def instance_of(kv: KeyValue) -> Instance | None:
    """What a key of a service says; None when it is no instance's."""
    try:
        told = json.loads(kv.value)
        metadata = told.get("Metadata")
        return Instance(kv.key, str(told["Addr"]), metadata, _load(metadata))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _load(metadata: Any) -> float:
    """The number under "load", 0 without."""
    try:
        return float(metadata["load"])
    except (TypeError, KeyError, ValueError):
        return 0.0


class Balancer(Protocol):
    """Chooses among instances, at least one, sorted by key.

    in_flight: by key, the requests of this process that are under way; keys without any may lack.
    """

    def pick(self, instances: Sequence[Instance], in_flight: Mapping[bytes, int]) -> Instance: ...


class RoundRobin:
    """Each in turn, in the order of their keys; fair also while instances come and go."""

    def __init__(self) -> None:
        self._last = b""

    def pick(self, instances: Sequence[Instance], in_flight: Mapping[bytes, int]) -> Instance:
        chosen = next((one for one in instances if one.key > self._last), instances[0])
        self._last = chosen.key
        return chosen


class LeastLoaded:
    """The one with the smallest sum of what it reports as `load` and our requests under way.

    So a load is to be reported in requests, or in anything comparable. Of equals each in turn.
    """

    def __init__(self) -> None:
        self._turns = RoundRobin()

    def pick(self, instances: Sequence[Instance], in_flight: Mapping[bytes, int]) -> Instance:
        loads = [one.load + in_flight.get(one.key, 0) for one in instances]
        least = min(loads)
        equals = [one for one, load in zip(instances, loads, strict=True) if load == least]
        return self._turns.pick(equals, in_flight)
