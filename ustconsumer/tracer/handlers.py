# SPDX-License-Identifier: MIT
"""What each command does: one function for each, and the table that says on what object.

A handler gets what the registry made, the object, and the rest of the command. It returns
an `Answer`, or a value for one (a new handle, or nothing), or raises `MisuseError`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ustconsumer.abi.application import CONTEXTS, CommandNumber, ContextNumber
from ustconsumer.protocol import tracer as protocol
from ustconsumer.tracer import describe
from ustconsumer.tracer.channel import Channel
from ustconsumer.tracer.errorcounter import ErrorCounter
from ustconsumer.tracer.made import Made, Root
from ustconsumer.tracer.notifiers import Notifier, NotifierGroup
from ustconsumer.tracer.objects import MisuseError, Node
from ustconsumer.tracer.rules import Filter, Rule
from ustconsumer.tracer.session import EventRule, Session

if TYPE_CHECKING:
    from ustconsumer.tracer.bytecode import Bytecode

__all__ = ["HANDLERS", "Answer", "Request"]

#: The version of liblttng-ust whose side of the protocol this is.
_VERSION = (2, 13, 5)

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


class _Listing(Node):
    """The tracepoints of a moment, given out one by one; of both kinds of list."""

    def __init__(self, entries: list[bytes]):
        self.entries = iter(entries)


class _TracepointListing(_Listing):
    pass


class _FieldListing(_Listing):
    pass


# -- commands of the process -----------------------------------------------------------


def _session(made: Made, root: Root, got: Request) -> int:
    session = Session(made.registrar, made.tracepoints, made.bind, made.sessions)
    return made.handles.add(session)


def _version(made: Made, root: Root, got: Request) -> Answer:
    return Answer(0, 0, protocol.version_payload(*_VERSION))


def _register_done(made: Made, root: Root, got: Request) -> None:
    made.registered = True
    made.dump_pending()


def _list(made: Made, root: Root, got: Request) -> int:
    entries = [
        protocol.tracepoint_payload(each.name, each.loglevel)
        for each in reversed(made.tracepoints())
    ]
    return made.handles.add(_TracepointListing(entries))


def _list_fields(made: Made, root: Root, got: Request) -> int:
    entries: list[bytes] = []
    for each in reversed(made.tracepoints()):
        # Not declared to anybody: no id is needed.
        described = describe.fields(each, lambda name, labels: 0)
        entries += describe.listed(each.name, each.loglevel, described)
    return made.handles.add(_FieldListing(entries))


def _list_get(made: Made, listing: _TracepointListing, got: Request) -> Answer:
    entry = next(listing.entries, None)
    if entry is None:
        raise MisuseError(errno.ENOENT)
    return Answer(0, 0, payload=entry)


def _list_fields_get(made: Made, listing: _FieldListing, got: Request) -> Answer:
    entry = next(listing.entries, None)
    if entry is None:
        raise MisuseError(errno.ENOENT)
    return Answer(0, 0, trailer=entry)


# -- of a session ----------------------------------------------------------------------


def _channel(made: Made, session: Session, got: Request) -> int:
    if got.values["kind"] != 0 or len(got.fds) != 1:
        raise MisuseError(errno.EINVAL)
    channel = session.add_channel(got.data, got.fds)
    return made.handles.add(channel, parent=session)


def _enable_session(made: Made, session: Session, got: Request) -> None:
    session.enable()
    if made.registered:
        made.dump_pending()


def _disable_session(made: Made, session: Session, got: Request) -> None:
    session.disable()


def _statedump(made: Made, session: Session, got: Request) -> None:
    session.dump_pending = True
    if made.registered:
        made.dump_pending()


# -- of a channel ----------------------------------------------------------------------


def _stream(made: Made, channel: Channel, got: Request) -> None:
    if len(got.fds) != 2:
        raise MisuseError(errno.EINVAL)
    channel.add_stream(got.values["number"], got.values["length"], got.fds)


def _event(made: Made, channel: Channel, got: Request) -> int:
    _complete(channel)
    if got.values["instrumentation"] != 0:
        raise MisuseError(errno.EINVAL)
    rule = EventRule(got.values)
    handle = made.handles.add(rule, parent=channel)
    channel.session.add_rule(channel, rule)
    return handle


def _context(made: Made, channel: Channel, got: Request) -> None:
    _complete(channel)
    if got.values["number"] == ContextNumber.APP_CONTEXT:
        provider, name = protocol.app_context_names(got.values, got.data)
        channel.session.add_context(channel, f"$app.{provider}:{name}")
    elif got.values["number"] in _CONTEXT_NAMES:
        channel.session.add_context(channel, _CONTEXT_NAMES[got.values["number"]])
    else:
        raise MisuseError(errno.EINVAL)


def _enable_channel(made: Made, channel: Channel, got: Request) -> None:
    _complete(channel)
    channel.session.enable_channel(channel, True)


def _disable_channel(made: Made, channel: Channel, got: Request) -> None:
    _complete(channel)
    channel.session.enable_channel(channel, False)


def _flush(made: Made, channel: Channel, got: Request) -> None:
    _complete(channel)
    channel.flush()


# -- of a rule -------------------------------------------------------------------------


def _enable_rule(made: Made, rule: Rule, got: Request) -> None:
    _switch(rule, True)


def _disable_rule(made: Made, rule: Rule, got: Request) -> None:
    _switch(rule, False)


def _switch(rule: Rule, enabled: bool) -> None:
    rule.enabled = enabled
    _changed(rule)


def _changed(rule: Rule) -> None:
    if isinstance(rule, EventRule):
        rule.channel.session.rule_changed(rule)
    elif isinstance(rule, Notifier):
        rule.group.changed(rule)


def _filter(made: Made, rule: Rule, got: Request) -> None:
    rule.add_filter(Filter(_checked(got)))
    _changed(rule)


def _exclude(made: Made, rule: Rule, got: Request) -> None:
    rule.exclude(protocol.exclusion_names(got.data))
    _changed(rule)


def _context_of_event(made: Made, rule: Rule, got: Request) -> None:
    raise MisuseError(errno.ENOSYS)


# -- of notifiers ----------------------------------------------------------------------


def _group(made: Made, root: Root, got: Request) -> int:
    if len(got.fds) != 1:
        raise MisuseError(errno.EINVAL)
    group = NotifierGroup(got.fds, made.tracepoints, made.bind, made.groups)
    return made.handles.add(group)


def _notifier(made: Made, group: NotifierGroup, got: Request) -> int:
    wanted = protocol.event_notifier(got.data)
    if wanted["instrumentation"] != 0:
        raise MisuseError(errno.EINVAL)
    return made.handles.add(Notifier(group, wanted), parent=group)


def _counter(made: Made, group: NotifierGroup, got: Request) -> int:
    return made.handles.add(group.add_counter(protocol.counter_conf(got.data)), parent=group)


def _counter_cpu(made: Made, counter: ErrorCounter, got: Request) -> None:
    if len(got.fds) != 1:
        raise MisuseError(errno.EINVAL)
    counter.add_cpu(got.values["cpu"], got.values["length"], got.fds)


def _capture(made: Made, notifier: Notifier, got: Request) -> None:
    notifier.add_capture(_checked(got), got.values["seqnum"])
    _changed(notifier)


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


_Handler = Callable[[Made, Any, Request], Answer | int | None]
_N = CommandNumber

#: By what the handle is of, and the command. Whatever is not here is refused.
HANDLERS: dict[tuple[type[Node], int], _Handler] = {
    (Root, _N.SESSION): _session,
    (Root, _N.TRACER_VERSION): _version,
    (Root, _N.TRACEPOINT_LIST): _list,
    (Root, _N.TRACEPOINT_FIELD_LIST): _list_fields,
    (Root, _N.REGISTER_DONE): _register_done,
    (Root, _N.EVENT_NOTIFIER_GROUP_CREATE): _group,
    (Session, _N.CHANNEL): _channel,
    (Session, _N.ENABLE): _enable_session,
    (Session, _N.SESSION_START): _enable_session,
    (Session, _N.DISABLE): _disable_session,
    (Session, _N.SESSION_STOP): _disable_session,
    (Session, _N.SESSION_STATEDUMP): _statedump,
    (Channel, _N.STREAM): _stream,
    (Channel, _N.EVENT): _event,
    (Channel, _N.CONTEXT): _context,
    (Channel, _N.ENABLE): _enable_channel,
    (Channel, _N.DISABLE): _disable_channel,
    (Channel, _N.FLUSH_BUFFER): _flush,
    (EventRule, _N.CONTEXT): _context_of_event,
    (_TracepointListing, _N.TRACEPOINT_LIST_GET): _list_get,
    (_FieldListing, _N.TRACEPOINT_FIELD_LIST_GET): _list_fields_get,
    (NotifierGroup, _N.EVENT_NOTIFIER_CREATE): _notifier,
    (NotifierGroup, _N.COUNTER): _counter,
    (ErrorCounter, _N.COUNTER_CPU): _counter_cpu,
    (Notifier, _N.CAPTURE): _capture,
}
for _rule in (EventRule, Notifier):
    HANDLERS[_rule, _N.ENABLE] = _enable_rule
    HANDLERS[_rule, _N.DISABLE] = _disable_rule
    HANDLERS[_rule, _N.FILTER] = _filter
    HANDLERS[_rule, _N.EXCLUSION] = _exclude
