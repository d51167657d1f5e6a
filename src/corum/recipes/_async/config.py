"""Configuration that follows changes: one publishes, all others have it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from corum.client.requests import delete, put, to_bytes
from corum.client.results import DeleteResult
from corum.recipes._async.mirror import AsyncMirror

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corum.client._async.client import AsyncClient
    from corum.client.requests import Bytes
    from corum.client.results import KeyValue
    from corum.recipes.range_state import Change

T = TypeVar("T")


async def publish(client: AsyncClient, prefix: Bytes, settings: Mapping[str, Bytes | None]) -> int:
    """Set `<prefix><name>` for every name, None deletes it; all in one revision, which is returned.

    0 if nothing was changed. At most 128 settings at a time (the server's --max-txn-ops).
    """
    start = to_bytes(prefix)
    operations = [
        delete(start + name.encode()) if content is None else put(start + name.encode(), content)
        for name, content in settings.items()
    ]
    done = await client.txn([], operations)
    changed = any(not isinstance(one, DeleteResult) or one.deleted for one in done.results)
    return done.header.revision if changed else 0


class AsyncConfig:
    """The settings below a prefix as text, followed as they change. Use it as a context manager.

    Guarantees: settings that were published together are seen together, and never older ones after
    newer ones. Reading is local and does not fail while the cluster cannot be reached; then the
    settings are the last ones known. A follower that is slow may not see every value in between,
    but always the last one.
    """

    def __init__(self, client: AsyncClient, prefix: Bytes) -> None:
        self._mirror = AsyncMirror(client, prefix)
        self._changes = self._mirror.changes()

    async def open(self) -> AsyncConfig:
        await self._mirror.open()
        self._changes.unseen.take()  # what is there at first is no change
        return self

    async def __aenter__(self) -> AsyncConfig:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._mirror.aclose()

    @property
    def revision(self) -> int:
        """Of the settings; see `AsyncMirror.wait_revision`."""
        return self._mirror.revision

    def get(self, name: str, default: str = "") -> str:
        found = self._mirror.get(self._mirror.prefix + name.encode())
        return found.text if found else default

    def settings(self) -> dict[str, str]:
        """All of them, as of one revision."""
        return self._text(self._mirror.snapshot())

    async def publish(self, settings: Mapping[str, Bytes | None]) -> int:
        """As the function `publish`; returns when it can be read here, too."""
        revision = await publish(self._mirror.client, self._mirror.prefix, settings)
        await self._mirror.wait_revision(revision)
        return revision

    async def wait_for(
        self, look: Callable[[dict[str, str]], T | None], timeout_s: float | None = None
    ) -> T:
        """The first true thing `look` finds in the settings, now or later. Raises TimeoutError."""
        return await self._mirror.wait_for(lambda kvs: look(self._text(kvs)), timeout_s)

    async def changed(self, timeout_s: float | None = None) -> dict[str, str | None]:
        """Wait for changes since the last call (the first: since it was opened): new values.

        None for what was deleted. To be called by one task. Raises TimeoutError; RecipeError when
        closed.
        """
        changes = await self._changes.receive(timeout_s)
        return {self._name(change): change.new.text if change.new else None for change in changes}

    def _name(self, change: Change) -> str:
        return change.key.removeprefix(self._mirror.prefix).decode()

    def _text(self, kvs: Mapping[bytes, KeyValue]) -> dict[str, str]:
        start = len(self._mirror.prefix)
        return {key[start:].decode(): kv.text for key, kv in kvs.items()}
