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
    info = SimpleNamespace(channels=channels, processes=[7, 8], output="/nonexistent")
    session: Any = SimpleNamespace(info=lambda: info, describe=list)
    assert count(session) == Totals(discarded=63, processes=2)
