"""What a run has beside keys, leases, watches and faults: each seed has some of it, or nothing.

Drawn from dice of their own: a run without any is to the line what it was before there were these.
"""

from __future__ import annotations

from random import Random
from typing import Final

from corum.values import value

QUOTAS: Final = (28, 30, 34)
"""kiB; an empty backend has 20, what is left after all compactions 24 or 28."""


@value
class Features:
    """Which of them there are."""

    v2: bool = False
    """Clients of the v2 API."""
    auth: bool = False
    """Authentication is switched on and off, and rights change."""
    quota_bytes: int = 0
    """Of each member's backend; 0: as much as there is."""
    downgrades: bool = False
    promotions: bool = False
    """Somebody has learners promoted until it is done."""

    @property
    def crowded(self) -> bool:
        """There are clients of other kinds, so fewer of the usual ones will do."""
        return self.v2 or self.auth


PLAIN: Final = Features()


def random_features(seed: int) -> Features:
    """Those of a seed."""
    dice = Random(f"features of {seed}")
    return Features(
        v2=dice.random() < 0.3,
        auth=dice.random() < 0.25,
        quota_bytes=dice.choice(QUOTAS) * 1_024 if dice.random() < 0.25 else 0,
        downgrades=dice.random() < 0.2,
        promotions=dice.random() < 0.8,
    )
