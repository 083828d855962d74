# SPDX-License-Identifier: MIT
"""An observer cannot write, whoever it is, and a snapshot does not."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir
from helpers.users import User
from helpers.users import tester as user_of_tests

from ustconsumer.client.connection import Connection
from ustconsumer.protocol.control import Attach, Attached, ChannelOptions, StreamAdded, TraceAdded

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers")

#: Tries everything that could change a file it has been given; prints what worked.
_ATTACK = r"""
import ctypes, fcntl, json, mmap, os, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
READ, WRITE, EXEC, SHARED, PRIVATE, REMOVE, PUNCH = 1, 2, 4, 1, 2, 9, 3

def call(function, *arguments):
    if function(*arguments) in (-1, ctypes.c_void_p(-1).value):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

def mapped(function):
    def attack(fd):
        address = libc.mmap(None, size, READ, SHARED, fd, 0)
        assert address != ctypes.c_void_p(-1).value, "it cannot even be read"
        call(function[0], address, size, function[1])
    return attack

of_the_descriptor = {
    "mmap": lambda fd: mmap.mmap(fd, size, mmap.MAP_SHARED, READ | WRITE),
    "mmap, write only": lambda fd: mmap.mmap(fd, size, mmap.MAP_SHARED, WRITE),
    "mprotect": mapped((libc.mprotect, READ | WRITE)),
    "madvise": mapped((libc.madvise, REMOVE)),
    "write": lambda fd: os.write(fd, b"x"),
    "pwrite": lambda fd: os.pwrite(fd, b"x", 0),
    "ftruncate": lambda fd: os.ftruncate(fd, 1),
    "fallocate": lambda fd: call(libc.fallocate, fd, PUNCH, 0, 4096),
    "copy": lambda fd: os.sendfile(fd, fd, 0, 8),
    "access mode": lambda fd: (fcntl.fcntl(fd, fcntl.F_SETFL, os.O_RDWR), os.pwrite(fd, b"x", 0)),
}
of_another_user = {
    "open": lambda fd: os.open(f"/proc/self/fd/{fd}", os.O_RDWR),
    "open to write": lambda fd: os.open(f"/proc/self/fd/{fd}", os.O_WRONLY),
    "open to append": lambda fd: os.open(f"/dev/fd/{fd}", os.O_WRONLY | os.O_APPEND),
    "truncate": lambda fd: os.truncate(f"/proc/self/fd/{fd}", 1),
    "fchmod": lambda fd: os.fchmod(fd, 0o666),
    "chmod": lambda fd: os.chmod(f"/proc/self/fd/{fd}", 0o666),
    "fchown": lambda fd: os.fchown(fd, os.getuid(), os.getgid()),
    "the registry's": lambda fd: os.open(f"/proc/{sys.argv[1]}/fd/{fd}", os.O_RDWR),
}
attacks = of_the_descriptor | (of_another_user if sys.argv[2] == "other" else {})
worked, tried = [], 0
for fd in map(int, sys.argv[3:]):
    size = os.fstat(fd).st_size
    # A private copy may be written; nobody sees it.
    copy = mmap.mmap(fd, size, mmap.MAP_PRIVATE, READ | WRITE)
    copy[:8] = bytes(range(8))
    for name, attack in attacks.items():
        tried += 1
        try:
            attack(fd)
        except (OSError, ValueError):
            continue
        worked.append(name)
print(json.dumps({"uid": os.getuid(), "tried": tried, "worked": sorted(set(worked))}))
"""


def hashes(registry: RunningRegistry) -> dict[str, str]:
    """Return what is in the buffers, and in the metadata, of all sessions."""
    found = {}
    for entry in Path(f"/proc/{registry.process.pid}/fd").iterdir():
        try:
            name = os.readlink(entry)
            if name.startswith("/memfd:"):
                # Each once: for a moment the registry has another descriptor, to be sent.
                found[f"{entry.stat().st_ino} {name}"] = hashlib.sha256(
                    entry.read_bytes()
                ).hexdigest()
        except FileNotFoundError:
            continue  # closed meanwhile
    assert [name for name in found if "ust-chan" in name]
    return found


def settled(registry: RunningRegistry) -> dict[str, str]:
    """Wait until nobody changes them any more."""
    before: dict[str, str] = {}

    def same() -> bool:
        nonlocal before
        time.sleep(0.1)
        last, before = before, hashes(registry)
        return last == before

    until(same, "nobody changes the buffers")
    return before


@contextmanager
def observers_descriptors(rundir: Rundir, session: str) -> Iterator[list[int]]:
    """Give what an observer of the session is sent."""
    given: list[int] = []
    connection = Connection.connect(rundir.path, role="observer")
    try:
        reply, fds = connection.exchange(Attach(session=session, consume=False, kind="observer"))
        assert isinstance(reply, Attached)
        given += fds
        streams = 0
        while streams < reply.streams:
            received = connection.receive(30)
            assert received is not None
            message, fds = received
            assert isinstance(message, StreamAdded | TraceAdded), message
            streams += isinstance(message, StreamAdded)
            given += fds
        assert streams
        yield given
    finally:
        for fd in given:
            os.close(fd)
        connection.close()


def attack(registry: RunningRegistry, user: User, who: str, fds: list[int]) -> dict[str, object]:
    arguments = (str(registry.process.pid), who, *map(str, fds))
    result = subprocess.run(
        user.python("-c", _ATTACK, *arguments),
        env={**os.environ, **user.environment()},
        cwd="/",
        pass_fds=fds,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    told: dict[str, object] = json.loads(result.stdout)
    return told


@pytest.mark.parametrize("buffers", ["uid", "pid"])
@pytest.mark.parametrize("who", ["same", "other"])
def test_nobody_can_write_with_an_observers_descriptors(
    who: str, buffers: str, rundir: Rundir, apps: Apps, user: User
) -> None:
    if who == "other" and os.getuid() != 0:
        pytest.skip("two users are needed: only root can be both")
    with running_registry(rundir) as registry:
        session = registry.client.create("rights", rundir.home / "s", snapshot=True)
        options = ChannelOptions(subbuf_size=4096, num_subbuf=4, mode="overwrite", buffers=buffers)
        session.enable_channel("chan", options)
        session.enable_event("flood:tick", "chan")
        session.start()
        assert rundir.run([apps.flood, "1000"]).returncode == 0
        with observers_descriptors(rundir, "rights") as fds:
            before = settled(registry)
            told = attack(registry, user_of_tests() if who == "same" else user, who, fds)
            assert hashes(registry) == before
        session.destroy()
    assert told["uid"] == (os.getuid() if who == "same" else user.uid)
    assert told["tried"] == len(fds) * (10 if who == "same" else 18)
    assert told["worked"] == []


@pytest.mark.parametrize("mode", ["discard", "overwrite", "snapshot"])
def test_a_snapshot_changes_nothing(mode: str, rundir: Rundir, apps: Apps) -> None:
    """On a program that is stopped in the middle of its work."""
    with running_registry(rundir) as registry:
        session = registry.client.create("still", rundir.home / "s", snapshot=mode == "snapshot")
        options = ChannelOptions(
            subbuf_size=4096, num_subbuf=4, mode="discard" if mode == "discard" else "overwrite"
        )
        session.enable_channel("chan", options)
        session.enable_event("flood:tick", "chan")
        session.start()
        program = rundir.start([apps.flood, "-1", "2"])
        until(
            lambda: any(s.produced > 1 << 16 for s in session.info().streams), "the program writes"
        )
        os.kill(program.pid, signal.SIGSTOP)
        before = settled(registry)
        for _ in range(3):
            snapshot = session.snapshot(rundir.home / "t")
            assert snapshot.packets
            assert hashes(registry) == before
        if mode == "snapshot":
            # What does change something is seen.
            session.snapshot(rundir.home / "t", switch=True)
            assert hashes(registry) != before
        os.kill(program.pid, signal.SIGCONT)
        program.kill()
        program.wait()
        session.destroy()
