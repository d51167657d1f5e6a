"""The public names lead somewhere, in both colours."""

import inspect

import corum.recipes as recipes

PARTS = {"AsyncChanges", "AsyncLeaders", "AsyncTask", "AsyncTransaction"}  # of recipes


def public(thing: object) -> set[str]:
    return {name for name in vars(thing) if not name.startswith("_")}


def test_every_name_is_there_in_its_colour() -> None:
    """`Async...` is made of coroutines where its plain twin is made of functions."""
    for name in recipes.__all__:
        found = getattr(recipes, name)
        assert inspect.isclass(found) or callable(found)
        twin = name.removeprefix("Async").removesuffix("_async")
        if twin != name:
            plain = getattr(recipes, twin)
            assert plain is not found
            assert plain.__module__ == found.__module__.replace("_async", "_sync")
            assert public(plain) == {one.replace("aclose", "close") for one in public(found)}


def test_guarantees_are_stated() -> None:
    """Everything public has a docstring, and what is built with says what it guarantees."""
    for name in recipes.__all__:
        made = getattr(recipes, name)
        assert len(made.__doc__ or "") > 20, name
        if name.startswith("Async") and name not in PARTS:
            assert "Guarantees: " in made.__doc__, name
