# SPDX-License-Identifier: MIT
"""Waiting for the recorded command, and for what happens meanwhile."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable

from ustconsumer.client.launch import PrivateRegistry
from ustconsumer.client.signals import CommandSignals

__all__ = ["reap_orphans", "wait"]

#: How long an adopted orphan may stay a zombie.
_REAP_MS = 1000


def wait(
    child: int,
    registry: PrivateRegistry,
    signals: CommandSignals,
    note: Callable[[str], None],
    reap: bool,
) -> int:
    """Wait until a child process ends; return its exit status, 128 + n for signal n.

    Parameters
    ----------
    note : callable
        Gets each line the registry and its consumer say.
    reap : bool
        Also reap other children: those a subreaper inherits.
    """
    handle = os.pidfd_open(child)
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    poller.register(registry.said, select.POLLIN)
    running = True
    try:
        while running:
            for fd, _ in poller.poll(_REAP_MS if reap else None):
                if fd == handle:
                    running = False
                    continue
                lines, more = registry.said.read()
                for line in lines:
                    note(line)
                if not more:
                    poller.unregister(fd)
            if reap and running:
                reap_orphans(registry, child)
    finally:
        os.close(handle)
    # From here on the number could be another process's.
    signals.ended()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def reap_orphans(registry: PrivateRegistry, child: int | None = None) -> None:
    """Reap what ended among the orphans a subreaper inherited, but not ``child``."""
    registry.poll()
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid == child:
                return
            os.waitpid(ended.si_pid, 0)
