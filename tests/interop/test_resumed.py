# SPDX-License-Identifier: MIT
"""A consumer that follows one that was killed: what the relay has is not sent again."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import pytest
from helpers.registry import until
from helpers.relayd import relayd
from helpers.rings import UUID, make_ring

from ustconsumer._native.ring import DRAIN_EMPTY
from ustconsumer.consumer.relaylink import Identity, RelayLink
from ustconsumer.consumer.sinks.network import NetworkSink
from ustconsumer.protocol.relayurl import parse_url

_ENTRY = struct.Struct(">9Q")
#: Declares the stream's class, and that is all that is looked at.
_TEXT = b"/* CTF 1.8 */\nstream {\n\tid = 3;\n};\n"


def test_packets_that_are_read_after_the_relay_said_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced = threading.Event()
    publish = RelayLink.publish

    async def noted(link: RelayLink) -> None:
        await publish(link)
        announced.set()

    monkeypatch.setattr(RelayLink, "publish", noted)
    identity = Identity("host", "s", UUID, 1)
    with relayd("ours", tmp_path / "relay") as relay, make_ring(num_subbuf=8) as made:
        for packets in (3, 2):
            announced.clear()
            sink = NetworkSink(parse_url(relay.url), identity)
            writer = sink.open(made.stream)
            writer.attach(made.ring)
            # Nothing was given back: the one before was killed.
            assert made.ring.positions()[0] == 0
            sink.metadata(made.stream.trace, _TEXT)
            assert announced.wait(30)
            for _ in range(packets):
                made.packet(made.ring.positions()[1] + 2000)
            assert writer.drain(made.ring, 1 << 20) == DRAIN_EMPTY
            sink.close()
        (index,) = relay.output.rglob("channel0_1.idx")
        until(lambda: index.stat().st_size >= 16 + 5 * _ENTRY.size, "all packets have an index")
    entries = _ENTRY.iter_unpack(index.read_bytes()[16:])
    assert [entry[8] for entry in entries] == [0, 1, 2, 3, 4]
    assert (index.parent.parent / "channel0_1").stat().st_size == 5 * 4096
