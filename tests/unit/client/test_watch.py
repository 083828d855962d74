# SPDX-License-Identifier: MIT
"""What is dealt with while a command is waited for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ustconsumer.client.launch import Lines
from ustconsumer.client.watch import Watch


class Registry:
    """What a watch needs of one: the end of its standard error."""

    def __init__(self) -> None:
        read, self.write = os.pipe()
        self.said = Lines(read)
        self.polled = 0

    def poll(self) -> None:
        self.polled += 1


class Passenger:
    """A companion that notes what it is told."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.bound: float | None = None
        self.looks = 0
        self.ended: list[int] = []

    def descriptors(self) -> list[int]:
        return [self.read]

    def timeout(self) -> float | None:
        return self.bound

    def look(self) -> None:
        self.looks += 1

    def reaped(self, pid: int, code: int) -> None:
        self.ended.append(code)


@pytest.fixture
def registry() -> Iterator[Any]:
    made = Registry()
    yield made
    made.said.close()


@pytest.fixture
def passenger() -> Iterator[Passenger]:
    made = Passenger()
    yield made
    os.close(made.read)
    os.close(made.write)


def test_lines_of_the_registry_are_told_until_it_is_gone(registry: Any) -> None:
    lines: list[str] = []
    watch = Watch(registry, lines.append, reap=False)
    os.write(registry.write, b"one\ntwo\nth")
    assert watch.wait(()) == set()
    os.write(registry.write, b"ree\n")
    assert watch.wait(()) == set()
    os.close(registry.write)
    assert watch.wait(()) == set()
    assert lines == ["one", "two", "three"]
    # Its pipe is readable from now on: no reason to return at once.
    ready, write = os.pipe()
    os.write(write, b"x")
    assert watch.wait((ready,)) == {ready}
    os.close(ready)
    os.close(write)


def test_a_companion_is_woken_by_its_descriptors_and_by_time(
    registry: Any, passenger: Passenger
) -> None:
    watch = Watch(registry, lambda line: None, reap=False, companion=passenger)
    os.write(passenger.write, b"x")
    # What is readable for it is none of the caller's business.
    assert watch.wait(()) == set()
    os.read(passenger.read, 1)
    passenger.bound = 0.01
    assert watch.wait((), 3600) == set()
    assert passenger.looks == 2
    os.close(registry.write)


def test_orphans_are_reaped_and_the_companion_told(registry: Any, passenger: Passenger) -> None:
    """In a process of its own: what is reaped is every child there is."""
    program = """
import os, signal, sys
sys.path[:0] = sys.argv[1:]
from test_watch import Passenger, Registry
from ustconsumer.client.watch import Watch

def child(end):
    pid = os.fork()
    if pid == 0:
        end()
        os._exit(5)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid

passenger = Passenger()
watch = Watch(Registry(), print, reap=True, companion=passenger)
child(lambda: os.kill(os.getpid(), signal.SIGKILL))
child(lambda: None)
watch.reap_orphans()
assert passenger.ended == [-9, 5], passenger.ended
command = child(lambda: None)
watch.reap_orphans(command)
assert os.waitpid(command, 0)[0] == command
Watch(Registry(), print, reap=False).reap_orphans()
"""
    here = os.path.dirname(__file__)
    result = subprocess.run(
        [sys.executable, "-c", program, here, *sys.path], capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
    os.close(registry.write)
