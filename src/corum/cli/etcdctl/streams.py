"""Answers that come as a stream of messages, read as an iterator."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from corum.client._sync.runtime import RpcError
from corum.client.errors import from_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

    from corum.cli.etcdctl.context import Context
    from corum.client.methods import Method

    T = TypeVar("T", bound=Message)


def messages(context: Context, method: Method[T], request: Message) -> Iterator[T]:
    """All messages of a server stream, at the reader's pace. Ends the program when it breaks."""
    stream = context.session.download(method, request)
    try:
        while True:
            data = stream.receive(context.timeout_s)
            if data is None:
                return
            yield method.decode(data)
    except RpcError as error:
        raise context.failure(from_status(error.code, error.text)) from None
    except TimeoutError:
        raise context.failure(from_status(4, "context deadline exceeded")) from None
