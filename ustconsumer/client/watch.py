# SPDX-License-Identifier: MIT
"""What is dealt with while a command, or what it left behind, is waited for."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Collection
from typing import Protocol

from ustconsumer.client.launch import PrivateRegistry

__all__ = ["Companion", "Watch"]

#: How long an adopted orphan may stay a zombie.
_REAP_SECONDS = 1.0


class Companion(Protocol):
    """Who has something to do meanwhile."""

    def descriptors(self) -> Collection[int]:
        """Return what is to be polled."""

    def timeout(self) -> float | None:
        """Return after how many seconds at most `look` is to be called; None: never by time."""

    def look(self) -> None:
        """Do what is to be done: something may be readable, or the time is over."""

    def reaped(self, pid: int, code: int) -> None:
        """Take notice of an orphan's end; ``code`` is negative if a signal killed it."""


class Watch:
    """Waits, lets the registry say its lines, and reaps orphans.

    Parameters
    ----------
    registry : PrivateRegistry
    note : callable
        Gets each line the registry and its consumer say.
    reap : bool
        Reap other children than the command: those a subreaper inherits.
    companion : Companion, optional
    """

    def __init__(
        self,
        registry: PrivateRegistry,
        note: Callable[[str], None],
        *,
        reap: bool,
        companion: Companion | None = None,
    ) -> None:
        self.registry = registry
        self._note = note
        self._reap = reap
        self._companion = companion
        self._speaks = True

    def wait(self, descriptors: Collection[int], seconds: float | None = None) -> set[int]:
        """Wait until one is readable, something else happened, or so long.

        Returns
        -------
        set of int
            Those that are readable.
        """
        poller = select.poll()
        others = () if self._companion is None else self._companion.descriptors()
        said = (self.registry.said.fileno(),) if self._speaks else ()
        for fd in (*descriptors, *others, *said):
            poller.register(fd, select.POLLIN)
        bounds = [seconds] if seconds is not None else []
        if self._reap:
            bounds.append(_REAP_SECONDS)
        if self._companion is not None and (bound := self._companion.timeout()) is not None:
            bounds.append(bound)
        # Rounded up: a wait that ends too soon is followed by many short ones.
        ready = {fd for fd, _ in poller.poll(min(bounds) * 1000 + 1 if bounds else None)}
        if ready.intersection(said):
            lines, self._speaks = self.registry.said.read()
            for line in lines:
                self._note(line)
        if self._companion is not None:
            self._companion.look()
        return ready.intersection(descriptors)

    def reap_orphans(self, child: int | None = None) -> None:
        """Reap what ended among the orphans a subreaper inherited, but not ``child``."""
        if not self._reap:
            return
        self.registry.poll()
        with contextlib.suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid == child:
                    return
                _, status = os.waitpid(ended.si_pid, 0)
                if self._companion is not None:
                    self._companion.reaped(ended.si_pid, os.waitstatus_to_exitcode(status))
