# SPDX-License-Identifier: MIT
"""Logging agents: what the registry and the agent in a program say to each other, without I/O.

The agent (of Python's logging: python3-lttngust) connects over TCP on the same machine and
registers. It only passes records on to liblttng-ust, as events ``lttng_python:event``, or does
not; which of them are recorded is for a filter of those events: see `traced_as`. All integers
are big-endian.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from ustconsumer.errors import RemoteProtocolError, UsageError
from ustconsumer.protocol.model import EventInfo

__all__ = [
    "PORTS",
    "PYTHON",
    "PYTHON_CHANNEL",
    "PYTHON_LEVELS",
    "REGISTRATION_SIZE",
    "STATUS_SIZE",
    "AgentRegistration",
    "Command",
    "asked_for",
    "decode_names",
    "decode_names_head",
    "decode_registration",
    "decode_status",
    "disable",
    "enable",
    "list_loggers",
    "python_level",
    "registration_done",
    "traced_as",
]

#: The registry listens on the first that is free.
PORTS = range(5345, 5355)
#: How `EventInfo` names the domain of Python's logging.
PYTHON = "python"
#: Where LTTng records what loggers say.
PYTHON_CHANNEL = "lttng_python_channel"
PYTHON_LEVELS = {"CRITICAL": 50, "ERROR": 40, "WARNING": 30, "INFO": 20, "DEBUG": 10, "NOTSET": 0}

_DOMAIN_PYTHON = 5
_MAJOR = 2
_OK = 1
_NAME_SIZE = 256
#: Bytes of all names in one answer: more loggers than any program has.
_MAX_NAMES = 1 << 22

_REGISTRATION = struct.Struct(">IIII")
_HEADER = struct.Struct(">QII")
_ENABLE = struct.Struct(f">II{_NAME_SIZE}sI")
_DISABLE = struct.Struct(f">{_NAME_SIZE}s")
_STATUS = struct.Struct(">I")
_NAMES = struct.Struct(">II")

REGISTRATION_SIZE = _REGISTRATION.size
STATUS_SIZE = _STATUS.size


class Command(enum.IntEnum):
    """What the registry asks of an agent."""

    LIST = 1
    ENABLE = 2
    DISABLE = 3
    REGISTRATION_DONE = 4


class AgentRegistration(NamedTuple):
    """What an agent says of itself: nobody vouches for the pid."""

    pid: int


def decode_registration(raw: bytes) -> AgentRegistration:
    """Read an agent's first message.

    Raises
    ------
    RemoteProtocolError
        It is of another domain or version.
    """
    domain, pid, major, minor = _REGISTRATION.unpack(raw)
    if domain != _DOMAIN_PYTHON:
        raise RemoteProtocolError(
            f"an agent of domain {domain}: only Python's logging ({_DOMAIN_PYTHON}) can be traced"
        )
    if major != _MAJOR:
        raise RemoteProtocolError(f"an agent of version {major}.{minor}: only {_MAJOR} is known")
    return AgentRegistration(pid)


def enable(event: EventInfo) -> bytes:
    """Have an agent pass on what loggers say; answered with a status."""
    text = traced_as(event).filter.encode()
    text = text and text + b"\0"
    level = max(event.loglevel, 0)
    name = event.pattern.encode()
    return _command(
        Command.ENABLE, _ENABLE.pack(level, event.loglevel_type, name, len(text)) + text
    )


def disable(event: EventInfo) -> bytes:
    """Take one `enable` back; answered with a status."""
    return _command(Command.DISABLE, _DISABLE.pack(event.pattern.encode()))


def list_loggers() -> bytes:
    """Ask for the names of loggers; answered with a status, their size and number, and them."""
    return _command(Command.LIST)


def registration_done() -> bytes:
    """Let the program go on; there is no answer."""
    return _command(Command.REGISTRATION_DONE)


def decode_status(raw: bytes) -> None:
    """Check an answer; raises `RemoteProtocolError` if it says no."""
    (status,) = _STATUS.unpack(raw)
    if status != _OK:
        raise RemoteProtocolError(f"the agent refused (status {status})")


def decode_names_head(raw: bytes) -> tuple[int, int]:
    """Return the bytes and the number of names that follow; `RemoteProtocolError`: too many."""
    size, count = _NAMES.unpack(raw)
    if size > _MAX_NAMES or count > size:
        raise RemoteProtocolError(f"the agent lists {count} loggers in {size} bytes")
    return size, count


def decode_names(raw: bytes, count: int) -> list[str]:
    """Return the names of loggers, in the agent's order.

    Raises
    ------
    RemoteProtocolError
        There are not so many.
    """
    names = raw.split(b"\0")
    if len(names) != count + 1 or names.pop():
        raise RemoteProtocolError(f"the agent lists {len(names)} loggers, not {count}")
    return [name.decode(errors="replace") for name in names]


def python_level(text: str) -> int:
    """Return the number of a level of Python's logging; raises `UsageError` for others."""
    name = text.upper().removeprefix("PYTHON_")
    if name in PYTHON_LEVELS:
        return PYTHON_LEVELS[name]
    if text.isascii() and text.isdigit() and int(text) in PYTHON_LEVELS.values():
        return int(text)
    known = ", ".join(PYTHON_LEVELS)
    raise UsageError(f"Unknown loglevel {text}: Python's are {known}, and their numbers")


def traced_as(event: EventInfo) -> EventInfo:
    """Return the event rule that records what an event rule of loggers wants.

    Raises
    ------
    UsageError
        The logger's name cannot be in a filter.
    """
    condition = event.filter
    if event.pattern != "*":
        if any(letter in '"\\' or not letter.isprintable() for letter in event.pattern):
            raise UsageError(f"{event.pattern!r} is no name of a logger that can be filtered by")
        name = f'logger_name == "{event.pattern}"'
        condition = f"({condition}) && ({name})" if condition else name
    if event.loglevel_type:
        relation = ">=" if event.loglevel_type == 1 else "=="
        level = f"int_loglevel {relation} {event.loglevel}"
        condition = f"({condition}) && ({level})" if condition else level
    return EventInfo(pattern="lttng_python:*", enabled=event.enabled, filter=condition)


def asked_for(event: EventInfo) -> str:
    """Return the user's own condition of an event whose filter is that of `traced_as`.

    LTTng's files have the whole filter.
    """
    own = EventInfo(
        pattern=event.pattern, loglevel_type=event.loglevel_type, loglevel=event.loglevel
    )
    added = traced_as(own).filter
    if not added or event.filter == added:
        return "" if added else event.filter
    # Whatever stands in the user's place: it is the same text around it.
    own.filter = "\0"
    before, _, behind = traced_as(own).filter.partition("\0")
    if event.filter.startswith(before) and event.filter.endswith(behind):
        return event.filter[len(before) : len(event.filter) - len(behind)]
    return event.filter


def _command(command: Command, data: bytes = b"") -> bytes:
    return _HEADER.pack(len(data), command, 0) + data
