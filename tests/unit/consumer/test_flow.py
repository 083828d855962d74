# SPDX-License-Identifier: MIT
"""Packets on their way that were here before, with a consumer that is no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from ustconsumer.consumer.flow import Arrived, Flow, Outgoing
from ustconsumer.consumer.packet import Stream
from ustconsumer.consumer.spool import Spool
from ustconsumer.consumer.traffic import WINDOW, Traffic

SIZE = 4096


class OneStream:
    id = 7


STREAM = cast("Stream", cast("Any", OneStream()))


def packet(sequence: int) -> Outgoing:
    return Outgoing(b"%d" % sequence, SIZE, 1, 2, 0, sequence)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "s")


def sequences(flow: Flow) -> list[int]:
    return [each.sequence for each in flow.waiting]


def test_what_the_keeper_had_is_not_kept_again(tmp_path: Path, spool: Spool) -> None:
    before = Flow(STREAM, spool)
    for number in range(4):
        before.keep(packet(number))
    # Killed: of its buffers none was given back.
    spool = Spool(tmp_path / "s")
    flow = Flow(STREAM, spool)
    for number in range(6):
        flow.keep(packet(number))
    assert spool.count("7") == 6
    # Given back are all of them.
    assert flow.take_arrived() == Arrived(6, 6 * SIZE, 5)
    assert flow.load(10) == 6 * SIZE
    assert sequences(flow) == [0, 1, 2, 3, 4, 5]


def test_what_the_keeper_had_is_not_sent_again_after_it_was_sent(spool: Spool) -> None:
    Flow(STREAM, spool).keep(packet(0))
    spool_after = Spool(spool.directory)
    traffic = Traffic(lambda: None, spool_after)
    flow = traffic.open(STREAM)
    traffic.load(1)
    flow.sent.append(flow.waiting.popleft())
    traffic.arrived(flow.arrived(1))
    assert not flow.is_kept
    traffic.put(flow, packet(0))
    traffic.put(flow, packet(1))
    assert sequences(flow) == [1]
    assert traffic.held == SIZE
    assert flow.take_arrived() == Arrived(1, SIZE, 0)


def test_what_the_relay_has_is_not_sent_again() -> None:
    woken: list[int] = []
    traffic = Traffic(lambda: woken.append(1))
    flow = traffic.open(STREAM)
    assert flow.known(3) == 0
    for number in range(5):
        traffic.put(flow, packet(number))
    assert sequences(flow) == [3, 4]
    assert traffic.held == 2 * SIZE
    # Its reader is told, and gives them back.
    assert len(woken) == 3
    assert flow.take_arrived() == Arrived(3, 3 * SIZE, 2)


def test_what_the_relay_has_of_what_was_kept_is_let_go(tmp_path: Path, spool: Spool) -> None:
    for number in range(10):
        Flow(STREAM, spool).keep(packet(number))
    flow = Flow(STREAM, Spool(tmp_path / "s"))
    flow.load(2)
    # More than was loaded.
    assert flow.known(6) == 2 * SIZE
    assert flow.load(3) == 3 * SIZE
    assert sequences(flow) == [6, 7, 8]
    flow.sent.append(flow.waiting.popleft())
    assert flow.arrived(1) == SIZE
    assert Spool(tmp_path / "s").count("7") == 3


def test_no_more_is_in_memory_than_has_room(spool: Spool) -> None:
    """Of a relay that takes everything and never says that it has it."""
    traffic = Traffic(lambda: None, spool)
    flow = traffic.open(STREAM)
    large = WINDOW // 4
    for number in range(8):
        flow.keep(packet(number)._replace(packet_size=large))
    for _ in range(8):
        traffic.load(1)
        if flow.waiting:
            flow.sent.append(flow.waiting.popleft())
    assert traffic.held == WINDOW
    traffic.arrived(flow.arrived(4))
    traffic.load(1)
    assert sequences(flow) == [4]
