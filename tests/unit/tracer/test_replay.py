# SPDX-License-Identifier: MIT
"""What lttng-sessiond said to a C program, said to us: the same answers, the same requests.

The bytes are those of a recorded session (``helpers.captured``).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest
from helpers import captured

from ustconsumer.protocol.notify import ChannelRequest, EnumRequest, EventRequest, Request
from ustconsumer.protocol.tracer import (
    COMMAND_SIZE,
    Command,
    CommandNumber,
    parse_command,
    reply,
    request,
)
from ustconsumer.tracer.commands import Dispatcher
from ustconsumer.tracer.process import Process

REPLY = 324


class Registrar:
    """Gives the answers that the C program got."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def _answer(self, request: Request) -> int:
        self.requests.append(request)
        # An event that the program had not got has any number.
        return next((item.id for item in captured.answered() if item.request == request), 999)

    def event(self, request: EventRequest) -> int:
        return self._answer(request)

    def enum(self, request: EnumRequest) -> int:
        return self._answer(request)

    def channel(self, request: ChannelRequest) -> tuple[int, int]:
        return self._answer(request), 2


def commands() -> Iterator[tuple[Command, bytes, bytes]]:
    """Yield each command, the data after it, and all replies to it."""
    calls = captured.command_socket()[1:]
    received = b"".join(call.data for call in calls if call.direction == "R")
    sent = b"".join(call.data for call in calls if call.direction == "S")
    at = replied = 0
    while at < len(received):
        command = parse_command(received[at : at + COMMAND_SIZE])
        at += COMMAND_SIZE
        data = received[at : at + command.data_length]
        # Descriptors come with one byte of their own.
        at += command.data_length + (1 if command.fds else 0)
        size = REPLY * 2 if command.two_phase else REPLY
        yield command, data, sent[replied : replied + size]
        replied += size
    assert replied == len(sent)


def descriptors(command: Command) -> list[int]:
    if not command.fds:
        return []
    fd = os.memfd_create("test")
    os.ftruncate(fd, command.values.get("length", 0))
    fds = [fd]
    if command.number != CommandNumber.COUNTER_CPU:
        read, write = os.pipe()
        os.close(read)
        fds.append(write)
    if len(fds) > command.fds:
        os.close(fds.pop(0))
    return fds


@pytest.fixture
def registrar(process: Process) -> Iterator[Registrar]:
    made = Registrar()
    before = os.listdir("/proc/self/fd")
    dispatcher = Dispatcher(process, made)
    for command, data, expected in commands():
        dispatcher.check(command)
        answer = dispatcher.execute(command, data, descriptors(command))
        message = reply(command, answer.ret_code, answer.ret_val, answer.payload)
        assert message + answer.trailer == expected[-REPLY:], command
    yield made
    dispatcher.close()
    assert os.listdir("/proc/self/fd") == before


def test_channels_are_described_as_the_program_did(registrar: Registrar) -> None:
    ours = [r for r in registrar.requests if isinstance(r, ChannelRequest)]
    assert {r.channel for r in ours} == set(captured.channel_ids())
    # Programs that share buffers must agree on each bit of it.
    for wanted in ours:
        assert request(wanted) in captured.notify_messages()


def test_the_state_dump_is_declared_as_the_program_did(registrar: Registrar) -> None:
    ours = [r for r in registrar.requests if isinstance(r, EventRequest)]
    assert len(ours) == 6
    for wanted in ours:
        assert request(wanted) in captured.notify_messages()


def test_all_commands_were_told(registrar: Registrar) -> None:
    numbers = {command.number for command, _, _ in commands()}
    assert {CommandNumber.CONTEXT, CommandNumber.COUNTER_CPU, CommandNumber.FILTER} <= numbers
    (version,) = [
        sent for command, _, sent in commands() if command.number == CommandNumber.TRACER_VERSION
    ]
    assert struct.unpack_from("<III", version, 48) == (2, 13, 5)
