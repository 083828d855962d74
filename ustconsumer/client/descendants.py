# SPDX-License-Identifier: MIT
"""The programs a recorded command leaves behind: waiting for them, and naming them."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterator

from ustconsumer.client.launch import PrivateRegistry
from ustconsumer.client.registry import Registry
from ustconsumer.client.signals import CommandSignals
from ustconsumer.client.watch import Watch
from ustconsumer.errors import ConnectionClosedError
from ustconsumer.protocol.control import AppInfo

__all__ = ["alive", "below", "wait_for_all"]

#: From fork to registration, also of a shell's child on a loaded machine. Whoever has not
#: registered by then is not traced, and not waited for.
_GRACE_SECONDS = 2.0
#: How soon a descendant that may still register is looked at again.
_LOOK_SECONDS = 0.05


def wait_for_all(watch: Watch, signals: CommandSignals) -> None:
    """Wait until no program is left that is recorded, or a signal says that it is enough.

    That is whoever registered, whoever writes through the registration of a parent, and
    for a moment each descendant that may be about to register.

    Parameters
    ----------
    watch : Watch
        Has the rest done meanwhile.
    signals : CommandSignals
        Lingering.
    """
    registry = watch.registry
    first_seen: dict[tuple[int, int], float] = {}
    quiet = 0
    # The end of a program may be known to us before the registry says who else has its
    # buffers: once more, then.
    while quiet < 2:
        try:
            recorded = _recorded(registry)
        except ConnectionClosedError:
            # Who stops the session will say so.
            return
        with contextlib.ExitStack() as stack:
            opened = (stack.enter_context(_open(app.pid)) for app in recorded)
            running = {handle for handle in opened if handle is not None}
            newcomers = _newcomers(registry, {app.pid for app in recorded}, first_seen)
            quiet = 0 if running or newcomers else quiet + 1
            while True:
                soon = newcomers or not running
                ready = watch.wait((*running, signals.enough), _LOOK_SECONDS if soon else None)
                if signals.enough in ready:
                    return
                watch.reap_orphans()
                # Whatever else begins meanwhile: these are reason enough to go on. The registry
                # looks through all processes to answer.
                if soon or running & ready:
                    break


def alive(registry: PrivateRegistry) -> list[AppInfo]:
    """Return the programs that are recorded and have not ended."""
    with contextlib.ExitStack() as stack:
        return [
            app for app in _recorded(registry) if stack.enter_context(_open(app.pid)) is not None
        ]


def below(root: int, without: int) -> set[tuple[int, int]]:
    """Return the live descendants of a process, but not those of process group ``without``.

    Returns
    -------
    set of (int, int)
        Process id and start time: a number may be used again.
    """
    parents: dict[int, list[tuple[int, int]]] = {}
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # Fields from the third on: the second is a name with anything in it.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields and fields[0] not in b"ZX" and int(fields[2]) != without:
            parents.setdefault(int(fields[1]), []).append((int(name), int(fields[19])))
    found: set[tuple[int, int]] = set()
    queue = [root]
    while queue:
        for process in parents.get(queue.pop(), ()):
            if process not in found:
                found.add(process)
                queue.append(process[0])
    return found


def _recorded(registry: PrivateRegistry) -> list[AppInfo]:
    applications = Registry(registry.connection).applications()
    return [app for app in applications if app.state != "refused"]


def _newcomers(
    registry: PrivateRegistry, known: set[int], first_seen: dict[tuple[int, int], float]
) -> bool:
    """Whether there is a descendant that is not known, but young enough to register yet."""
    now = time.monotonic()
    found = below(os.getpid(), registry.pid)
    for process in first_seen.keys() - found:
        del first_seen[process]
    young = False
    for process in found:
        seen = first_seen.setdefault(process, now)
        young = young or (process[0] not in known and now - seen < _GRACE_SECONDS)
    return young


@contextlib.contextmanager
def _open(pid: int) -> Iterator[int | None]:
    """Give a descriptor of a process that is readable when it ends, ``None`` if it has ended."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        yield None
        return
    try:
        # Not select(): whose program this is may have thousands of files open.
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        yield None if poll.poll(0) else handle
    finally:
        os.close(handle)
