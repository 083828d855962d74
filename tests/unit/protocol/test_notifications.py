# SPDX-License-Identifier: MIT
"""The pipe of event notifiers, and the commands that make them."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from helpers import captured as real
from hypothesis import given
from hypothesis import strategies as st

from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol.application import (
    Command,
    capture,
    event_notifier,
    event_notifier_group,
)
from ustconsumer.protocol.notifications import NotificationDecoder, captured


def notification(token: int, captures: bytes = b"") -> bytes:
    """Facts, application protocol 4.3: 42 bytes, then the captures."""
    return struct.pack("<QH32x", token, len(captures)) + captures


def steps(command: Command) -> list[tuple[bytes, int, bool]]:
    return [(step.data, len(step.fds), step.reply) for step in command.steps]


def head(handle: int, number: int, payload: bytes = b"") -> bytes:
    """Facts 3.1: handle, number, and the payload at 40."""
    return struct.pack("<II32x", handle, number) + payload.ljust(572, b"\0")


def test_group_as_lttng_sessiond_makes_it() -> None:
    calls = [call for call in real.command_socket() if call.direction == "R"]
    at = next(n for n, call in enumerate(calls) if call.data[4:8] == struct.pack("<I", 0x46))
    sent = [(call.data, call.descriptors, True) for call in calls[at : at + 2]]
    assert steps(event_notifier_group(90)) == sent


def test_notifier() -> None:
    """Facts 4.1: the 572 bytes of an event, its token at 268, then 40 more."""
    rule = struct.pack("<i256siiQ296x", 0, b"p:e*", 1, 4, 7)
    made = event_notifier(3, 7, "p:e*", 1, 4)
    assert steps(made) == [
        (head(3, 0xB0, struct.pack("<I", 612)), 0, True),
        (rule + bytes(40), 0, True),
    ]


def test_capture() -> None:
    made = capture(5, b"12345", 3, 2)
    first = head(5, 0xB6, struct.pack("<IIQ", 5, 3, 2))
    assert steps(made) == [(first, 0, True), (b"12345", 0, True)]


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=100))), st.data())
def test_cut_anywhere(told: list[tuple[int, bytes]], data: st.DataObject) -> None:
    raw = b"".join(notification(*each) for each in told)
    decoder = NotificationDecoder()
    found: list[tuple[int, bytes]] = []
    while raw:
        size = data.draw(st.integers(1, len(raw)))
        found += decoder.feed(raw[:size])
        raw = raw[size:]
    assert found == told


def test_no_more_than_a_pipe_takes_at_once() -> None:
    largest = notification(1, bytes(4096 - 42))
    assert list(NotificationDecoder().feed(largest)) == [(1, bytes(4096 - 42))]
    found = NotificationDecoder().feed(notification(1) + notification(2, bytes(4096 - 41)))
    assert next(found) == (1, b"")
    with pytest.raises(RemoteProtocolError):
        next(found)


@pytest.mark.parametrize(
    ("packed", "values"),
    [
        # The example of the facts, 4.3.
        ("9402d1437ea568656c6c6f02", [2, 0x437E, "hello", 2]),
        ("90", []),
        ("93e0ff7f", [-32, -1, 127]),
        ("94ccffcdffffceffffffffcf" + "ff" * 8, [255, 65535, 2**32 - 1, 2**64 - 1]),
        ("94d080d18000d280000000d38000000000000000", [-128, -(2**15), -(2**31), -(2**63)]),
        ("92cb3ff8000000000000ca3fc00000", [1.5, 1.5]),
        ("92c0a0", [None, ""]),
        ("91d90161", ["a"]),
        ("91da000161", ["a"]),
        ("91a161", ["a"]),
        # Latin-1: a program may trace what it likes.
        ("91a2e961", ["\ufffda"]),
        ("91930102ff", [[1, 2, -1]]),
        ("91dc000101", [[1]]),
        ("9182a474797065a4656e756da576616c7565fd", [{"type": "enum", "value": -3}]),
    ],
)
def test_values(packed: str, values: list[Any]) -> None:
    raw = bytes.fromhex(packed)
    assert captured(raw, len(values)) == values
    # One more or less, and bytes behind.
    for broken, count in ((raw, len(values) + 1), (raw + b"\0", len(values)), (raw[:-1], 99)):
        with pytest.raises(RemoteProtocolError):
            captured(broken, count)
    for size in range(1, len(raw)):
        with pytest.raises(RemoteProtocolError):
            captured(raw[:size], len(values))


def test_no_captures_have_no_bytes() -> None:
    assert captured(b"", 0) == []
    with pytest.raises(RemoteProtocolError):
        captured(b"", 1)


@pytest.mark.parametrize(
    "packed",
    [
        "91" * 4000 + "00",  # nested
        "91dd7fffffff00",  # sized
        "91db7fffffff00",
        "91df7fffffff00",
        "91c40161",  # binary
        "91c1",
        "91d40100",  # an extension
        "91810102",  # a map with a number for a key
        "00",  # no array
    ],
)
def test_what_no_tracer_writes(packed: str) -> None:
    with pytest.raises(RemoteProtocolError):
        captured(bytes.fromhex(packed), 1)


@given(st.binary(max_size=300), st.integers(0, 3))
def test_whatever_is_written(raw: bytes, count: int) -> None:
    try:
        values = captured(raw, count)
    except RemoteProtocolError:
        return
    assert len(values) == count
