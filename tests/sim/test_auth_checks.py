"""What an outsider can know of rights, and members with wrong rights that are found out."""

from __future__ import annotations

from typing import Any

import pytest

from corum.auth.records import Role
from corum.auth.store import AuthStore
from corum.auth.tokens import SimpleTokens
from corum.server.gate import Gate
from corum.sim.auth_model import ALL, OFF, Fact, Facts
from corum.sim.cluster_simulation import ClusterSimulation
from corum.sim.features import Features
from corum.sim.sessions import GAVE_UP, Operation
from corum.sim.world import Violation

FACT: Fact = ("role", "u", "r")


def op(begin: int, end: int, *, text: str = "") -> Operation:
    """Without a text it succeeded."""
    return Operation("c", "n", None, begin, 0, end, response=None if text else 1, text=text)


def test_a_fact_may_hold_from_the_beginning_of_what_makes_it_to_the_end_of_what_ends_it() -> None:
    facts = Facts()
    facts.makes(FACT, op(10, 20))
    facts.ends(FACT, op(30, 40))
    assert [facts.may_hold(FACT, at, at) for at in (5, 15, 25, 35, 45)] == [
        False, True, True, True, False,
    ]  # fmt: skip
    facts.makes(FACT, op(50, 60))
    assert facts.may_hold(FACT, 55, 55)


def test_what_has_no_answer_ends_nothing_and_may_begin_at_any_time() -> None:
    facts = Facts()
    facts.makes(FACT, op(10, 20, text=GAVE_UP))
    facts.ends(FACT, op(30, 40))
    assert facts.may_hold(FACT, 50, 60)
    facts = Facts()
    facts.makes(FACT, op(10, 20))
    facts.ends(FACT, op(30, 40, text=GAVE_UP))
    assert facts.may_hold(FACT, 50, 60)


def test_refusals_change_nothing() -> None:
    facts = Facts()
    facts.makes(FACT, op(10, 20, text="no"))
    assert not facts.may_hold(FACT, 30, 40)


def test_a_right_to_all_is_one_to_each_and_without_authentication_all_may_everything() -> None:
    facts = Facts()
    assert facts.may_do("u", "write", ("p0", ""), 1, 2)
    facts.ends(OFF, op(5, 6))
    assert not facts.may_do("u", "write", ("p0", ""), 10, 10)
    facts.makes(FACT, op(11, 12))
    facts.makes(("right", "r", "write", *ALL), op(13, 14))
    assert facts.may_do("u", "write", ("p0", ""), 20, 20)
    assert not facts.may_do("u", "read", ("p0", ""), 20, 20)


def _put_role_without_looking(self: AuthStore, role: Role) -> None:
    """Who has used a role goes on with its rights of then."""
    self._roles[role.name] = role
    self._backend.put("authRoles", role.name.encode(), role.encode())


def _nothing(self: Any, *_: Any) -> None:
    """Not asked, not forgotten."""


@pytest.mark.long
@pytest.mark.parametrize(
    ("where", "name", "broken"),
    [
        (AuthStore, "_put_role", _put_role_without_looking),
        (SimpleTokens, "forget_user", _nothing),
        (Gate, "check_committed", _nothing),
    ],
)
def test_wrong_rights_are_found_out(
    monkeypatch: pytest.MonkeyPatch, where: type, name: str, broken: Any
) -> None:
    monkeypatch.setattr(where, name, broken)

    def run_some() -> None:
        for seed in range(80_001, 80_031):
            ClusterSimulation(seed, features=Features(auth=True)).run()

    with pytest.raises(Violation, match=r"right|token|differ"):
        run_some()
