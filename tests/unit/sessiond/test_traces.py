# SPDX-License-Identifier: MIT
"""Which attributes a channel can have."""

from __future__ import annotations

from typing import Any

import pytest

from sessiond.traces import check_options, geometry_of
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import ChannelOptions


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subbuf_size": 4096, "num_subbuf": 1},
        {"subbuf_size": 4096, "num_subbuf": 2, "mode": "overwrite"},
        {"subbuf_size": 4 << 20, "num_subbuf": 64, "mode": "overwrite"},
        {"buffers": "pid"},
        {"switch_timer_us": 1, "read_timer_us": 1},
        # lttng keeps periods in 32 bits
        {"switch_timer_us": (1 << 32) - 1, "read_timer_us": (1 << 32) - 1},
        {"blocking_timeout_us": -1},
        {"blocking_timeout_us": 1000},
        {"tracefile_size": 524288},
        {"tracefile_size": 524289, "tracefile_count": (1 << 32) - 1},
    ],
    ids=str,
)
def test_possible(options: dict[str, Any]) -> None:
    check_options(ChannelOptions(**options))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mode": "Overwrite"}, "mode 'Overwrite'"),
        ({"buffers": "gid"}, "buffers 'gid'"),
        ({"mode": "overwrite", "num_subbuf": 1}, "at least 2 in overwrite mode"),
        ({"mode": "overwrite", "blocking_timeout_us": 1}, "blocking timeout"),
        ({"mode": "overwrite", "blocking_timeout_us": -1}, "blocking timeout"),
        ({"blocking_timeout_us": -2}, "blocking timeout -2"),
        ({"switch_timer_us": -1}, "switch timer -1"),
        ({"read_timer_us": 1 << 32}, f"read timer {1 << 32}"),
        ({"tracefile_size": 524287}, "use 524288 or more"),
        ({"tracefile_size": -1}, "out of range"),
        ({"tracefile_count": 1}, "without their size"),
        ({"tracefile_size": 524288, "tracefile_count": 1 << 32}, "out of range"),
        ({"subbuf_size": 2048}, "use 4096"),
        ({"subbuf_size": 5000}, "nearest is 4096"),
        ({"num_subbuf": 3}, "nearest is 4"),
        ({"subbuf_size": 1 << 30, "num_subbuf": 1 << 12}, "for each user"),
        ({"subbuf_size": 1 << 30, "num_subbuf": 1 << 12, "buffers": "pid"}, "for each process"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_impossible(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named) as refused:
        check_options(ChannelOptions(**options))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("mode", ["discard", "overwrite"])
@pytest.mark.parametrize("read_timer_us", [0, 1])
def test_a_read_timer_takes_the_place_of_wake_ups(mode: str, read_timer_us: int) -> None:
    options = ChannelOptions(mode=mode, read_timer_us=read_timer_us)
    geometry = geometry_of(options, "ust-9-x86_64")
    assert (geometry.overwrite, geometry.by_writer) == (mode == "overwrite", read_timer_us == 0)
