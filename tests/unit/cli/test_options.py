# SPDX-License-Identifier: MIT
"""Attributes of a channel: from options to what the registry is asked for."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from ustconsumer.cli.options import add_buffer_options, channel_options
from ustconsumer.protocol.control import ChannelOptions


def parse(line: str, base: ChannelOptions | None = None) -> ChannelOptions:
    parser = argparse.ArgumentParser()
    add_buffer_options(parser)
    return channel_options(parser.parse_args(line.split()), base)


# What `lttng list` 2.13 shows after `lttng enable-channel -u` with the same options.
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {}),
        ("--subbuf-size=16k --num-subbuf=8", {"subbuf_size": 16384, "num_subbuf": 8}),
        ("--overwrite", {"mode": "overwrite"}),
        ("--overwrite --discard", {"mode": "discard"}),
        ("--discard --overwrite", {"mode": "overwrite"}),
        ("--buffers-pid", {"buffers": "pid", "subbuf_size": 16384}),
        ("--buffers-pid --subbuf-size=4k", {"buffers": "pid", "subbuf_size": 4096}),
        ("--buffers-uid", {"buffers": "uid"}),
        ("--switch-timer=10ms", {"switch_timer_us": 10000}),
        ("--read-timer=200", {"read_timer_us": 200}),
        ("--blocking-timeout=1s", {"blocking_timeout_us": 1000000}),
        ("--blocking-timeout=inf", {"blocking_timeout_us": -1}),
        ("--overwrite --blocking-timeout=0", {"mode": "overwrite"}),
    ],
)
def test_attributes(line: str, expected: dict[str, Any]) -> None:
    assert parse(line) == ChannelOptions(**expected)


def test_options_change_what_they_name_and_no_more() -> None:
    base = ChannelOptions(subbuf_size=32768, num_subbuf=2, read_timer_us=200)
    kept = parse("", base)
    assert kept == base
    assert kept is not base
    assert parse("--num-subbuf=4 --read-timer=0", base) == ChannelOptions(subbuf_size=32768)
    assert parse("--buffers-pid", base).subbuf_size == 32768
