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
