# SPDX-License-Identifier: MIT
"""What this process has declared, and the registries that may record it.

Imported with the first tracepoint of a program, so it imports next to nothing.
"""

from __future__ import annotations

from _thread import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol, TypeAlias

    from ustconsumer._native import emit
    from ustconsumer.tracer.declared import Declared

    Notify: TypeAlias = Callable[[tuple[object, ...]], object]

    class Listener(Protocol):
        """What one registry makes of the declared tracepoints: `made.Made`."""

        def added(self, declared: Declared) -> None:
            """Match a new tracepoint with what is recorded."""

        def removed(self, declared: Declared) -> None:
            """Forget a tracepoint."""

        def recorders(self, declared: Declared) -> list[emit.Recorder]:
            """Return who records it now."""

        def notifiers(self, declared: Declared) -> list[Notify]:
            """Return who is told of it now."""

        def close(self) -> None:
            """Let go of everything."""


__all__ = ["Process", "process", "process_name"]


def process_name() -> bytes:
    """Return the name of the process: its main thread's, at most 15 bytes."""
    with open("/proc/self/comm", "rb") as comm:
        return comm.read().removesuffix(b"\n")


class Process:
    """The declarations of this process. There is one: `process`.

    Attributes
    ----------
    lock : RLock
        Held by whoever reads or changes anything of this, or of what registries made of
        it. A tracepoint that matches an active session is registered while it is held: by
        the thread that declares it, as a library that is loaded does in C.
    declared : dict
        By name, in order of declaration.
    listeners : list
        One per registry that is connected.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self.declared: dict[str, Declared] = {}
        self.listeners: list[Listener] = []
        self._started = False

    def add(self, declared: Declared) -> None:
        """Have a tracepoint recorded by whoever wants it, now or later.

        Raises
        ------
        ValueError
            There is one of this name.
        """
        with self.lock:
            if declared.name in self.declared:
                raise ValueError(f"tracepoint {declared.name!r} is declared already")
            self.declared[declared.name] = declared
            for listener in self.listeners:
                listener.added(declared)
            self.bind(declared)

    def remove(self, declared: Declared) -> None:
        """Take a tracepoint back: nobody records it any more."""
        with self.lock:
            if self.declared.get(declared.name) is not declared:
                return
            del self.declared[declared.name]
            declared.native.bind((), ())
            for listener in self.listeners:
                listener.removed(declared)

    def bind(self, declared: Declared) -> None:
        """Tell a tracepoint who records it, after anything of that has changed."""
        recorders: list[emit.Recorder] = []
        notifiers: list[Notify] = []
        for listener in self.listeners:
            recorders += listener.recorders(declared)
            notifiers += listener.notifiers(declared)
        declared.native.bind(tuple(recorders), tuple(notifiers))

    def start(self) -> None:
        """Look for registries, on a thread of our own; once in a process."""
        with self.lock:
            if self._started:
                return
            self._started = True
        # Outside the lock: it waits for registries, whose commands need the lock.
        from ustconsumer.tracer import listener

        listener.start(self)

    def forget(self) -> None:
        """In a forked child: drop what the parent's registries made; keep what is declared."""
        # Whoever held it is a thread of the parent.
        self.lock._at_fork_reinit()  # type: ignore[attr-defined]
        self._started = False
        listeners, self.listeners = self.listeners, []
        for listener in listeners:
            listener.close()
        for declared in self.declared.values():
            declared.native.bind((), ())
        if listeners:
            from ustconsumer.tracer import contexts

            contexts.forget()


process = Process()
