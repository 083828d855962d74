# SPDX-License-Identifier: MIT
"""What one registry made in this process, and what of it a tracepoint concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustconsumer.tracer import statedump
from ustconsumer.tracer.objects import Handles, Node
from ustconsumer.tracer.process import process_name
from ustconsumer.tracer.rules import passes

if TYPE_CHECKING:
    from ustconsumer._native import emit
    from ustconsumer.tracer.declared import Declared
    from ustconsumer.tracer.describe import Described
    from ustconsumer.tracer.notifiers import Notifier, NotifierGroup
    from ustconsumer.tracer.process import Notify, Process
    from ustconsumer.tracer.registrar import Registrar
    from ustconsumer.tracer.session import Session

__all__ = ["Made", "Root"]


class Root(Node):
    """The process itself: handle 0."""


class Made:
    """The objects of one registry.

    Parameters
    ----------
    process : Process
    registrar : Registrar
        Of the same registry.

    Attributes
    ----------
    handles : Handles
    sessions, groups : list
        Of those, what records and what tells of events.
    registered : bool
        The registry has set us up: sessions that become active get their state dump at
        once, not at the end of the registration.
    """

    def __init__(self, process: Process, registrar: Registrar):
        self.registrar = registrar
        self.handles = Handles(Root())
        self.sessions: list[Session] = []
        self.groups: list[NotifierGroup] = []
        self.registered = False
        self._process = process
        with process.lock:
            process.listeners.append(self)

    def added(self, declared: Declared) -> None:
        """Match a new tracepoint with what is recorded."""
        for session in self.sessions:
            session.added(declared)

    def removed(self, declared: Declared) -> None:
        """Forget a tracepoint."""
        for session in self.sessions:
            session.removed(declared)
        for notifier in self._notifiers():
            notifier.forget(declared)

    def recorders(self, declared: Declared) -> list[emit.Recorder]:
        """Return who records it now."""
        return [each for session in self.sessions for each in session.recorders(declared)]

    def notifiers(self, declared: Described) -> list[Notify]:
        """Return who is told of it now."""
        return [
            notifier.notify(declared)
            for notifier in self._notifiers()
            if notifier.enabled and notifier.matches(declared.name, declared.loglevel)
        ]

    def _notifiers(self) -> list[Notifier]:
        return [notifier for group in self.groups for notifier in group.notifiers]

    def tracepoints(self) -> list[Described]:
        """Return all that can be recorded, in order of declaration."""
        return [*statedump.BUILTINS, *self._process.declared.values()]

    def bind(self, declared: Described) -> None:
        """Tell a tracepoint who records it, after anything of that has changed."""
        # Those of the state dump are emitted to one session at a time.
        if not isinstance(declared, statedump.Builtin):
            self._process.bind(declared)

    def close(self) -> None:
        """Release everything."""
        with self._process.lock:
            if self in self._process.listeners:
                self._process.listeners.remove(self)
            # Out of every tracepoint at once, then piece by piece.
            for declared in self._process.declared.values():
                self._process.bind(declared)
            self.handles.clear()

    # -- the state dump --------------------------------------------------------------------

    def dump_pending(self) -> None:
        """Emit the state dump to each session that is owed one."""
        pending = [session for session in self.sessions if session.dump_pending]
        for session in pending:
            session.dump_pending = False
            if session.active:
                statedump.dump(lambda *event, to=session: self._emit(to, *event), process_name())

    def _emit(
        self,
        session: Session,
        event: statedump.Builtin,
        values: tuple[object, ...],
        encoder: emit.Tracepoint,
        raw: tuple[object, ...],
    ) -> None:
        for channel in session.channels:
            recorder = channel.recorder(event, dump=True)
            # Filters see the values as they are declared, not as they are encoded.
            if recorder is not None and passes(recorder.filters, values):
                encoder.emit_to(recorder, *raw)
        for notify in self.notifiers(event):
            notify(values)
