# SPDX-License-Identifier: MIT
"""Sums of a session; that they agree with the files is checked with real ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ustconsumer.client.totals import Totals, count
from ustconsumer.protocol.control import ChannelInfo, ChannelOptions


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


def test_what_a_full_disk_left_in_the_buffers_is_discarded() -> None:
    consumer = SimpleNamespace(stats=SimpleNamespace(unwritten_events=5))
    info = SimpleNamespace(
        channels=[SimpleNamespace(discarded=2)],
        processes=[7],
        output="/nonexistent",
        consumer=consumer,
    )
    session: Any = SimpleNamespace(info=lambda: info, describe=list)
    assert count(session).discarded == 7
