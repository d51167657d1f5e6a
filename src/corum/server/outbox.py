"""Answers gathered during one turn of the loop, handed over in one crossing each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from corum import errors

GRPC_OK = 0

Message = bytes | list[bytes]
"""One message: whole, or in pieces when joining 300 MB would keep everybody waiting."""


def whole(message: Message) -> bytes:
    """For those who cannot do with pieces."""
    return message if isinstance(message, bytes) else b"".join(message)


class Answers(Protocol):
    """The part of the transport that takes answers (see `_transport.pyi`)."""

    def reply(self, batch: Sequence[tuple[int, Message]], /) -> None: ...
    def fail(self, batch: Sequence[tuple[int, int, str]], /) -> None: ...
    def send(self, batch: Sequence[tuple[int, bytes]], /) -> list[int]: ...
    def http_replies(self, batch: Sequence[tuple[int, int, bytes, bytes]], /) -> None: ...


class Converter(Protocol):
    """A call that is not gRPC itself (the JSON gateway's): takes the answers instead."""

    def reply(self, message: bytes) -> None: ...
    def fail(self, code: int, text: str) -> None: ...
    def send(self, message: bytes) -> bool: ...


class Outbox:
    """`replies`, `failures`, `messages` and `pages` (whole HTTP answers, see
    `Transport.http_replies`) are filled by everybody and flushed once per turn."""

    __slots__ = ("blocked", "converters", "failures", "messages", "pages", "replies")

    def __init__(self) -> None:
        self.replies: list[tuple[int, Message]] = []
        self.failures: list[tuple[int, int, str]] = []
        self.messages: list[tuple[int, bytes]] = []
        self.pages: list[tuple[int, int, bytes, bytes]] = []
        self.converters: dict[int, Converter] = {}
        self.blocked: Callable[[int], None] = lambda call: None
        """Told of each stream whose queue went over its high-water mark."""

    def answer(self, call: int, result: Any) -> None:
        """The result of a proposal: response bytes (or pieces), or the error."""
        if type(result) is bytes:
            self.replies.append((call, result))
        elif type(result) is list:
            self.replies.append((call, cast("list[bytes]", result)))
        else:
            self.error(call, result)

    def error(self, call: int, error: BaseException) -> None:
        """End a call with an error; what is no EtcdError becomes Unknown with its text."""
        if isinstance(error, errors.EtcdError):
            self.failures.append((call, error.code, error.text))
        else:
            self.failures.append((call, errors.UNKNOWN, str(error)))

    def finish(self, call: int) -> None:
        """End a stream with OK after what was sent."""
        self.failures.append((call, GRPC_OK, ""))

    def flush(self, transport: Answers) -> None:
        """Hand everything over; cheap when there is nothing."""
        if self.converters:
            self._convert()
        if self.replies:  # first: whoever waits for one goes on while a thousand watchers are told
            replies, self.replies = self.replies, []
            transport.reply(replies)
        if self.pages:
            pages, self.pages = self.pages, []
            transport.http_replies(pages)
        if self.messages:
            messages, self.messages = self.messages, []
            for call in transport.send(messages):
                self.blocked(call)
        if self.failures:
            failures, self.failures = self.failures, []
            transport.fail(failures)

    def _convert(self) -> None:
        converters = self.converters
        messages, self.messages = self.messages, []
        for item in messages:
            converter = converters.get(item[0])
            if converter is None:
                self.messages.append(item)
            elif converter.send(item[1]):
                self.blocked(item[0])
        replies, self.replies = self.replies, []
        for call, message in replies:
            converter = converters.pop(call, None)
            if converter is None:
                self.replies.append((call, message))
            else:
                converter.reply(whole(message))
        failures, self.failures = self.failures, []
        for call, code, text in failures:
            converter = converters.pop(call, None)
            if converter is None:
                self.failures.append((call, code, text))
            else:
                converter.fail(code, text)
