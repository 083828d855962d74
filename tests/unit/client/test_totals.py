# SPDX-License-Identifier: MIT
"""Sums of a session; that they agree with the files is checked with real ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ustconsumer.client.totals import Totals, count
from ustconsumer.protocol.control import ChannelInfo, ChannelOptions, ConsumerStats, Destination


def test_losses_of_every_channel_count() -> None:
    channels = [
        ChannelInfo(
            name=f"c{lost}",
            enabled=True,
            options=ChannelOptions(),
            contexts=[],
            events=[],
            discarded=lost,
        )
        for lost in (7, 56)
    ]
    info = SimpleNamespace(
        channels=channels, processes=[7, 8], output="/nonexistent", consumer=None
    )
    session: Any = SimpleNamespace(info=lambda: info, describe=list)
    assert count(session) == Totals(discarded=63, processes=2)


def totals(output: str, url: str) -> Totals:
    """Return what is counted of a session that left 5 events in its buffers."""
    consumer = SimpleNamespace(stats=ConsumerStats(packets=3, bytes=30, unwritten_events=5))
    info = SimpleNamespace(
        channels=[SimpleNamespace(discarded=2)],
        processes=[7],
        output=output,
        destination=Destination(url=url),
        consumer=consumer,
    )
    session: Any = SimpleNamespace(info=lambda: info, describe=list)
    return count(session)


def test_what_a_full_disk_left_in_the_buffers_is_discarded() -> None:
    assert totals("/nonexistent", "") == Totals(discarded=7, processes=1)


def test_of_a_relay_alone_what_arrived_there_is_counted() -> None:
    wanted = Totals(recorded=None, discarded=7, processes=1, packets=3, bytes=30)
    assert totals("", "net://h") == wanted


def test_what_a_relay_left_is_in_the_files() -> None:
    assert totals("/nonexistent", "net://h") == Totals(discarded=2, processes=1)
