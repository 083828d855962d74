# SPDX-License-Identifier: MIT
"""Attributes of a channel: from options to what the registry is asked for."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from ustconsumer.cli.options import add_buffer_options, add_output_mode, channel_options
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import ChannelOptions


def parse(line: str, base: ChannelOptions | None = None) -> ChannelOptions:
    parser = argparse.ArgumentParser()
    add_buffer_options(parser)
    add_output_mode(parser)
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
        ("--tracefile-size=1M", {"tracefile_size": 1 << 20}),
        (
            "--tracefile-size=5000 --tracefile-count=2 --subbuf-size=4k",
            {"tracefile_size": 5000, "tracefile_count": 2, "subbuf_size": 4096},
        ),
        ("--tracefile-size=64k", {"tracefile_size": 524288}),
        ("--tracefile-size=0 --tracefile-count=0", {}),
        ("--monitor-timer=2s", {"monitor_timer_us": 2000000}),
        ("--monitor-timer=0 --output=mmap", {"monitor_timer_us": 0}),
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


def test_a_file_count_without_a_size_is_refused_in_lttngs_words() -> None:
    words = "Missing option --tracefile-size. A file count without a size won't do anything."
    for line in ("--tracefile-count=3", "--tracefile-size=0 --tracefile-count=3"):
        with pytest.raises(UsageError, match=words):
            parse(line)


@pytest.mark.parametrize(("output", "words"), [("splice", "is not spliced"), ("tape", "'tape'")])
def test_buffers_are_shared_memory(
    output: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(f"--output={output}")
    assert words in capsys.readouterr().err
