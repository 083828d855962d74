# SPDX-License-Identifier: MIT
"""Commands and replies against what lttng-sessiond and a program of 2.13 exchanged."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import captured
from hypothesis import given
from hypothesis import strategies as st

from ustconsumer.errors import LocalProtocolError, RemoteProtocolError
from ustconsumer.protocol.application import (
    REGISTRATION_SIZE,
    REPLY_SIZE,
    Command,
    Registration,
    SocketType,
    Step,
    channel,
    context,
    enable,
    error_name,
    event,
    exclusion,
    filter_,
    parse_registration,
    parse_reply,
    refusal,
    register_done,
    release,
    reply_version,
    session,
    stream,
    tracepoint_entry,
    tracepoint_list_get,
    tracer_version,
    wait_quiescent,
)
from ustconsumer.protocol.contexts import parse_context

#: In the order of make.py's ``add-context``.
CONTEXTS = (
    *("pthread_id", "ip", "cgroup_ns", "ipc_ns", "mnt_ns", "net_ns", "pid_ns", "time_ns"),
    *("user_ns", "uts_ns", "vuid", "veuid", "vsuid", "vgid", "vegid", "vsgid"),
)
#: Event notifiers and counters: what the registry does not do.
OTHERS = {0x46, 0xC0, 0xD1}


def exchanges() -> Iterator[tuple[tuple[int, int], list[captured.Call], bytes]]:
    """Yield (handle and number, what the daemon sent, the last reply) of each command."""
    calls = captured.command_socket()[1:]
    while calls:
        numbers = struct.unpack_from("<II", calls[0].data)
        # An exchange lasts until the next command.
        size = next((i for i, call in enumerate(calls[1:], 1) if len(call.data) == 612), len(calls))
        if numbers[1] not in OTHERS:
            sent = [call for call in calls[:size] if call.direction == "R"]
            yield (numbers[0], numbers[1]), sent, calls[size - 1].data
        calls = calls[size:]


def conversation() -> list[tuple[Command, list[captured.Call], bytes]]:
    """Return the daemon's exchanges, each with the command that we would have sent."""
    seen = list(exchanges())
    blobs = iter(sent[1].data for (_, number), sent, _ in seen if number == 0x51)
    # The size of a stream's memory depends on the kernel's number of CPUs only by rounding.
    (size,) = {struct.unpack_from("<Q", s[0].data, 40)[0] for (_, n), s, _ in seen if n == 0x60}
    bytecode = next(sent[1].data for (_, number), sent, _ in seen if number == 0xA0)
    ours = [
        tracer_version(),
        session(),
        channel(3, next(blobs), 90),
        stream(4, 0, size, 91, 92),
        stream(4, 1, size, 91, 92),
        *(context(4, parse_context(name)) for name in CONTEXTS),
        event(4, "fields:*", 1, 4),
        # "n > 2": eighteen bytes, of which the last four are the symbol n at instruction 0.
        filter_(5, bytecode, 14),
        exclusion(5, ["fields:names", "fields:e*"]),
        enable(5),
        channel(3, next(blobs), 90),
        stream(6, 0, size, 91, 92),
        stream(6, 1, size, 91, 92),
        *(context(6, parse_context(name)) for name in ("vpid", "vtid", "procname")),
        event(6, "*"),
        enable(7),
        enable(3),
        wait_quiescent(),
        register_done(),
    ]
    return [(command, sent, reply) for command, (_, sent, reply) in zip(ours, seen, strict=True)]


def test_same_bytes_as_lttng_sessiond() -> None:
    for command, sent, _ in conversation():
        assert [step.data for step in command.steps] == [call.data for call in sent]
        assert [len(step.fds) for step in command.steps] == [call.descriptors for call in sent]
        assert [step.reply for step in command.steps] == [*[False] * (len(sent) - 1), True]


def test_replies_of_a_real_program() -> None:
    handles = {"SESSION": [3], "CHANNEL": [4, 6], "EVENT": [5, 7]}
    for command, _, raw in conversation():
        reply = parse_reply(raw, command)
        expected = handles[command.name].pop(0) if command.name in handles else 0
        assert (reply.ret_code, reply.ret_val) == (0, expected)
        if command.name == "TRACER_VERSION":
            assert reply_version(reply) == "2.13.5"


def test_registration_of_a_real_program() -> None:
    raw = captured.command_socket()[0].data
    # Only pids and uids depend on the run.
    pid, ppid, uid, gid = struct.unpack_from("<4I", raw, 12)
    registration = parse_registration(raw)
    assert registration == Registration(
        major=9,
        minor=0,
        pid=pid,
        ppid=ppid,
        uid=uid,
        gid=gid,
        bits_per_long=64,
        alignments={"uint8": 8, "uint16": 8, "uint32": 8, "uint64": 8, "long": 8},
        socket_type=SocketType.COMMAND,
        name="fields",
    )
    assert refusal(registration) == ""


@pytest.mark.parametrize(
    ("offset", "value", "complaint"),
    [
        (0, 0xC57C57C6, "magic 0xc57c57c6"),
        (52, 2, "socket type 2"),
    ],
)
def test_registration_that_is_none(offset: int, value: int, complaint: str) -> None:
    raw = bytearray(captured.command_socket()[0].data)
    struct.pack_into("<I", raw, offset, value)
    with pytest.raises(RemoteProtocolError, match=complaint):
        parse_registration(bytes(raw))


def test_registration_of_a_machine_of_the_other_byte_order() -> None:
    """It is understood, so that it can be refused by its name."""
    raw = captured.command_socket()[0].data
    numbers = struct.unpack_from("<14I", raw)
    registration = parse_registration(struct.pack(">14I", *numbers) + raw[56:])
    assert registration == parse_registration(raw)._replace(swapped=True)
    assert "byte order" in refusal(registration)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"major": 7}, "ABI 7"),
        ({"major": 8}, ""),
        ({"major": 10}, ""),
        ({"major": 11}, "ABI 11"),
        ({"bits_per_long": 32}, "32-bit"),
        ({"alignments": {"uint8": 8, "uint64": 64}}, "padded"),
    ],
)
def test_refusal(changes: dict[str, Any], reason: str) -> None:
    registration = parse_registration(captured.command_socket()[0].data)
    assert (reason in refusal(registration._replace(**changes))) is True
    assert bool(refusal(registration._replace(**changes))) is bool(reason)


@given(st.binary(min_size=REGISTRATION_SIZE, max_size=REGISTRATION_SIZE))
def test_random_registrations(raw: bytes) -> None:
    for start in (b"", struct.pack("<I", 0xC57C57C5)):
        try:
            registration = parse_registration(start + raw[len(start) :])
        except RemoteProtocolError:
            continue
        assert isinstance(refusal(registration), str)


def reply_bytes(handle: int, number: int, ret_code: int, ret_val: int, payload: bytes) -> bytes:
    return struct.pack("<IIii32x276s", handle, number, ret_code, ret_val, payload)


def test_tracepoint_list() -> None:
    command = tracepoint_list_get(9)
    entry = reply_bytes(9, 0x90, 0, 0, b"p:e".ljust(256, b"\0") + struct.pack("<i", 13))
    assert tracepoint_entry(parse_reply(entry, command)) == ("p:e", 13)
    end = reply_bytes(9, 0x90, -1025, -2, b"")
    assert tracepoint_entry(parse_reply(end, command)) is None
    endless = parse_reply(reply_bytes(9, 0x90, 0, 0, b"x" * 276), command)
    with pytest.raises(RemoteProtocolError, match="without its NUL"):
        tracepoint_entry(endless)


@pytest.mark.parametrize(
    "raw",
    [
        reply_bytes(8, 0x01, 0, 0, b""),  # another handle
        reply_bytes(7, 0x80, 0, 0, b""),  # another command
        reply_bytes(7, 0x01, 1, 0, b""),  # codes are negative
        reply_bytes(7, 0x01, 0, -1, b""),  # success with an error's value
        reply_bytes(7, 0x01, 0, 0, b"")[:-1],
    ],
)
def test_reply_to_something_else(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="RELEASE"):
        parse_reply(raw, release(7))


@given(st.binary(min_size=REPLY_SIZE, max_size=REPLY_SIZE), st.booleans())
def test_random_replies(raw: bytes, matching: bool) -> None:
    command = tracepoint_list_get(3)
    if matching:
        raw = struct.pack("<IIii", 3, 0x90, 0, 0) + raw[16:]
    try:
        reply = parse_reply(raw, command)
        tracepoint_entry(reply)
        reply_version(reply)
    except RemoteProtocolError:
        pass


def test_error_names() -> None:
    assert [error_name(code) for code in (0, -1024, -1028, -5)] == ["OK", "ERR", "PERM", "code -5"]


def test_a_step_can_wait_for_a_reply_before_the_next() -> None:
    # Two-phase commands (event notifiers, counters) need nothing but the model.
    command = Command("COUNTER", 1, 0xC0, (Step(bytes(612), reply=True), Step(b"conf", reply=True)))
    assert [step.reply for step in command.steps] == [True, True]


def test_what_must_not_be_sent() -> None:
    refused: list[Callable[[], Command]] = [
        lambda: channel(3, b"", 9),
        lambda: channel(3, bytes((1 << 20) + 1), 9),
        lambda: event(4, ""),
        lambda: event(4, "x" * 256),
        lambda: event(4, "a\0b"),
        lambda: exclusion(5, []),
        lambda: filter_(5, b"", 0),
        lambda: filter_(5, b"\1", 2),
        lambda: filter_(5, bytes((1 << 16) + 1), 0),
    ]
    for make in refused:
        with pytest.raises(LocalProtocolError):
            make()
    assert len(event(4, "x" * 255).steps[0].data) == 612
