"""What a recipe can raise besides the client's own errors, and TimeoutError when time is up."""

from __future__ import annotations


class RecipeError(Exception):
    """A recipe that cannot do, or has not got, what it was asked for."""


class SessionExpired(RecipeError):
    """The session's lease is gone, and with it every key below it: locks, leadership, places."""


class NotHeld(RecipeError):
    """Released, proclaimed or resigned without holding."""


class AlreadyThere(RecipeError):
    """What was to be made new exists."""


class TooMany(RecipeError):
    """More participants than were agreed on."""
