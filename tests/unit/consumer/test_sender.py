# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import os
import select
import socket
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from ustconsumer.consumer.flow import Outgoing
from ustconsumer.consumer.packet import Stream
from ustconsumer.consumer.relaylink import Identity, RelayLink
from ustconsumer.consumer.sender import Sender
from ustconsumer.consumer.spool import Spool
from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol.relayurl import parse_url
from ustconsumer.relay.wire import Credentials


class OneStream:
    id = 7


def test_who_reads_is_told_that_a_packet_was_kept(tmp_path: Path) -> None:
    """Its buffer may be full: then no writer tells him of anything."""
    # Nobody listens.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        spool = Spool(tmp_path / "s")
        identity = Identity(host="h", name="s", uuid=bytes(16), created=0, live_us=0, again=0)
        url = parse_url(f"net://127.0.0.1:{port}:{port}")
        sender = Sender(url, Credentials(), identity, keeper=spool)
        flow = sender.open(cast("Stream", cast("Any", OneStream())))
        # It says once that there is no relay.
        assert select.select([sender.fd], [], [], 60)[0]
        os.eventfd_read(sender.fd)
        sender.put(flow, Outgoing(b"packet", 4096, 1, 2, 0, 0))
        assert select.select([sender.fd], [], [], 0)[0]
        assert sender.take_arrived(flow).packets == 1
        sender.close(0)
    assert Spool(tmp_path / "s").count("7") == 1


class Link:
    """A connection that was made."""

    resumable = True
    path = "h/s"
    created = 0
    chunk = None

    async def abort(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RemoteProtocolError("relay: it refuses a stream"), "relay: it refuses a stream"),
        (AttributeError("mistake"), "relay net://127.0.0.1:5:6: AttributeError('mistake')"),
    ],
)
def test_connections_that_are_good_for_nothing(
    monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    """Made and lost at once: again and again, not one upon the other, and that is said once."""
    delays: list[float] = []
    enough = threading.Event()
    pause = asyncio.sleep

    async def sleep(seconds: float) -> None:
        delays.append(seconds)
        if len(delays) >= 8:
            enough.set()
        await pause(0)

    async def opened(*arguments: object) -> Link:
        return Link()

    class Delivery:
        def __init__(self, *arguments: object) -> None:
            pass

        async def run(self) -> None:
            raise error

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(RelayLink, "open", opened)
    monkeypatch.setattr("ustconsumer.consumer.sender.Delivery", Delivery)
    lines: list[str] = []
    url = parse_url("net://127.0.0.1:5:6")
    identity = Identity(host="h", name="s", uuid=bytes(16), created=0)
    sender = Sender(url, Credentials(), identity, lines.append)
    flow = sender.open(cast("Stream", cast("Any", OneStream())))
    assert enough.wait(60)
    assert sender.obstacle(flow, 4096) in (line, None)
    sender.close(0)
    assert delays[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    assert lines == [line]
