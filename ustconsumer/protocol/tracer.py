# SPDX-License-Identifier: MIT
"""The application's side of the application protocol, ABI 9: bytes and messages, no I/O.

The registry's side is `ustconsumer.protocol.application`. `parse_command` says what
follows a command on the stream; requests of the notify socket are the structures of
`ustconsumer.protocol.notify`, here going out.
"""

from __future__ import annotations

import errno
from typing import Any, NamedTuple

from ustconsumer.abi.application import (
    APPLICATION_LAYOUTS,
    REGISTRATION,
    REGISTRATION_MAGIC,
    TRACER_LAYOUTS,
    CommandNumber,
    ContextNumber,
    NotifyNumber,
    SocketType,
)
from ustconsumer.abi.rows import Layout
from ustconsumer.errors import LocalProtocolError, RemoteProtocolError
from ustconsumer.protocol.descriptors import encode_entries, encode_fields, fixed_text
from ustconsumer.protocol.fields import text
from ustconsumer.protocol.notify import ChannelRequest, EnumRequest, EventRequest, Request

__all__ = [
    "ABI_MAJOR",
    "ANSWER_SIZES",
    "COMMAND_SIZE",
    "CONFIRMATION",
    "Answer",
    "ChannelRequest",
    "Command",
    "CommandNumber",
    "ContextNumber",
    "EnumRequest",
    "EventRequest",
    "NotifyNumber",
    "Request",
    "SocketType",
    "app_context_names",
    "channel_request",
    "counter_conf",
    "enum_request",
    "error_codes",
    "event_notifier",
    "event_request",
    "exclusion_names",
    "field_entry",
    "notification",
    "parse_answer",
    "parse_command",
    "registration",
    "reply",
    "request",
    "tracepoint_payload",
    "version_payload",
]

#: What our tracer announces: that of LTTng 2.13.
ABI_MAJOR = 9

_LAYOUTS = APPLICATION_LAYOUTS[ABI_MAJOR]
_TRACER = TRACER_LAYOUTS[ABI_MAJOR]

COMMAND_SIZE = _LAYOUTS.command.size
#: ``ret_code`` and ``ret_val`` of the first reply to a command of two phases.
CONFIRMATION = (0, 0)

_MAX_BLOB = 1 << 20
_MAX_BYTECODE = 1 << 16
#: Of what event notifiers and counters are described with.
_MAX_CONF = 4096
#: Names of one exclusion; the tracer has no limit but its memory.
_MAX_EXCLUDED = 4096
_PAYLOAD_SIZE = _LAYOUTS.reply.field_size("payload")


# -- registration ------------------------------------------------------------------


def registration(
    socket_type: int, *, pid: int, ppid: int, uid: int, gid: int, name: bytes
) -> bytes:
    """Return what is said first on a socket of `SocketType`; nobody replies to it.

    ``name`` is that of the process: what is longer than 15 bytes is cut.
    """
    return REGISTRATION.pack(
        {
            "magic": REGISTRATION_MAGIC,
            "major": ABI_MAJOR,
            "minor": 0,
            "pid": pid,
            "ppid": ppid,
            "uid": uid,
            "gid": gid,
            "bits_per_long": 64,
            # Records are packed on x86-64.
            **dict.fromkeys(("uint8", "uint16", "uint32", "uint64", "long"), 8),
            "socket_type": socket_type,
            "name": name[: REGISTRATION.field_size("name") - 1],
        }
    )


# -- commands ----------------------------------------------------------------------


class Command(NamedTuple):
    """A command, and what comes after it.

    Attributes
    ----------
    values : dict
        Members of its payload, named as in `ustconsumer.abi.application`; texts are str.
        Empty for a number that is unknown or has none.
    data_length : int
        Bytes that follow.
    fds : int
        Descriptors that follow, with one byte of their own.
    two_phase : bool
        Those are sent only after a first reply, `CONFIRMATION`; the result is a second one.
    """

    handle: int
    number: int
    values: dict[str, Any]
    data_length: int = 0
    fds: int = 0
    two_phase: bool = False


_PAYLOADS: dict[int, Layout] = {
    CommandNumber.CHANNEL: _LAYOUTS.channel,
    CommandNumber.STREAM: _LAYOUTS.stream,
    CommandNumber.EVENT: _LAYOUTS.event,
    CommandNumber.FILTER: _LAYOUTS.bytecode,
    CommandNumber.EXCLUSION: _LAYOUTS.exclusion,
    CommandNumber.EVENT_NOTIFIER_CREATE: _TRACER.event_notifier_length,
    CommandNumber.CAPTURE: _LAYOUTS.bytecode,
    CommandNumber.COUNTER: _TRACER.counter,
    CommandNumber.COUNTER_GLOBAL: _TRACER.counter_global,
    CommandNumber.COUNTER_CPU: _TRACER.counter_cpu,
}
_CONTEXT_PAYLOADS = {
    ContextNumber.APP_CONTEXT: _TRACER.app_context,
    ContextNumber.PERF_THREAD_COUNTER: _TRACER.perf_context,
}
#: Least and most bytes that follow, where a row ``length`` says how many.
_LENGTHS = {
    CommandNumber.CHANNEL: (1, _MAX_BLOB),
    CommandNumber.FILTER: (1, _MAX_BYTECODE),
    CommandNumber.CAPTURE: (1, _MAX_BYTECODE),
    CommandNumber.EVENT_NOTIFIER_CREATE: (_TRACER.event_notifier.size, _MAX_CONF),
    CommandNumber.COUNTER: (_TRACER.counter_conf.size, _MAX_CONF),
}
_FDS = {
    CommandNumber.EVENT_NOTIFIER_GROUP_CREATE: 1,
    CommandNumber.CHANNEL: 1,
    CommandNumber.STREAM: 2,
    CommandNumber.COUNTER_GLOBAL: 1,
    CommandNumber.COUNTER_CPU: 1,
}
_TWO_PHASES = frozenset(
    (
        CommandNumber.EVENT_NOTIFIER_GROUP_CREATE,
        CommandNumber.EVENT_NOTIFIER_CREATE,
        CommandNumber.CAPTURE,
        CommandNumber.COUNTER,
        CommandNumber.COUNTER_GLOBAL,
        CommandNumber.COUNTER_CPU,
    )
)


def parse_command(raw: bytes) -> Command:
    """Return the command in `COMMAND_SIZE` bytes.

    Raises
    ------
    RemoteProtocolError
        What follows cannot be what it says: the connection is of no use any more.
    """
    if len(raw) != COMMAND_SIZE:
        raise RemoteProtocolError(f"command of {len(raw)} bytes")
    handle: int = _LAYOUTS.command.get(raw, 0, "handle")
    number: int = _LAYOUTS.command.get(raw, 0, "command")
    payload = _LAYOUTS.command.get(raw, 0, "payload")
    values = _payload(number, payload)
    return Command(
        handle,
        number,
        values,
        _data_length(number, values),
        _FDS.get(number, 0),
        number in _TWO_PHASES,
    )


def _payload(number: int, payload: bytes) -> dict[str, Any]:
    layout = _PAYLOADS.get(number)
    if number == CommandNumber.CONTEXT:
        wanted: int = _LAYOUTS.context.get(payload, 0, "number")
        layout = _CONTEXT_PAYLOADS.get(wanted, _LAYOUTS.context)
    return {} if layout is None else _texts(layout, layout.get_all(payload))


def _texts(layout: Layout, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values, arrays of characters as str."""
    return {
        name: text(value, f"{layout.name}: {name}") if isinstance(value, bytes) else value
        for name, value in values.items()
    }


def _data_length(number: int, values: dict[str, Any]) -> int:
    if number == CommandNumber.EXCLUSION:
        count: int = values["count"]
        if count > _MAX_EXCLUDED:
            raise RemoteProtocolError(f"exclusion of {count} names")
        return count * _LAYOUTS.excluded_name.size
    if number == CommandNumber.CONTEXT:
        return _names_length(values)
    limits = _LENGTHS.get(number)
    if limits is None:
        return 0
    length: int = values["length"]
    if not limits[0] <= length <= limits[1]:
        raise RemoteProtocolError(f"command {number:#x} with {length} bytes")
    if values.get("reloc_offset", 0) > length:
        raise RemoteProtocolError(
            f"bytecode of {length} bytes with symbols at {values['reloc_offset']}"
        )
    return length


def _names_length(values: dict[str, Any]) -> int:
    if values["number"] != ContextNumber.APP_CONTEXT:
        return 0
    provider, name = values["provider_length"], values["name_length"]
    # Its name in a field descriptor is "$app.provider:name".
    limit = _LAYOUTS.fields[0].field_size("name") - len("$app.")
    if min(provider, name) < 2 or provider + name > limit:
        raise RemoteProtocolError(f"application context with names of {provider}, {name} bytes")
    return int(provider + name)


# -- what follows a command ---------------------------------------------------------


def exclusion_names(data: bytes) -> tuple[str, ...]:
    """Return the names after an EXCLUSION."""
    layout = _LAYOUTS.excluded_name
    return tuple(
        text(layout.get(data, at, "name"), "excluded name")
        for at in range(0, len(data), layout.size)
    )


def app_context_names(values: dict[str, Any], data: bytes) -> tuple[str, str]:
    """Return the provider and the name after a CONTEXT of the application with these values.

    Raises
    ------
    RemoteProtocolError
        One has no NUL.
    """
    split: int = values["provider_length"]
    return (
        text(data[:split], "provider of an application context"),
        text(data[split:], "name of an application context"),
    )


def event_notifier(data: bytes) -> dict[str, Any]:
    """Return what an event notifier is to match, its ``token`` and ``error_index``."""
    return _texts(_TRACER.event_notifier, _TRACER.event_notifier.get_all(data))


def counter_conf(data: bytes) -> dict[str, Any]:
    """Return the configuration of a counter; of its dimensions the first."""
    return _TRACER.counter_conf.get_all(data)


# -- replies -----------------------------------------------------------------------

_CODES = {
    errno.ENOENT: -1025,
    errno.EEXIST: -1026,
    errno.EINVAL: -1027,
    errno.EPERM: -1028,
    errno.ENOSYS: -1029,
}
_ANY_ERROR = -1024


def error_codes(error: int) -> tuple[int, int]:
    """Return ``ret_code`` and ``ret_val`` for an errno."""
    return _CODES.get(error, _ANY_ERROR), -error


def reply(command: Command, ret_code: int, ret_val: int = 0, payload: bytes = b"") -> bytes:
    """Return the reply to a command.

    Parameters
    ----------
    ret_code : int
        0, or a negative code: see `error_codes`.
    ret_val : int
        A new handle, where the command makes one.
    payload : bytes
        Of `version_payload` or `tracepoint_payload`.
    """
    if ret_code > 0 or len(payload) > _PAYLOAD_SIZE:
        raise LocalProtocolError(f"reply with code {ret_code}, {len(payload)} bytes")
    return _LAYOUTS.reply.pack(
        {
            "handle": command.handle,
            "command": command.number,
            "ret_code": ret_code,
            "ret_val": ret_val,
            "payload": payload,
        }
    )


def version_payload(major: int, minor: int, patch: int) -> bytes:
    """Return what the reply to TRACER_VERSION holds."""
    return _LAYOUTS.tracer_version.pack({"major": major, "minor": minor, "patch": patch})


def tracepoint_payload(name: str, loglevel: int) -> bytes:
    """Return what the reply to TRACEPOINT_LIST_GET holds; ``name`` is ``provider:event``."""
    layout = _LAYOUTS.tracepoint
    raw = fixed_text(name, layout.field_size("name"), "tracepoint")
    return layout.pack({"name": raw, "loglevel": loglevel})


def field_entry(
    event_name: str, field_name: str, kind: int, loglevel: int, nowrite: bool = False
) -> bytes:
    """Return what follows the reply to TRACEPOINT_FIELD_LIST_GET.

    ``kind``: 0 other, 1 integer, 2 enumeration, 3 floating point, 4 text.
    """
    layout = _TRACER.field_entry
    return layout.pack(
        {
            "event_name": fixed_text(event_name, layout.field_size("event_name"), "tracepoint"),
            "field_name": fixed_text(field_name, layout.field_size("field_name"), "field"),
            "type": kind,
            "loglevel": loglevel,
            "nowrite": int(nowrite),
        }
    )


def notification(token: int, captures: bytes) -> bytes:
    """Return what an event notifier writes: one write, so no longer than a pipe keeps whole."""
    return _TRACER.notification.pack({"token": token, "length": len(captures)}) + captures


# -- notify socket: requests ----------------------------------------------------------


def request(wanted: Request) -> bytes:
    """Return any of the three requests."""
    if isinstance(wanted, EventRequest):
        return event_request(wanted)
    if isinstance(wanted, ChannelRequest):
        return channel_request(wanted)
    return enum_request(wanted)


def event_request(wanted: EventRequest) -> bytes:
    """Ask for the id of an event in a channel."""
    layout = _LAYOUTS.event_request
    signature = wanted.signature.encode("utf-8", "replace") + b"\0"
    fields = encode_fields(wanted.fields)
    uri = wanted.model_emf_uri.encode("utf-8", "replace") + b"\0" if wanted.model_emf_uri else b""
    head = layout.pack(
        {
            "number": NotifyNumber.EVENT,
            "session": wanted.session,
            "channel": wanted.channel,
            "name": fixed_text(wanted.name, layout.field_size("name"), "event"),
            "loglevel": wanted.loglevel,
            "signature_length": len(signature),
            "fields_length": len(fields),
            "uri_length": len(uri),
        }
    )
    return head + signature + fields + uri


def channel_request(wanted: ChannelRequest) -> bytes:
    """Ask for the id of a channel and the kind of its event headers."""
    fields = encode_fields(wanted.contexts)
    head = _LAYOUTS.channel_request.pack(
        {
            "number": NotifyNumber.CHANNEL,
            "session": wanted.session,
            "channel": wanted.channel,
            "fields_length": len(fields),
        }
    )
    return head + fields


def enum_request(wanted: EnumRequest) -> bytes:
    """Ask for the id of an enumeration, once per session."""
    layout = _LAYOUTS.enum_request
    entries = encode_entries(wanted.entries)
    head = layout.pack(
        {
            "number": NotifyNumber.ENUM,
            "session": wanted.session,
            "name": fixed_text(wanted.name, layout.field_size("name"), "enumeration"),
            "entries_length": len(entries),
        }
    )
    return head + entries


# -- notify socket: answers -----------------------------------------------------------


class Answer(NamedTuple):
    """``ret_code`` 0 or a negative errno; ``header_type`` is that of a channel's events."""

    ret_code: int
    id: int
    header_type: int = 0


_ANSWERS = {
    NotifyNumber.EVENT: _LAYOUTS.event_answer,
    NotifyNumber.CHANNEL: _LAYOUTS.channel_answer,
    NotifyNumber.ENUM: _LAYOUTS.enum_answer,
}
#: Bytes of the answer, by `NotifyNumber` of the request.
ANSWER_SIZES = {number: layout.size for number, layout in _ANSWERS.items()}


def parse_answer(raw: bytes, number: int) -> Answer:
    """Return the answer to a request of a `NotifyNumber`.

    Raises
    ------
    RemoteProtocolError
        It answers something else, or in a way that makes no sense.
    """
    layout = _ANSWERS[number]
    if len(raw) != layout.size:
        raise RemoteProtocolError(f"{layout.name} of {len(raw)} bytes")
    values = layout.get_all(raw)
    if values.pop("number") != number:
        raise RemoteProtocolError(f"{layout.name}: it answers another request")
    answer = Answer(**values)
    if answer.ret_code > 0:
        raise RemoteProtocolError(f"{layout.name}: return code {answer.ret_code}")
    if number == NotifyNumber.CHANNEL and answer.ret_code == 0 and answer.header_type not in (1, 2):
        raise RemoteProtocolError(f"{layout.name}: event headers of type {answer.header_type}")
    return answer
