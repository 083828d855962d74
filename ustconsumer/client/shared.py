# SPDX-License-Identifier: MIT
"""The registry that all recordings within this process share.

It starts with the first of them and ends with the last. The tracer of this process, and
those of the children it forks, are registered with it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ustconsumer.client.launch import PrivateRegistry
from ustconsumer.client.output import OUTER_HOME
from ustconsumer.client.program import environment
from ustconsumer.tracer import listener

__all__ = ["Recording", "SharedRegistry", "shared"]

_HOME = "LTTNG_HOME"


class Recording(Protocol):
    """What uses the registry."""

    def stop(self) -> None:
        """End it; raises nothing but exceptions."""


class SharedRegistry:
    """There is one: `shared`. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._registry: PrivateRegistry | None = None
        self._users = 0
        self._leading = 0
        #: what the environment had instead
        self._before: dict[str, str | None] = {}
        self._unfinished: list[Recording] = []
        self._temporary: set[Path] = set()
        self._watching = False

    def acquire(self, children: bool) -> Path:
        """Have it run and this process registered; return its run directory.

        Parameters
        ----------
        children : bool
            Lead programs there that are started from now on.

        Raises
        ------
        CommandError
            It could not be started.
        OSError
            It does not register this process.
        """
        with self._lock:
            if self._registry is None:
                self._start()
            assert self._registry is not None
            self._users += 1
            if children:
                self._leading += 1
                if self._leading == 1:
                    self._lead(self._registry.home)
            return _rundir(self._registry)

    def release(self, children: bool) -> list[str]:
        """End what `acquire` began, with the same argument; return the last words of the last."""
        with self._lock:
            if self._registry is None:
                # This is a forked child, or the interpreter is ending.
                return []
            self._users -= 1
            if children:
                self._leading -= 1
                if not self._leading:
                    self._lead_back()
            return [] if self._users else self._end()

    @contextlib.contextmanager
    def unfinished(self, recording: Recording) -> Iterator[None]:
        """Have a recording stopped when the process ends, unless it is over by then."""
        self._unfinished.append(recording)
        try:
            yield
        finally:
            self._unfinished.remove(recording)

    def keep(self, place: Path) -> None:
        """Have `remove` called for a directory when this process ends, at the latest."""
        self._temporary.add(place)

    def remove(self, place: Path) -> None:
        """Remove a directory of `keep`, unless it is the parent's of a fork."""
        if place in self._temporary:
            self._temporary.discard(place)
            shutil.rmtree(place, ignore_errors=True)

    def _start(self) -> None:
        registry = PrivateRegistry()
        try:
            listener.attach(str(_rundir(registry)))
        except BaseException:
            registry.close()
            raise
        self._registry = registry
        if not self._watching:
            self._watching = True
            os.register_at_fork(after_in_child=self._forget)
            # After the tracer's, hence called before it: the tracer has to answer once more.
            atexit.register(self._at_exit)

    def _end(self) -> list[str]:
        registry, self._registry = self._registry, None
        assert registry is not None
        listener.detach(str(_rundir(registry)))
        return registry.close()

    def _lead(self, home: Path) -> None:
        # A program that looks for LTTNG_HOME is no concern of which program it is.
        wanted = environment(Path(os.devnull), home, os.environ)
        for name in (_HOME, OUTER_HOME):
            self._before[name] = os.environ.get(name)
            os.environ[name] = wanted[name]

    def _lead_back(self) -> None:
        assert self._registry is not None
        if os.environ.get(_HOME) != str(self._registry.home):
            # Somebody else has set it meanwhile.
            return
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def _at_exit(self) -> None:
        """Complete the traces of those who did not."""
        for recording in tuple(self._unfinished):
            # Nobody is there any more who could be told.
            with contextlib.suppress(Exception):
                recording.stop()
        with self._lock:
            if self._registry is not None:
                self._end()
        for place in tuple(self._temporary):
            self.remove(place)

    def _forget(self) -> None:
        """In a forked child: recordings, registry and directories are the parent's."""
        self._lock = threading.Lock()
        registry, self._registry = self._registry, None
        self._users = self._leading = 0
        self._temporary = set()
        if registry is not None:
            registry.abandon()


shared = SharedRegistry()


def _rundir(registry: PrivateRegistry) -> Path:
    return registry.home / ".lttng"
