# SPDX-License-Identifier: MIT
"""Option values in LTTng's notation."""

from __future__ import annotations

import argparse

import pytest

from ustconsumer.cli import values


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("4096", 4096), ("0x1000", 4096), ("16k", 16384), ("2M", 2 << 20), ("1g", 1 << 30)],
)
def test_size(text: str, expected: int) -> None:
    assert values.size(text) == expected


@pytest.mark.parametrize("text", ["", "k", "-1", "1.5k", "16kb", "16 k", "٣"])
def test_size_refuses(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        values.size(text)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [("5000", 4096), ("7000", 8192), ("100k", 131072), ("3M", 4 << 20), ("6145", 8192)],
)
def test_the_nearest_power_of_two_is_named(text: str, nearest: int) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=rf"the nearest is {nearest}$"):
        values.subbuf_size(text)


def test_a_subbuffer_has_a_page_at_least() -> None:
    assert values.subbuf_size("4k") == 4096
    with pytest.raises(argparse.ArgumentTypeError, match="use at least 4096"):
        values.subbuf_size("2k")


def test_number_of_subbuffers() -> None:
    assert [values.subbuf_count(text) for text in ("1", "2", "64")] == [1, 2, 64]
    with pytest.raises(argparse.ArgumentTypeError, match=r"nearest is 8$"):
        values.subbuf_count("7")
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        values.subbuf_count("0")


# Suffixes and results as `lttng enable-channel` 2.13 shows them.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("200", 200),
        ("1us", 1),
        ("1ms", 1000),
        ("1s", 1000000),
        ("1m", 60000000),
        ("1h", 3600000000),
    ],
)
def test_microseconds(text: str, expected: int) -> None:
    assert values.microseconds(text) == expected
    assert values.timer(text) == expected
    assert values.blocking_timeout(text) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1d", "1.5s", "10 ms", "1MS", "0x10", "٣", "infinite"]
)
def test_microseconds_refuses(text: str) -> None:
    for kind in (values.microseconds, values.timer, values.blocking_timeout):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a time"):
            kind(text)


def test_bounds_of_times() -> None:
    # 32 bits of microseconds, as `lttng`.
    assert values.timer("4294967295") == 0xFFFFFFFF
    with pytest.raises(argparse.ArgumentTypeError, match="too long"):
        values.timer("4294967296")
    assert values.blocking_timeout("inf") == -1
    assert values.blocking_timeout("5000000000") == 5000000000
    with pytest.raises(argparse.ArgumentTypeError, match=", or inf"):
        values.blocking_timeout("forever")
    with pytest.raises(argparse.ArgumentTypeError, match="use inf"):
        values.blocking_timeout("2000000s")
    with pytest.raises(argparse.ArgumentTypeError, match="is not a time"):
        values.timer("inf")


def test_workers() -> None:
    assert [values.workers(text) for text in ("1", "64")] == [1, 64]
    for text in ("0", "65", "-1", "two", "²"):
        with pytest.raises(argparse.ArgumentTypeError, match="use 1 to 64"):
            values.workers(text)


# Numbers of lttng/tracepoint.h.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("EMERG", 0),
        ("TRACE_EMERG", 0),
        ("warning", 4),
        ("TRACE_INFO", 6),
        ("DEBUG_FUNCTION", 12),
        ("DEBUG_LINE", 13),
        ("DEBUG", 14),
        ("14", 14),
    ],
)
def test_loglevel(text: str, expected: int) -> None:
    assert values.loglevel(text) == expected


@pytest.mark.parametrize("text", ["", "15", "-1", "LOUD", "²"])
def test_loglevel_refuses(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="unknown log level"):
        values.loglevel(text)


def test_names() -> None:
    assert values.names("a:b,c:*,") == ["a:b", "c:*"]
    with pytest.raises(argparse.ArgumentTypeError):
        values.names(",")
