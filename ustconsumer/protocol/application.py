# SPDX-License-Identifier: MIT
"""The registry's side of the application protocol, ABI 8 to 10: bytes and messages, no I/O.

A `Command` is a list of steps to send; where a step says so, one reply of
`REPLY_SIZE` bytes is awaited before the next. Requests of the other socket are
in `ustconsumer.protocol.notify` and reachable from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ustconsumer.abi.application import (
    APPLICATION_LAYOUTS,
    REGISTRATION,
    REGISTRATION_MAGIC,
    RETURN_CODES,
    TRACER_LAYOUTS,
    CommandNumber,
    SocketType,
)
from ustconsumer.errors import LocalProtocolError, RemoteProtocolError
from ustconsumer.protocol.contexts import Context
from ustconsumer.protocol.fields import text
from ustconsumer.protocol.notify import (
    ChannelRequest,
    EnumRequest,
    EventRequest,
    NotifyDecoder,
    Request,
    channel_reply,
    enum_reply,
    event_reply,
)

__all__ = [
    "NOENT",
    "NOTIFIERS_SINCE",
    "REGISTRATION_SIZE",
    "REPLY_SIZE",
    "ChannelRequest",
    "Command",
    "EnumRequest",
    "EventRequest",
    "NotifyDecoder",
    "Registration",
    "Reply",
    "Request",
    "SocketType",
    "Step",
    "TracepointEntry",
    "capture",
    "channel",
    "channel_reply",
    "context",
    "disable",
    "enable",
    "enum_reply",
    "error_name",
    "event",
    "event_notifier",
    "event_notifier_group",
    "event_reply",
    "exclusion",
    "filter_",
    "parse_registration",
    "parse_reply",
    "refusal",
    "register_done",
    "release",
    "reply_version",
    "session",
    "statedump",
    "stream",
    "tracepoint_entry",
    "tracepoint_list",
    "tracepoint_list_get",
    "tracer_version",
    "wait_quiescent",
]

# Every command this module makes has the same bytes in ABI 8, 9 and 10.
_LAYOUTS = APPLICATION_LAYOUTS[9]
_TRACER = TRACER_LAYOUTS[9]

#: ABI from which on programs have event notifiers.
NOTIFIERS_SINCE = 9

REGISTRATION_SIZE = REGISTRATION.size
REPLY_SIZE = _LAYOUTS.reply.size
#: ``Reply.ret_code`` at the end of a list.
NOENT = -1025

_ROOT = 0
_MAX_BLOB = 1 << 20
_MAX_BYTECODE = 1 << 16
#: A message that only carries descriptors: one byte.
_CARRIER = b"\0"


# -- registration ------------------------------------------------------------------


class Registration(NamedTuple):
    """What an application says first on each of its two sockets. Believe the kernel instead."""

    major: int
    minor: int
    pid: int
    ppid: int
    uid: int
    gid: int
    bits_per_long: int
    #: in bits, by type: "uint8", "uint16", "uint32", "uint64", "long"
    alignments: dict[str, int]
    #: `SocketType`
    socket_type: int
    name: str
    #: of a machine of the other byte order
    swapped: bool = False


def parse_registration(raw: bytes) -> Registration:
    """Return the registration in `REGISTRATION_SIZE` bytes.

    Raises
    ------
    RemoteProtocolError
        Not a registration, or for an unknown kind of socket.
    """
    if len(raw) != REGISTRATION_SIZE:
        raise RemoteProtocolError(f"registration of {len(raw)} bytes")
    swapped = raw.startswith(REGISTRATION_MAGIC.to_bytes(4, "big"))
    if swapped:
        # Its numbers are all of 32 bits, and come before its name.
        end = REGISTRATION.offset("name")
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, end, 4)) + raw[end:]
    values = REGISTRATION.get_all(raw)
    magic: int = values.pop("magic")
    if magic != REGISTRATION_MAGIC:
        raise RemoteProtocolError(f"registration with magic {magic:#x}")
    if values["socket_type"] not in (SocketType.COMMAND, SocketType.NOTIFY):
        raise RemoteProtocolError(f"registration of socket type {values['socket_type']}")
    alignments = {
        name: values.pop(name) for name in ("uint8", "uint16", "uint32", "uint64", "long")
    }
    values["name"] = text(values["name"], "process name")
    return Registration(alignments=alignments, swapped=swapped, **values)


def refusal(registration: Registration) -> str:
    """Return why such an application cannot be traced, empty if it can."""
    if registration.swapped:
        return "its byte order is not this machine's"
    if registration.major not in APPLICATION_LAYOUTS:
        known = f"{min(APPLICATION_LAYOUTS)} to {max(APPLICATION_LAYOUTS)}"
        return f"its LTTng-UST speaks ABI {registration.major}, not {known}"
    if registration.bits_per_long != 64:
        return f"it is a {registration.bits_per_long}-bit program, not a 64-bit one"
    if set(registration.alignments.values()) != {8}:
        return "its records are padded for alignment, those of x86-64 are packed"
    return ""


# -- commands ----------------------------------------------------------------------


class Step(NamedTuple):
    """One thing to send, then, if ``reply``, one reply to await.

    With descriptors, ``data`` is the one byte they travel with and goes out as its
    own message: an application receives them with a buffer of exactly that size.
    """

    data: bytes
    fds: tuple[int, ...] = ()
    reply: bool = False


class Command(NamedTuple):
    """A command; ``handle`` and ``number`` come back in each of its replies."""

    name: str
    handle: int
    number: int
    steps: tuple[Step, ...]


def _command(name: str, handle: int, number: int, payload: bytes = b"", *more: Step) -> Command:
    """Return a one-phase command: everything is sent, then one reply comes."""
    message = _LAYOUTS.command.pack({"handle": handle, "command": number, "payload": payload})
    steps = [Step(message), *more]
    steps[-1] = steps[-1]._replace(reply=True)
    return Command(name, handle, number, tuple(steps))


def _two_phases(name: str, handle: int, number: int, payload: bytes, step: Step) -> Command:
    """Return a command that is answered before and after what follows it."""
    first = _command(name, handle, number, payload)
    return first._replace(steps=(*first.steps, step._replace(reply=True)))


def tracer_version() -> Command:
    """Ask for the version of liblttng-ust: see `reply_version`."""
    return _command("TRACER_VERSION", _ROOT, CommandNumber.TRACER_VERSION)


def wait_quiescent() -> Command:
    """Wait until every probe that was running when it arrived has ended."""
    return _command("WAIT_QUIESCENT", _ROOT, CommandNumber.WAIT_QUIESCENT)


def register_done() -> Command:
    """Let the application's ``main`` begin."""
    return _command("REGISTER_DONE", _ROOT, CommandNumber.REGISTER_DONE)


def session() -> Command:
    """Create a session, inactive; its handle is ``ret_val``."""
    return _command("SESSION", _ROOT, CommandNumber.SESSION)


def release(handle: int) -> Command:
    """Give back a handle; events before their channel, channels before their session."""
    return _command("RELEASE", handle, CommandNumber.RELEASE)


def enable(handle: int) -> Command:
    """Enable a session, channel or event. A session asks on the notify socket meanwhile."""
    return _command("ENABLE", handle, CommandNumber.ENABLE)


def disable(handle: int) -> Command:
    """Disable a session, channel or event."""
    return _command("DISABLE", handle, CommandNumber.DISABLE)


def statedump(handle: int) -> Command:
    """Record the state of the process again, in an active session."""
    return _command("SESSION_STATEDUMP", handle, CommandNumber.SESSION_STATEDUMP)


def channel(session_handle: int, blob: bytes, wakeup_fd: int) -> Command:
    """Create a channel from the image of its object; its handle is ``ret_val``.

    Never let it fail: an application of 2.13 aborts at the next descriptor it gets.
    """
    if not 0 < len(blob) <= _MAX_BLOB:
        raise LocalProtocolError(f"channel object of {len(blob)} bytes")
    payload = _LAYOUTS.channel.pack({"length": len(blob)})
    return _command(
        "CHANNEL",
        session_handle,
        CommandNumber.CHANNEL,
        payload,
        Step(blob),
        Step(_CARRIER, (wakeup_fd,)),
    )


def stream(channel_handle: int, nr: int, memory_size: int, shm_fd: int, wakeup_fd: int) -> Command:
    """Give a channel its next stream: all of them, in order, before events and contexts."""
    payload = _LAYOUTS.stream.pack({"length": memory_size, "number": nr})
    return _command(
        "STREAM",
        channel_handle,
        CommandNumber.STREAM,
        payload,
        Step(_CARRIER, (shm_fd, wakeup_fd)),
    )


def context(channel_handle: int, wanted: Context) -> Command:
    """Add a context to a channel, before its session is first enabled."""
    names = b""
    if wanted.perf is not None:
        kind, config, name = wanted.perf
        payload = _TRACER.perf_context.pack(
            {"number": wanted.number, "type": kind, "config": config, "name": name.encode()}
        )
    elif wanted.provider:
        provider, field = (text.encode() + b"\0" for text in (wanted.provider, wanted.field))
        names = provider + field
        payload = _TRACER.app_context.pack(
            {
                "number": wanted.number,
                "provider_length": len(provider),
                "name_length": len(field),
            }
        )
    else:
        payload = _LAYOUTS.context.pack({"number": wanted.number})
    steps = (Step(names),) if names else ()
    return _command("CONTEXT", channel_handle, CommandNumber.CONTEXT, payload, *steps)


def event(channel_handle: int, pattern: str, loglevel_type: int = 0, loglevel: int = -1) -> Command:
    """Create an event rule, disabled; its handle is ``ret_val``.

    ``loglevel_type`` 0 all, 1 at least as severe as ``loglevel``, 2 exactly that.
    """
    payload = _LAYOUTS.event.pack(_matching(pattern, loglevel_type, loglevel))
    return _command("EVENT", channel_handle, CommandNumber.EVENT, payload)


def event_notifier_group(pipe_fd: int) -> Command:
    """Create a group of event notifiers that write to a pipe; its handle is ``ret_val``."""
    return _two_phases(
        "EVENT_NOTIFIER_GROUP_CREATE",
        _ROOT,
        CommandNumber.EVENT_NOTIFIER_GROUP_CREATE,
        b"",
        Step(_CARRIER, (pipe_fd,)),
    )


def event_notifier(
    group_handle: int, token: int, pattern: str, loglevel_type: int = 0, loglevel: int = -1
) -> Command:
    """Create an event notifier, disabled; its handle is ``ret_val``.

    ``token`` comes back in each of its notifications; the rest is as in `event`.
    """
    layout = _TRACER.event_notifier
    wanted = {**_matching(pattern, loglevel_type, loglevel), "token": token}
    return _two_phases(
        "EVENT_NOTIFIER_CREATE",
        group_handle,
        CommandNumber.EVENT_NOTIFIER_CREATE,
        _TRACER.event_notifier_length.pack({"length": layout.size}),
        Step(layout.pack(wanted)),
    )


def capture(notifier_handle: int, bytecode: bytes, reloc: int, seqnum: int) -> Command:
    """Have an event notifier send a value; ``seqnum`` counts them from 0."""
    return _two_phases(
        "CAPTURE",
        notifier_handle,
        CommandNumber.CAPTURE,
        _bytecode(bytecode, reloc, seqnum),
        Step(bytecode),
    )


def exclusion(event_handle: int, names: Sequence[str]) -> Command:
    """Exclude names, with ``*``, from an event rule."""
    if not names:
        # Such a command is never answered.
        raise LocalProtocolError("an exclusion without names")
    excluded = _LAYOUTS.excluded_name
    return _command(
        "EXCLUSION",
        event_handle,
        CommandNumber.EXCLUSION,
        _LAYOUTS.exclusion.pack({"count": len(names)}),
        Step(b"".join(excluded.pack({"name": _name(name)}) for name in names)),
    )


def filter_(event_handle: int, bytecode: bytes, reloc: int, seqnum: int = 0) -> Command:
    """Set the filter of an event rule: instructions, then symbols from ``reloc`` on."""
    payload = _bytecode(bytecode, reloc, seqnum)
    return _command("FILTER", event_handle, CommandNumber.FILTER, payload, Step(bytecode))


def tracepoint_list() -> Command:
    """Make a list of the tracepoints of now; its handle is ``ret_val``."""
    return _command("TRACEPOINT_LIST", _ROOT, CommandNumber.TRACEPOINT_LIST)


def tracepoint_list_get(handle: int) -> Command:
    """Ask for the next entry of a list: see `tracepoint_entry`."""
    return _command("TRACEPOINT_LIST_GET", handle, CommandNumber.TRACEPOINT_LIST_GET)


def _matching(pattern: str, loglevel_type: int, loglevel: int) -> dict[str, Any]:
    """Return what an event must be like, to be packed."""
    return {
        "name": _name(pattern),
        "loglevel_type": loglevel_type,
        "loglevel": loglevel if loglevel_type else -1,
    }


def _bytecode(bytecode: bytes, reloc: int, seqnum: int) -> bytes:
    """Return the head of bytecode that follows."""
    if not 0 < len(bytecode) <= _MAX_BYTECODE or not 0 <= reloc <= len(bytecode):
        raise LocalProtocolError(f"bytecode of {len(bytecode)} bytes, symbols at {reloc}")
    return _LAYOUTS.bytecode.pack(
        {"length": len(bytecode), "reloc_offset": reloc, "seqnum": seqnum}
    )


def _name(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogateescape")
    limit = _LAYOUTS.event.field_size("name")
    if not raw or len(raw) >= limit or b"\0" in raw:
        raise LocalProtocolError(f"event name {value!r}: 1 to {limit - 1} bytes without NUL")
    return raw


# -- replies -----------------------------------------------------------------------


class Reply(NamedTuple):
    """``ret_code`` 0 or a negative code of `RETURN_CODES`; ``ret_val`` a handle, if one."""

    handle: int
    command: int
    ret_code: int
    ret_val: int
    payload: bytes


class TracepointEntry(NamedTuple):
    """One tracepoint of an application, ``provider:event``."""

    name: str
    loglevel: int


def parse_reply(raw: bytes, command: Command) -> Reply:
    """Return the reply in `REPLY_SIZE` bytes.

    Raises
    ------
    RemoteProtocolError
        It answers another command, or its return value cannot be one.
    """
    if len(raw) != REPLY_SIZE:
        raise RemoteProtocolError(f"{command.name}: reply of {len(raw)} bytes")
    reply = Reply(**_LAYOUTS.reply.get_all(raw))
    if (reply.handle, reply.command) != (command.handle, command.number):
        raise RemoteProtocolError(
            f"{command.name} of handle {command.handle}: reply to command "
            f"{reply.command:#x} of handle {reply.handle}"
        )
    if reply.ret_code > 0 or (reply.ret_code == 0 and reply.ret_val < 0):
        raise RemoteProtocolError(
            f"{command.name}: return code {reply.ret_code}, value {reply.ret_val}"
        )
    return reply


def reply_version(reply: Reply) -> str:
    """Return the answer to `tracer_version`, for example "2.13.5"."""
    values = _LAYOUTS.tracer_version.get_all(reply.payload)
    return f"{values['major']}.{values['minor']}.{values['patch']}"


def tracepoint_entry(reply: Reply) -> TracepointEntry | None:
    """Return the answer to `tracepoint_list_get`, None at the end of the list."""
    if reply.ret_code == NOENT:
        return None
    values = _LAYOUTS.tracepoint.get_all(reply.payload)
    return TracepointEntry(text(values["name"], "tracepoint name"), values["loglevel"])


def error_name(ret_code: int) -> str:
    """Return the name of a reply's return code, for example "EXIST" for -1026."""
    return RETURN_CODES.get(-ret_code, f"code {ret_code}")
