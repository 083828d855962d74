# SPDX-License-Identifier: MIT
"""A control client or consumer that misbehaves is dropped; sessions and others go on."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator

import pytest
from helpers.apps import Apps
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir

from ustconsumer.client.connection import Connection
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import (
    VERSION,
    Attach,
    Attached,
    Failed,
    FrameDecoder,
    Hello,
    ListSessions,
    Message,
    Release,
    StreamAdded,
    TraceAdded,
    encode,
)


@pytest.fixture
def registry(rundir: Rundir) -> Iterator[RunningRegistry]:
    with running_registry(rundir) as running:
        yield running


@pytest.fixture
def sock(registry: RunningRegistry, rundir: Rundir) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(str(rundir.path / "drtrace.sock"))
        yield sock


def answers(sock: socket.socket) -> list[Message]:
    """Return what the registry sent until it hung up."""
    decoder = FrameDecoder()
    messages: list[Message] = []
    while True:
        try:
            chunk = sock.recv(1 << 16)
        except ConnectionResetError:
            return messages
        if not chunk:
            return messages
        messages += [message for message, _ in decoder.feed(chunk, [])]


HELLO = encode(Hello(seq=1, version=VERSION))


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        (struct.pack("<IHxx", 0xFFFFFFFF, 0), "too large"),
        (HELLO + struct.pack("<IHxx", 1, 17), "17 descriptors: too large"),
        (struct.pack("<IHxx", 4, 0) + b"\xc1\xc1\xc1\xc1", "control message"),
        (encode(ListSessions(seq=1)), "before the hello"),
        (HELLO + struct.pack("<IHxx", 1, 2) + b"\x80", "2 descriptors"),
        (HELLO + encode(ListSessions(seq=2)) * 1000, "ahead"),
        (b"", "no hello"),
    ],
    ids=["size", "descriptors", "garbage", "no-hello", "no-descriptors", "flood", "silence"],
)
def test_it_is_dropped_and_named(
    registry: RunningRegistry, sock: socket.socket, sent: bytes, named: str
) -> None:
    sock.sendall(sent)
    answers(sock)
    until(lambda: named in "\n".join(registry.log()), "it is named in the log")
    assert len(registry.log()) == 1
    assert f"pid {os.getpid()}" in registry.log()[0]
    assert registry.client.sessions() == []


def test_another_version_is_told_so(registry: RunningRegistry, sock: socket.socket) -> None:
    sock.sendall(encode(Hello(seq=7, version=VERSION + 1)))
    (failed,) = answers(sock)
    assert isinstance(failed, Failed)
    assert (failed.seq, failed.kind) == (7, "version")


def test_a_reply_is_no_request(registry: RunningRegistry) -> None:
    with pytest.raises(CommandError) as refused:
        registry.client.connection.request(Failed(message="from a client"))
    assert refused.value.kind == "invalid"


def attach(rundir: Rundir) -> Connection:
    connection = Connection.connect(rundir.path, role="consumer")
    reply, fds = connection.exchange(Attach(session="s", consume=True, kind="test"))
    assert isinstance(reply, Attached)
    assert len(fds) == 1
    os.close(fds[0])
    return connection


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_a_deaf_consumer_does_not_hold_programs_up(
    registry: RunningRegistry, rundir: Rundir, apps: Apps
) -> None:
    session = registry.client.create("s", rundir.home / "trace")
    session.enable_event("sleeper:*")
    with attach(rundir) as consumer:
        assert session.start(consumer=None) == []
        # It never says that it has mapped a stream.
        program = rundir.start([apps.sleeper, "1"])
        until(
            lambda: (
                program.pid in registry.applications()
                and registry.applications()[program.pid].sessions == ["s"]
            ),
            "the program is recorded",
        )
        received = [consumer.receive(60) for _ in range(1 + len(session.info().streams))]
        kinds = [type(message[0]) for message in received if message]
        assert kinds == [TraceAdded] + [StreamAdded] * (len(received) - 1)
        for message in received:
            assert message
            for fd in message[1]:
                os.close(fd)
        assert session.info().consumer
        # Nor does it drain: the stop goes on without it after a while, and says so.
        assert ["did not finish writing" in line for line in session.stop()] == [True]


def test_the_lease_has_one_holder_and_ends_with_it(
    registry: RunningRegistry, rundir: Rundir
) -> None:
    session = registry.client.create("s", rundir.home / "trace")
    session.enable_event("*")
    with attach(rundir) as first, Connection.connect(rundir.path) as second:
        with pytest.raises(CommandError) as refused:
            second.request(Attach(session="s", consume=True, kind="test"))
        assert refused.value.kind == "busy"
        first.send(Release())
        until(lambda: session.info().consumer is None, "the lease is given back")
        attach(rundir).close()
    until(lambda: session.info().consumer is None, "the lease ends with the connection")
    # A killed consumer whose connection lives on in a child has no lease any more.
    holder = rundir.start_python("-c", _HOLDER, rundir.path, stdout=subprocess.PIPE)
    assert holder.stdout
    child = int(holder.stdout.readline())
    info = session.info()
    assert info.consumer
    assert info.consumer.pid == holder.pid
    holder.kill()
    holder.wait()
    until(lambda: session.info().consumer is None, "the lease ends with the process")
    os.kill(child, signal.SIGKILL)


_HOLDER = """
import os, sys, time
from ustconsumer.client.connection import Connection
from ustconsumer.protocol.control import Attach
connection = Connection.connect(sys.argv[1])
connection.request(Attach(session="s", consume=True, kind="test"))
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(600)
"""


@pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")
def test_a_killed_disk_consumer_has_a_successor(
    registry: RunningRegistry, rundir: Rundir, apps: Apps
) -> None:
    session = registry.client.create("s", rundir.home / "trace")
    session.enable_event("sleeper:*")
    assert session.start() == []
    program = rundir.start([apps.sleeper, "1", "--ready", rundir.home / "ready"])
    until((rundir.home / "ready").exists, "the program records")
    first = session.info().consumer
    assert first
    os.kill(first.pid, signal.SIGKILL)
    until(
        lambda: (now := session.info().consumer) is not None and now.pid != first.pid,
        "another consumer takes over",
    )
    program.terminate()
    assert program.wait() == 0
    assert session.stop() == []
