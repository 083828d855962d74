# SPDX-License-Identifier: MIT
"""An application that breaks the protocol is closed and named; nobody else notices."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import captured
from helpers.apps import Apps
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir

MAGIC = 0xC57C57C5
#: facts, application protocol 3.1 and 3.2
COMMAND_SIZE, REPLY_SIZE = 612, 324
TRACER_VERSION, CHANNEL = 0x41, 0x51


def registration(kind: int, magic: int = MAGIC, major: int = 9, bits: int = 64) -> bytes:
    """Return a first message (facts, application protocol 2.1)."""
    numbers = (magic, major, 0, os.getpid(), os.getppid(), 0, 0, bits, 8, 8, 8, 8, 8, kind)
    return struct.pack("<14I16s64x", *numbers, b"hostile")


def reply(handle: int, number: int, code: int = 0, value: int = 0) -> bytes:
    """Return the answer to a command (facts, application protocol 3.2)."""
    return struct.pack("<IIii32x", handle, number, code, value).ljust(REPLY_SIZE, b"\0")


class Hostile:
    """A program of our own on the applications' socket."""

    def __init__(self, rundir: Rundir):
        self._path = str(rundir.path / "lttng-ust-sock-8")
        self.sockets: list[socket.socket] = []

    def connect(self, first: bytes) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sockets.append(sock)
        sock.connect(self._path)
        sock.sendall(first)
        return sock

    def register(self) -> tuple[socket.socket, socket.socket]:
        """Register in good manners; return the command and the notify socket."""
        return self.connect(registration(0)), self.connect(registration(1))

    def first_command(self) -> tuple[socket.socket, socket.socket]:
        """Register and take the first command, unanswered."""
        command, notify = self.register()
        raw = command.recv(COMMAND_SIZE, socket.MSG_WAITALL)
        assert struct.unpack_from("<II", raw) == (0, TRACER_VERSION)
        return command, notify


def closed(sock: socket.socket) -> bool:
    """Wait until the other side has hung up."""
    try:
        while sock.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.fixture
def hostile(rundir: Rundir) -> Iterator[Hostile]:
    hostile = Hostile(rundir)
    yield hostile
    for sock in hostile.sockets:
        sock.close()


@pytest.fixture
def registry(rundir: Rundir) -> Iterator[RunningRegistry]:
    with running_registry(rundir) as running:
        yield running


def bad_magic(hostile: Hostile) -> socket.socket:
    return hostile.connect(registration(0, magic=0x12345678))


def unknown_socket_type(hostile: Hostile) -> socket.socket:
    return hostile.connect(registration(7))


def too_much(hostile: Hostile) -> socket.socket:
    return hostile.connect(registration(0) + bytes(1))


def cut_off(hostile: Hostile) -> socket.socket:
    sock = hostile.connect(registration(0)[:100])
    sock.shutdown(socket.SHUT_WR)
    return sock


def unasked_answer(hostile: Hostile) -> socket.socket:
    command, _ = hostile.first_command()
    command.sendall(reply(0, TRACER_VERSION))
    command.sendall(reply(0, TRACER_VERSION) * 2)
    return command


def reply_cut_off(hostile: Hostile) -> socket.socket:
    command, _ = hostile.first_command()
    command.sendall(reply(0, TRACER_VERSION)[:200])
    command.shutdown(socket.SHUT_WR)
    return command


def request_cut_off(hostile: Hostile) -> socket.socket:
    _, notify = hostile.first_command()
    notify.sendall(struct.pack("<I", 1) + bytes(20))
    notify.shutdown(socket.SHUT_WR)
    return notify


def answer_of_another_handle(hostile: Hostile) -> socket.socket:
    command, _ = hostile.first_command()
    command.sendall(reply(1, TRACER_VERSION))
    return command


def answer_too_long(hostile: Hostile) -> socket.socket:
    command, _ = hostile.first_command()
    command.sendall(bytes(REPLY_SIZE + 1))
    return command


def refuses_everything(hostile: Hostile) -> socket.socket:
    command, _ = hostile.first_command()
    command.sendall(reply(0, TRACER_VERSION, -1029, -1029))
    return command


def unknown_request(hostile: Hostile) -> socket.socket:
    _, notify = hostile.first_command()
    notify.sendall(struct.pack("<I", 99) + bytes(1000))
    return notify


def endless_fields(hostile: Hostile) -> socket.socket:
    # facts, application protocol 5.1: lengths of signature, fields and URI at 272.
    _, notify = hostile.first_command()
    request = bytearray(316)
    struct.pack_into("<III", request, 272, 2, 920 * 0x400000, 0)
    notify.sendall(request)
    return notify


def text_without_end(hostile: Hostile) -> socket.socket:
    _, notify = hostile.first_command()
    request = bytearray(316)
    struct.pack_into("<III", request, 272, 4, 0, 0)
    notify.sendall(bytes(request) + b"text")
    return notify


def never_reads(hostile: Hostile) -> socket.socket:
    # Requests for a session it does not have: each is answered, no answer is read.
    _, notify = hostile.first_command()
    request = bytearray(48)
    struct.pack_into("<III", request, 0, 1, 5, 6)
    try:
        while True:
            notify.send(request * 1000)
    except (BrokenPipeError, ConnectionResetError):
        return notify


CASES: dict[Callable[[Hostile], socket.socket], str] = {
    bad_magic: "magic",
    unknown_socket_type: "socket type 7",
    too_much: "more than its registration",
    cut_off: "in the middle",
    # Which of the two depends on how far the registry is with its next command.
    unasked_answer: "answer no command|reply of at least",
    answer_of_another_handle: "handle 1",
    reply_cut_off: "in the middle of a reply",
    request_cut_off: "in the middle of a request",
    answer_too_long: "reply of at least 325 bytes",
    refuses_everything: "TRACER_VERSION refused: NOSYS",
    unknown_request: "unknown request 99",
    endless_fields: "fields_length",
    text_without_end: "without its NUL",
    never_reads: "does not read",
}


@pytest.mark.peers("gcc", "lttng-ust-headers")
@pytest.mark.parametrize("attack", CASES, ids=lambda attack: attack.__name__)
def test_it_is_closed_and_named(
    registry: RunningRegistry,
    rundir: Rundir,
    apps: Apps,
    hostile: Hostile,
    attack: Callable[[Hostile], socket.socket],
) -> None:
    good = rundir.start([apps.sleeper, "1"])
    session = registry.client.create("good", rundir.home / "trace")
    session.enable_event("sleeper:*")
    until(lambda: good.pid in registry.applications(), "the good program registers")
    assert session.start(consumer=None) == []
    assert closed(attack(hostile))
    until(lambda: re.search(CASES[attack], "\n".join(registry.log())), "it is named in the log")
    # One line; a program that has thousands of definitions refused cannot fill the log.
    lines = sum(f"pid {os.getpid()}" in line for line in registry.log())
    assert lines == (12 if attack is never_reads else 1)
    assert set(registry.applications()) == {good.pid}
    produced = sum(stream.produced for stream in session.info().streams)
    until(
        lambda: sum(stream.produced for stream in session.info().streams) > produced,
        "the good program is still recorded",
    )


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_silent_ones_delay_nobody(
    registry: RunningRegistry, rundir: Rundir, apps: Apps, hostile: Hostile
) -> None:
    silent = hostile.connect(b"")
    hostile.first_command()
    good = rundir.start([apps.sleeper, "1"])
    until(lambda: good.pid in registry.applications(), "the good program registers")
    session = registry.client.create("good", rundir.home / "trace")
    session.enable_event("sleeper:*")
    # The other one has a command it does not answer: the verb goes on without it.
    warnings = session.start(consumer=None)
    assert [f"(pid {os.getpid()})" in line for line in warnings] == [True]
    assert registry.applications()[good.pid].sessions == ["good"]
    assert registry.applications()[os.getpid()].state == "slow"
    assert session.info().slow == warnings
    assert closed(silent)
    assert any("did not say all of its registration" in line for line in registry.log())


def test_one_that_refuses_its_buffers_is_named(
    registry: RunningRegistry, rundir: Rundir, hostile: Hostile
) -> None:
    command, _ = hostile.first_command()

    def serve() -> None:
        handle, number = 0, TRACER_VERSION
        while True:
            command.sendall(reply(handle, number, -1024 if number == CHANNEL else 0, 1))
            raw = command.recv(COMMAND_SIZE, socket.MSG_WAITALL)
            if len(raw) < COMMAND_SIZE:
                return
            handle, number = struct.unpack_from("<II", raw)
            if number == CHANNEL:
                # Its object, and the byte that carries the descriptor.
                command.recv(struct.unpack_from("<Q", raw, 40)[0], socket.MSG_WAITALL)
                command.recv(1)

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        session = registry.client.create("s", rundir.home / "trace")
        session.enable_event("*")
        (warning,) = session.start(consumer=None)
        reason = registry.applications()[os.getpid()].reason
    finally:
        command.shutdown(socket.SHUT_RDWR)
        serving.join()
    assert f"(pid {os.getpid()})" in warning
    assert [text for text in (warning, reason) if "session s: CHANNEL refused" not in text] == []


def test_descriptors_that_nobody_asked_for_are_not_taken(
    registry: RunningRegistry, hostile: Hostile
) -> None:
    command, notify = hostile.first_command()
    held = Path(f"/proc/{registry.process.pid}/fd")
    before = len(list(held.iterdir()))
    many = [command.fileno()] * 200
    socket.send_fds(command, [reply(0, TRACER_VERSION)[:100]], many)
    socket.send_fds(command, [reply(0, TRACER_VERSION)[100:]], many)
    request = bytearray(48)
    struct.pack_into("<III", request, 0, 1, 5, 6)
    for _ in range(5):
        socket.send_fds(notify, [request], many)
        assert len(notify.recv(48, socket.MSG_WAITALL)) == 48
    # The next command: it was taken for what it is.
    command.recv(COMMAND_SIZE, socket.MSG_WAITALL)
    assert registry.applications()[os.getpid()].tracer == "0.0.0"
    assert len(list(held.iterdir())) == before


@pytest.mark.peers("gcc", "lttng-ust-headers")
@pytest.mark.repeat(ci=60, soak=5000)
def test_whatever_they_say_the_registry_goes_on(
    registry: RunningRegistry, rundir: Rundir, apps: Apps, hostile: Hostile, repeat: int
) -> None:
    good = rundir.start([apps.sleeper, "1"])
    until(lambda: good.pid in registry.applications(), "the good program registers")
    real = captured.notify_messages()
    for seed in range(repeat):
        chance = random.Random(seed)  # noqa: S311 (repeatable, not secret)
        command, notify = hostile.first_command()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            command.sendall(reply(0, TRACER_VERSION, chance.choice((0, 0, 0, -1029)), 0))
            for _ in range(chance.randrange(1, 6)):
                message = bytearray(chance.choice(real))
                for _ in range(chance.randrange(8)):
                    at = chance.choice((chance.randrange(len(message)), chance.randrange(48)))
                    message[at] = chance.choice((0, 1, 0x7F, 0xFF, chance.getrandbits(8)))
                end = len(message) if chance.random() < 0.8 else chance.randrange(len(message))
                notify.sendall(message[:end])
                if chance.random() < 0.3:
                    command.sendall(chance.randbytes(chance.choice((1, REPLY_SIZE, 700))))
        for sock in (command, notify):
            sock.close()
    until(lambda: set(registry.applications()) == {good.pid}, "all of them are gone")
    assert not [line for line in registry.log() if "error" in line]
    assert all(f"pid {os.getpid()}" in line for line in registry.log())


def test_one_that_exits_is_no_fault(registry: RunningRegistry, hostile: Hostile) -> None:
    command, notify = hostile.first_command()
    # facts, application protocol 3.3: EXITING, from the destructor of liblttng-ust.
    command.sendall(reply(0, TRACER_VERSION, -1030))
    assert [closed(sock) for sock in (command, notify)] == [True, True]
    assert registry.applications() == {}
    assert registry.log() == []


def test_a_process_that_starts_over_is_one_application(
    registry: RunningRegistry, hostile: Hostile
) -> None:
    first = hostile.first_command()
    hostile.first_command()
    assert [closed(sock) for sock in first] == [True, True]
    assert list(registry.applications()) == [os.getpid()]
    assert registry.log() == []
