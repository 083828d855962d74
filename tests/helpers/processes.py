# SPDX-License-Identifier: MIT
"""Find, wait for and end processes; always by pid, never by name."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator

__all__ = ["alive", "child_that_inherits", "command_line", "end", "ended", "marked"]


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int | None]:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def child_that_inherits() -> Iterator[int]:
    """Fork a child that has what we have, memory and all, until the end of the block."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        yield child
    finally:
        os.close(writing)
        os.waitpid(child, 0)
        os.close(reading)


def ended(pid: int, within: float) -> bool:
    """Wait until a process has ended, ``within`` seconds at most; return whether it has."""
    with _pidfd(pid) as fd:
        return fd is None or bool(select.select([fd], [], [], within)[0])


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    return not ended(pid, 0)


def end(pid: int, patience: float = 10) -> bool:
    """End a process: SIGTERM, then SIGKILL. Return whether SIGTERM was enough."""
    with _pidfd(pid) as fd:
        if fd is None:
            return True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGTERM)
        if select.select([fd], [], [], patience)[0]:
            return True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        select.select([fd], [], [], patience)
        return False


def command_line(pid: int) -> str:
    """Return the command line of a process, empty if it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def marked(variable: str, value: str) -> list[int]:
    """Return the live processes that have ``variable=value`` in their environment."""
    wanted = f"{variable}={value}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = file.read().split(b"\0")
        except OSError:
            continue
        if wanted in environment and alive(int(name)):
            found.append(int(name))
    return sorted(found)
