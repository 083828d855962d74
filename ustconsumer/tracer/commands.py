# SPDX-License-Identifier: MIT
"""Commands of one registry: what each does, and the answer to it.

Whatever a registry sends that makes no sense is answered with the error that
liblttng-ust gives, and changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ustconsumer._native import emit
from ustconsumer.abi.application import CONTEXTS, CommandNumber, ContextNumber
from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol import tracer as protocol
from ustconsumer.tracer import describe, statedump
from ustconsumer.tracer.channel import Channel
from ustconsumer.tracer.notifiers import ErrorCounter, Notifier, NotifierGroup
from ustconsumer.tracer.objects import Handles, MisuseError, Node
from ustconsumer.tracer.rules import Filter, Rule
from ustconsumer.tracer.session import EventRule, Session

if TYPE_CHECKING:
    from ustconsumer.protocol.tracer import Command
    from ustconsumer.tracer.bytecode import Bytecode
    from ustconsumer.tracer.declared import Declared
    from ustconsumer.tracer.describe import Described
    from ustconsumer.tracer.process import Notify, Process
    from ustconsumer.tracer.registrar import Registrar

__all__ = ["Answer", "Dispatcher"]

#: The version of liblttng-ust whose side of the protocol this is.
_VERSION = (2, 13, 5)
#: A registry gives up on a program after 5 s without an answer.
_QUIESCENT_MS = 4000

_CONTEXT_NAMES = {number: name for name, number in CONTEXTS.items()}


class Answer(NamedTuple):
    """The reply to a command; ``trailer`` is sent behind it."""

    ret_code: int
    ret_val: int
    payload: bytes = b""
    trailer: bytes = b""


class Request(NamedTuple):
    """A command's members and what followed it; who takes a descriptor removes it."""

    values: dict[str, Any]
    data: bytes
    fds: list[int]


class _Root(Node):
    """The process itself: handle 0."""


class _Listing(Node):
    """The tracepoints of a moment, given out one by one; of both kinds of list."""

    def __init__(self, entries: list[bytes]):
        self.entries = iter(entries)


class _TracepointListing(_Listing):
    pass


class _FieldListing(_Listing):
    pass


class Dispatcher:
    """What one registry made in this process, by way of the commands of one connection.

    Parameters
    ----------
    process : Process
    registrar : Registrar
        Of the same registry.
    """

    def __init__(self, process: Process, registrar: Registrar):
        self._process = process
        self._registrar = registrar
        self._handles = Handles(_Root())
        self._sessions: list[Session] = []
        self._groups: list[NotifierGroup] = []
        self._registered = False
        with process.lock:
            process.listeners.append(self)

    # -- what a connection does with it ----------------------------------------------------

    def check(self, command: Command) -> None:
        """Look at a command before anything is received that follows it.

        Raises
        ------
        RemoteProtocolError
            Of a handle that does not exist: the connection is of no use any more.
        """
        if self._handles.get(command.handle) is None:
            raise RemoteProtocolError(f"command {command.number:#x} of handle {command.handle}")

    def needs_lock(self, command: Command) -> bool:
        """Return whether a command takes the lock of the process.

        WAIT_QUIESCENT does not: it waits for threads that may want it.
        """
        return (command.handle, command.number) != (0, CommandNumber.WAIT_QUIESCENT)

    def execute(self, command: Command, data: bytes = b"", fds: list[int] | None = None) -> Answer:
        """Obey a command; the descriptors are ours from now on.

        Raises
        ------
        RemoteProtocolError
            What followed the command makes no sense.
        """
        descriptors = list(fds or ())
        try:
            if not self.needs_lock(command):
                return self._quiesce()
            with self._process.lock:
                return self._obey(command, data, descriptors)
        except MisuseError as misuse:
            return Answer(*protocol.error_codes(misuse.error))
        except MemoryError:
            return Answer(*protocol.error_codes(errno.ENOMEM))
        except OSError as error:
            return Answer(*protocol.error_codes(error.errno or errno.EIO))
        finally:
            # What was not taken. After an error too: nobody else would close them.
            for fd in descriptors:
                with contextlib.suppress(OSError):
                    os.close(fd)

    def close(self) -> None:
        """Release everything that the registry made."""
        with self._process.lock:
            if self in self._process.listeners:
                self._process.listeners.remove(self)
            # Out of every tracepoint at once, then piece by piece.
            for declared in self._process.declared.values():
                self._bind(declared)
            self._handles.clear()

    def _obey(self, command: Command, data: bytes, fds: list[int]) -> Answer:
        self.check(command)
        node = self._handles.get(command.handle)
        assert node is not None
        if command.number == CommandNumber.RELEASE:
            self._handles.release(command.handle)
            return Answer(0, 0)
        handler = _HANDLERS.get((type(node), command.number))
        if handler is None:
            raise MisuseError(errno.EINVAL)
        result = handler(self, node, Request(command.values, data, fds))
        return result if isinstance(result, Answer) else Answer(0, result or 0)

    def _quiesce(self) -> Answer:
        if not emit.quiesce(_QUIESCENT_MS):
            raise MisuseError(errno.ETIMEDOUT)
        return Answer(0, 0)

    # -- what the process asks -------------------------------------------------------------

    def added(self, declared: Declared) -> None:
        """Match a new tracepoint with what is recorded."""
        for session in self._sessions:
            session.added(declared)

    def removed(self, declared: Declared) -> None:
        """Forget a tracepoint."""
        for session in self._sessions:
            session.removed(declared)
        for notifier in self._notifiers():
            notifier.forget(declared)

    def recorders(self, declared: Declared) -> list[emit.Recorder]:
        """Return who records it now."""
        return [each for session in self._sessions for each in session.recorders(declared)]

    def notifiers(self, declared: Described) -> list[Notify]:
        """Return who is told of it now."""
        return [
            notifier.notify(declared)
            for notifier in self._notifiers()
            if notifier.enabled and notifier.matches(declared.name, declared.loglevel)
        ]

    def _notifiers(self) -> list[Notifier]:
        return [notifier for group in self._groups for notifier in group.notifiers]

    def _tracepoints(self) -> list[Described]:
        return [*statedump.BUILTINS, *self._process.declared.values()]

    def _bind(self, declared: Described) -> None:
        # Those of the state dump are emitted to one session at a time.
        if not isinstance(declared, statedump.Builtin):
            self._process.bind(declared)

    # -- commands of the process -----------------------------------------------------------

    def _session(self, root: _Root, got: Request) -> int:
        session = Session(self._registrar, self._tracepoints, self._bind, self._sessions)
        return self._handles.add(session)

    def _version(self, root: _Root, got: Request) -> Answer:
        return Answer(0, 0, protocol.version_payload(*_VERSION))

    def _register_done(self, root: _Root, got: Request) -> None:
        self._registered = True
        self._dump_pending()

    def _list(self, root: _Root, got: Request) -> int:
        entries = [
            protocol.tracepoint_payload(each.name, each.loglevel)
            for each in reversed(self._tracepoints())
        ]
        return self._handles.add(_TracepointListing(entries))

    def _list_fields(self, root: _Root, got: Request) -> int:
        entries: list[bytes] = []
        for each in reversed(self._tracepoints()):
            # Not declared to anybody: no id is needed.
            described = describe.fields(each, lambda name, labels: 0)
            entries += describe.listed(each.name, each.loglevel, described)
        return self._handles.add(_FieldListing(entries))

    def _list_get(self, listing: _TracepointListing, got: Request) -> Answer:
        entry = next(listing.entries, None)
        if entry is None:
            raise MisuseError(errno.ENOENT)
        return Answer(0, 0, payload=entry)

    def _list_fields_get(self, listing: _FieldListing, got: Request) -> Answer:
        entry = next(listing.entries, None)
        if entry is None:
            raise MisuseError(errno.ENOENT)
        return Answer(0, 0, trailer=entry)

    # -- of a session ----------------------------------------------------------------------

    def _channel(self, session: Session, got: Request) -> int:
        if got.values["kind"] != 0 or len(got.fds) != 1:
            raise MisuseError(errno.EINVAL)
        channel = session.add_channel(got.data, got.fds)
        return self._handles.add(channel, parent=session)

    def _enable_session(self, session: Session, got: Request) -> None:
        session.enable()
        if self._registered:
            self._dump_pending()

    def _disable_session(self, session: Session, got: Request) -> None:
        session.disable()

    def _statedump(self, session: Session, got: Request) -> None:
        session.dump_pending = True
        if self._registered:
            self._dump_pending()

    # -- of a channel ----------------------------------------------------------------------

    def _stream(self, channel: Channel, got: Request) -> None:
        if len(got.fds) != 2:
            raise MisuseError(errno.EINVAL)
        channel.add_stream(got.values["number"], got.values["length"], got.fds)

    def _event(self, channel: Channel, got: Request) -> int:
        _complete(channel)
        if got.values["instrumentation"] != 0:
            raise MisuseError(errno.EINVAL)
        rule = EventRule(got.values)
        handle = self._handles.add(rule, parent=channel)
        channel.session.add_rule(channel, rule)
        return handle

    def _context(self, channel: Channel, got: Request) -> None:
        _complete(channel)
        if got.values["number"] == ContextNumber.APP_CONTEXT:
            provider = got.data[: got.values["provider_length"]].partition(b"\0")[0].decode()
            name = got.data[got.values["provider_length"] :].partition(b"\0")[0].decode()
            channel.session.add_context(channel, f"$app.{provider}:{name}")
        elif got.values["number"] in _CONTEXT_NAMES:
            channel.session.add_context(channel, _CONTEXT_NAMES[got.values["number"]])
        else:
            raise MisuseError(errno.EINVAL)

    def _enable_channel(self, channel: Channel, got: Request) -> None:
        _complete(channel)
        channel.session.enable_channel(channel, True)

    def _disable_channel(self, channel: Channel, got: Request) -> None:
        _complete(channel)
        channel.session.enable_channel(channel, False)

    def _flush(self, channel: Channel, got: Request) -> None:
        _complete(channel)
        channel.flush()

    # -- of a rule -------------------------------------------------------------------------

    def _enable_rule(self, rule: Rule, got: Request) -> None:
        self._switch(rule, True)

    def _disable_rule(self, rule: Rule, got: Request) -> None:
        self._switch(rule, False)

    def _switch(self, rule: Rule, enabled: bool) -> None:
        rule.enabled = enabled
        self._changed(rule)

    def _changed(self, rule: Rule) -> None:
        if isinstance(rule, EventRule):
            rule.channel.session.rule_changed(rule)
        elif isinstance(rule, Notifier):
            rule.group.changed(rule)

    def _filter(self, rule: Rule, got: Request) -> None:
        rule.add_filter(Filter(_checked(got)))
        self._changed(rule)

    def _exclude(self, rule: Rule, got: Request) -> None:
        rule.exclude(protocol.exclusion_names(got.data))
        self._changed(rule)

    def _context_of_event(self, rule: Rule, got: Request) -> None:
        raise MisuseError(errno.ENOSYS)

    # -- of notifiers ----------------------------------------------------------------------

    def _group(self, root: _Root, got: Request) -> int:
        if len(got.fds) != 1:
            raise MisuseError(errno.EINVAL)
        group = NotifierGroup(got.fds, self._tracepoints, self._bind, self._groups)
        return self._handles.add(group)

    def _notifier(self, group: NotifierGroup, got: Request) -> int:
        wanted = protocol.event_notifier(got.data)
        if wanted["instrumentation"] != 0:
            raise MisuseError(errno.EINVAL)
        return self._handles.add(Notifier(group, wanted), parent=group)

    def _counter(self, group: NotifierGroup, got: Request) -> int:
        return self._handles.add(group.add_counter(protocol.counter_conf(got.data)), parent=group)

    def _counter_cpu(self, counter: ErrorCounter, got: Request) -> None:
        if len(got.fds) != 1:
            raise MisuseError(errno.EINVAL)
        counter.add_cpu(got.values["cpu"], got.values["length"], got.fds)

    def _capture(self, notifier: Notifier, got: Request) -> None:
        notifier.add_capture(_checked(got), got.values["seqnum"])
        self._changed(notifier)

    # -- the state dump --------------------------------------------------------------------

    def _dump_pending(self) -> None:
        """Emit the state dump to each session that is owed one."""
        pending = [session for session in self._sessions if session.dump_pending]
        for session in pending:
            session.dump_pending = False
            if session.active:
                statedump.dump(lambda *event, to=session: self._emit(to, *event), _procname())

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
            if recorder is not None and _accepted(recorder, values):
                encoder.emit_to(recorder, *raw)
        for notify in self.notifiers(event):
            notify(values)


def _complete(channel: Channel) -> None:
    if not channel.ready:
        raise MisuseError(errno.EPERM)


def _checked(got: Request) -> Bytecode | None:
    """Return bytecode, None if it makes no sense: that is no error to the registry."""
    from ustconsumer.tracer.bytecode import BytecodeError, check

    try:
        return check(got.data, got.values["reloc_offset"])
    except BytecodeError:
        return None


def _accepted(recorder: emit.Recorder, values: tuple[object, ...]) -> bool:
    if recorder.filters is None:
        return True
    for accepts in recorder.filters:
        try:
            if accepts(values):
                return True
        except Exception:  # noqa: S112 - an error rejects, as it does natively
            continue
    return False


def _procname() -> bytes:
    """Name of the main thread."""
    with open("/proc/self/comm", "rb") as comm:
        return comm.read().removesuffix(b"\n")


_Handler = Callable[[Dispatcher, Any, Request], Answer | int | None]
_N = CommandNumber

#: By what the handle is of, and the command. Whatever is not here is refused.
_HANDLERS: dict[tuple[type[Node], int], _Handler] = {
    (_Root, _N.SESSION): Dispatcher._session,
    (_Root, _N.TRACER_VERSION): Dispatcher._version,
    (_Root, _N.TRACEPOINT_LIST): Dispatcher._list,
    (_Root, _N.TRACEPOINT_FIELD_LIST): Dispatcher._list_fields,
    (_Root, _N.REGISTER_DONE): Dispatcher._register_done,
    (_Root, _N.EVENT_NOTIFIER_GROUP_CREATE): Dispatcher._group,
    (Session, _N.CHANNEL): Dispatcher._channel,
    (Session, _N.ENABLE): Dispatcher._enable_session,
    (Session, _N.SESSION_START): Dispatcher._enable_session,
    (Session, _N.DISABLE): Dispatcher._disable_session,
    (Session, _N.SESSION_STOP): Dispatcher._disable_session,
    (Session, _N.SESSION_STATEDUMP): Dispatcher._statedump,
    (Channel, _N.STREAM): Dispatcher._stream,
    (Channel, _N.EVENT): Dispatcher._event,
    (Channel, _N.CONTEXT): Dispatcher._context,
    (Channel, _N.ENABLE): Dispatcher._enable_channel,
    (Channel, _N.DISABLE): Dispatcher._disable_channel,
    (Channel, _N.FLUSH_BUFFER): Dispatcher._flush,
    (EventRule, _N.CONTEXT): Dispatcher._context_of_event,
    (_TracepointListing, _N.TRACEPOINT_LIST_GET): Dispatcher._list_get,
    (_FieldListing, _N.TRACEPOINT_FIELD_LIST_GET): Dispatcher._list_fields_get,
    (NotifierGroup, _N.EVENT_NOTIFIER_CREATE): Dispatcher._notifier,
    (NotifierGroup, _N.COUNTER): Dispatcher._counter,
    (ErrorCounter, _N.COUNTER_CPU): Dispatcher._counter_cpu,
    (Notifier, _N.CAPTURE): Dispatcher._capture,
}
for _rule in (EventRule, Notifier):
    _HANDLERS[_rule, _N.ENABLE] = Dispatcher._enable_rule
    _HANDLERS[_rule, _N.DISABLE] = Dispatcher._disable_rule
    _HANDLERS[_rule, _N.FILTER] = Dispatcher._filter
    _HANDLERS[_rule, _N.EXCLUSION] = Dispatcher._exclude
