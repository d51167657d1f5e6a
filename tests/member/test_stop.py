"""A member that is told to stop answers what it has taken."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import grpc
import pytest

import corum
from corum.pb import rpc

pytestmark = pytest.mark.slow
PUT = "/etcdserverpb.KV/Put"
WORKERS = 8


class Writer:
    """Puts one key after the other until the member is gone."""

    def __init__(self, channel: grpc.Channel, name: str) -> None:
        self.channel = channel
        self.name = name
        self.done: list[bytes] = []
        self.failed: bytes | None = None
        self.code: object = None

    def run(self) -> None:
        put = self.channel.unary_unary(
            PUT,
            request_serializer=rpc.PutRequest.SerializeToString,
            response_deserializer=rpc.PutResponse.FromString,
        )
        while True:
            key = f"{self.name}/{len(self.done):06}".encode()
            try:
                put(rpc.PutRequest(key=key, value=b"v"), timeout=30)
            except grpc.RpcError as error:
                self.failed, self.code = key, error.code()
                return
            self.done.append(key)


def test_what_a_stopping_member_has_not_answered_it_has_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a client may try again whatever it was refused."""
    monkeypatch.setattr("corum.member.runtime.FINISH_MS", 60_000)  # however slow the disk is
    member = corum.Member(tmp_path / "m").start()
    with grpc.insecure_channel(member.endpoint) as channel:
        writers = [Writer(channel, f"w{number}") for number in range(WORKERS)]
        threads = [threading.Thread(target=writer.run) for writer in writers]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while any(len(each.done) < 20 for each in writers) and time.monotonic() < deadline:
            time.sleep(0.01)
        member.stop()
        for thread in threads:
            thread.join(60)
    with corum.Member(tmp_path / "m") as again, corum.Client(again.endpoint) as client:
        found = {kv.key for kv in client.range(b"w", prefix=True).kvs}
    assert {writer.code for writer in writers} == {grpc.StatusCode.UNAVAILABLE}
    assert found == {key for writer in writers for key in writer.done}


def test_a_watch_does_not_hold_a_member_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corum.member.runtime.FINISH_MS", 60_000)
    with (
        corum.Member() as member,
        corum.Client(member.endpoint) as client,
        client.watch(b"k") as watch,
    ):
        client.put(b"k", b"v")
        assert next(iter(watch)).key == b"k"
        began = time.monotonic()
        member.stop()
        assert time.monotonic() - began < 30
