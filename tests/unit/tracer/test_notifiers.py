# SPDX-License-Identifier: MIT
"""Event notifiers: what is written into the pipe, and what is counted when it is full."""

from __future__ import annotations

import errno
import math
import mmap
import os
import struct
from typing import Any

import msgspec
import pytest
from helpers.tracing import FakeRegistry, declare, pipe_signals
from hypothesis import given
from hypothesis import strategies as st

from ustconsumer.abi.application import APPLICATION_LAYOUTS, TRACER_LAYOUTS, CommandNumber
from ustconsumer.paths import possible_cpus
from ustconsumer.protocol import application
from ustconsumer.tracer import notifiers
from ustconsumer.tracer.compile import Enumerated
from ustconsumer.tracer.packing import array, packed
from ustconsumer.tracer.process import Process
from ustconsumer.tracer.types import u32

INVALID = (-1027, -errno.EINVAL)
HEADER = struct.Struct("<QH32x")

_numbers = st.integers(-(1 << 63), (1 << 64) - 1)
_values = st.none() | _numbers | st.floats(allow_nan=False) | st.lists(_numbers, max_size=40)


@given(st.lists(_values, max_size=40))
def test_captures_are_msgpack(values: list[Any]) -> None:
    raw = array([packed(value) for value in values])
    assert msgspec.msgpack.decode(raw) == values


@given(_numbers)
def test_integers_are_as_short_as_can_be(value: int) -> None:
    assert packed(value) == msgspec.msgpack.encode(value)


@pytest.mark.parametrize("length", [0, 31, 32, 255, 256, 65535, 65536])
def test_text_of_each_length(length: int) -> None:
    assert msgspec.msgpack.decode(packed(b"x" * length)) == "x" * length


def test_captures_as_liblttng_ust_writes_them() -> None:
    # Seen on the pipe of a C program: int_field, $ctx.vpid, str_field, arrf[1].
    captured = [packed(value) for value in (2, 0x437E, b"hello", 2)]
    assert array(captured) == b"\x94\x02\xcd\x43\x7e\xa5hello\x02"
    assert msgspec.msgpack.decode(packed(Enumerated(-3))) == {
        "type": "enum",
        "value": -3,
    }
    assert math.isnan(msgspec.msgpack.decode(packed(math.nan)))
    assert packed(object()) == b"\xc0"


def test_an_event_is_told_once_per_notifier_that_wants_it(
    process: Process, daemon: FakeRegistry
) -> None:
    order = declare(process, "shop:order", number=u32)
    group, pipe = daemon.group()
    first, second = daemon.notifier(group, "shop:*", 11), daemon.notifier(group, "*:order", 12)
    order(1)
    for handle in (first, second):
        daemon.do(application.enable(handle))
    order(2)
    declare(process, "shop:late")()
    raw = os.read(pipe, 4096)
    assert [HEADER.unpack_from(raw, at) for at in range(0, len(raw), 42)] == [
        (11, 0),
        (12, 0),
        (11, 0),
    ]
    daemon.do(application.disable(first))
    daemon.do(application.release(second))
    assert not order.native.enabled


def test_exclusions_apply_to_notifiers(process: Process, daemon: FakeRegistry) -> None:
    order = declare(process, "shop:order")
    group, _ = daemon.group()
    handle = daemon.notifier(group, "shop:*", 1)
    daemon.do(application.exclusion(handle, ["*order"]))
    daemon.do(application.enable(handle))
    assert not order.native.enabled


def test_released_group_and_notifier_in_any_order(process: Process, daemon: FakeRegistry) -> None:
    order = declare(process, "shop:order")
    group, _ = daemon.group()
    handle = daemon.notifier(group, "*", 1)
    daemon.do(application.enable(handle))
    daemon.do(application.release(group))
    order()
    daemon.do(application.release(handle))
    assert not order.native.enabled


@pytest.mark.parametrize("blocked", [False, True])
def test_a_pipe_that_nobody_reads_is_no_signal(
    process: Process, daemon: FakeRegistry, blocked: bool
) -> None:
    order = declare(process, "shop:order")
    group, _ = daemon.group()
    daemon.do(application.enable(daemon.notifier(group, "*", 1)))
    daemon.stop_reading()
    with pipe_signals(blocked) as seen:
        order()
    assert seen == []


# -- counters --------------------------------------------------------------------------------

_TRACER = TRACER_LAYOUTS[9]
_SIZE = 64


def counter(daemon: FakeRegistry, group: int, **values: int) -> Any:
    conf = {"arithmetic": 0, "bitness": 0, "dimensions": 1, "size": _SIZE, **values}
    data = _TRACER.counter_conf.pack(conf)
    payload = _TRACER.counter.pack({"length": len(data)})
    return daemon.send(group, CommandNumber.COUNTER, payload, data)


def counter_cpu(daemon: FakeRegistry, handle: int, cpu: int, length: int, fd: int) -> Any:
    payload = _TRACER.counter_cpu.pack({"length": length, "cpu": cpu})
    values = {"handle": handle, "command": CommandNumber.COUNTER_CPU, "payload": payload}
    return daemon.raw(APPLICATION_LAYOUTS[9].command.pack(values), b"", [os.dup(fd)])


@pytest.mark.parametrize(("bitness", "width"), [(0, 4), (1, 8)])
def test_what_does_not_fit_into_the_pipe_is_counted(
    process: Process, daemon: FakeRegistry, bitness: int, width: int
) -> None:
    order = declare(process, "shop:order")
    group, _ = daemon.group()
    handle = counter(daemon, group, bitness=bitness).ret_val
    length = _SIZE * width + 2 * _SIZE // 8
    fd = os.memfd_create("test")
    os.ftruncate(fd, length)
    for cpu in range(possible_cpus()):
        assert counter_cpu(daemon, handle, cpu, length, fd).ret_code == 0
    # Two neighbours, one about to wrap: it must not carry into the other.
    for index in (6, 7):
        daemon.do(application.enable(daemon.notifier(group, "*", index, index)))
    lost = 0
    with mmap.mmap(fd, length) as memory:
        last = (1 << 8 * width) - 1
        memory[6 * width : 7 * width] = last.to_bytes(width, "little")
        while not lost:
            order()
            lost = int.from_bytes(memory[7 * width : 8 * width], "little")
        order()
        counts = [
            int.from_bytes(memory[at * width : (at + 1) * width], "little") for at in range(_SIZE)
        ]
    os.close(fd)
    # A full pipe takes no smaller notification either: both lose alike, or one fitted.
    assert counts[7] == 2
    assert counts[6] in (0, 1)
    assert [count for at, count in enumerate(counts) if at not in (6, 7)] == [0] * (_SIZE - 2)


def test_counters_that_cannot_be_are_refused(process: Process, daemon: FakeRegistry) -> None:
    group, _ = daemon.group()
    for wrong in ({"arithmetic": 1}, {"bitness": 2}, {"dimensions": 2}, {"size": 0}):
        assert counter(daemon, group, **wrong)[:2] == INVALID
    handle = counter(daemon, group).ret_val
    assert counter(daemon, group)[:2] == (-1024, -errno.EBUSY)
    length = _SIZE * 4 + 2 * _SIZE // 8
    fd = os.memfd_create("test")
    os.ftruncate(fd, length - 1)
    assert counter_cpu(daemon, handle, 0, length, fd)[:2] == INVALID
    os.ftruncate(fd, length)
    assert counter_cpu(daemon, handle, 0, length - 1, fd)[:2] == INVALID
    assert counter_cpu(daemon, handle, 1 << 20, length, fd)[:2] == INVALID
    assert counter_cpu(daemon, handle, 0, length, fd).ret_code == 0
    assert counter_cpu(daemon, handle, 0, length, fd)[:2] == (-1024, -errno.EBUSY)
    payload = _TRACER.counter_global.pack({"length": length})
    values = {"handle": handle, "command": CommandNumber.COUNTER_GLOBAL, "payload": payload}
    raw = APPLICATION_LAYOUTS[9].command.pack(values)
    assert daemon.raw(raw, b"", [os.dup(fd)])[:2] == INVALID
    os.close(fd)
    # Gone with its handle: the group may have another.
    daemon.do(application.release(handle))
    assert counter(daemon, group).ret_code == 0


# -- captures --------------------------------------------------------------------------------


def test_captures_too_long_for_one_write_are_nil() -> None:
    captures = [lambda values: b"x" * 3000, lambda values: b"y" * 3000, lambda values: 7]
    raw = notifiers._captured(captures, ())
    assert msgspec.msgpack.decode(raw) == ["x" * 3000, None, 7]
    assert 42 + len(raw) <= 4096


def test_a_capture_that_fails_is_nil() -> None:
    def failing(values: tuple[object, ...]) -> object:
        raise ZeroDivisionError

    assert msgspec.msgpack.decode(notifiers._captured([failing], ())) == [None]


def test_captures_fill_a_write_to_its_last_byte() -> None:
    room = 4096 - 42
    longest = room - 1 - 3  # head of the array, of the text
    for length in range(longest - 6, longest + 2):
        raw = notifiers._captured([lambda values, n=length: b"x" * n], ())
        assert len(raw) <= room
    assert msgspec.msgpack.decode(notifiers._captured([lambda values: b"x" * 4000], ())) == [
        "x" * 4000
    ]
