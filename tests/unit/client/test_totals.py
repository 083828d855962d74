# SPDX-License-Identifier: MIT
"""Sums of a session; that they agree with the files is checked with real ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ustconsumer.client.totals import Totals, count
from ustconsumer.protocol.control import StreamInfo


def test_every_kind_of_loss_of_every_stream_counts() -> None:
    streams = [
        StreamInfo(
            id=number,
            trace="t",
            channel="c",
            cpu=number,
            produced=0,
            consumed=0,
            lost_full=full,
            lost_wrap=wrap,
            lost_big=big,
        )
        for number, (full, wrap, big) in enumerate([(1, 2, 4), (8, 16, 32)])
    ]
    info = SimpleNamespace(
        streams=streams, processes=[7, 8], output="/nonexistent", lost_before=100
    )
    session: Any = SimpleNamespace(info=lambda: info, describe=list)
    assert count(session) == Totals(discarded=163, processes=2)
