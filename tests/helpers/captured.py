# SPDX-License-Identifier: MIT
"""One session of the real LTTng 2.13, frozen: what program and daemon said, and the trace.

Made by ``tests/unit/ctf/fixtures/make.py``; the ids here are those the daemon gave.
"""

from __future__ import annotations

import functools
import json
import lzma
import struct
from pathlib import Path
from typing import NamedTuple

from ustconsumer.ctf.types import EnumEntry
from ustconsumer.protocol.application import (
    ChannelRequest,
    EnumRequest,
    EventRequest,
    NotifyDecoder,
    Request,
)

__all__ = [
    "Answered",
    "Call",
    "ChannelRequest",
    "EnumRequest",
    "EventRequest",
    "answered",
    "calls",
    "channel_ids",
    "command_socket",
    "counts",
    "data",
    "enumerations",
    "metadata",
    "notify_messages",
]

FIXTURES = Path(__file__).resolve().parent.parent / "unit" / "ctf" / "fixtures"
_REGISTRATION = 136


class Call(NamedTuple):
    """One system call of the program: "S" sent, "R" received."""

    fd: int
    direction: str
    descriptors: int
    data: bytes


class Answered(NamedTuple):
    """A request of the program, the daemon's answer, and the id in it."""

    request: Request
    answer: bytes
    id: int


@functools.cache
def calls() -> tuple[Call, ...]:
    """Return every exchange of the program, in order."""
    raw = json.loads(lzma.decompress((FIXTURES / "wire.json.xz").read_bytes()))
    return tuple(
        Call(fd, direction, count, bytes.fromhex(text)) for fd, direction, count, text in raw
    )


def _socket(socket_type: int) -> int:
    for call in calls():
        if len(call.data) == _REGISTRATION and struct.unpack_from("<I", call.data, 52) == (
            socket_type,
        ):
            return call.fd
    raise AssertionError(f"no socket of type {socket_type}")


def command_socket() -> list[Call]:
    """Return what crossed the command socket, the registration first."""
    return [call for call in calls() if call.fd == _socket(0)]


@functools.cache
def notify_messages() -> tuple[bytes, ...]:
    """Return the requests that the program sent on its notify socket, one by one.

    It waits for each answer: what it sends between two answers is one request.
    """
    messages: list[bytes] = []
    before = "R"
    for call in (call for call in calls() if call.fd == _socket(1)):
        if call.direction == "S" and len(call.data) != _REGISTRATION:
            if before == "R":
                messages.append(b"")
            messages[-1] += call.data
            before = "S"
        else:
            before = "R"
    return tuple(messages)


@functools.cache
def answered() -> tuple[Answered, ...]:
    """Return requests and answers of the notify socket, in order."""
    answers = b"".join(
        call.data for call in calls() if call.fd == _socket(1) and call.direction == "R"
    )
    result = []
    at = 0
    for message in notify_messages():
        (request,) = NotifyDecoder().feed(message)
        size = 44 if isinstance(request, EventRequest) else 48
        answer = answers[at : at + size]
        at += size
        code = "<Q" if isinstance(request, EnumRequest) else "<I"
        result.append(Answered(request, answer, struct.unpack_from(code, answer, 8)[0]))
    assert at == len(answers)
    return tuple(result)


def channel_ids() -> dict[int, int]:
    """Return the stream class id of each channel handle."""
    return {
        item.request.channel: item.id
        for item in answered()
        if isinstance(item.request, ChannelRequest)
    }


def enumerations() -> dict[int, tuple[EnumEntry, ...]]:
    """Return the entries of each enumeration, by id."""
    return {
        item.id: item.request.entries
        for item in answered()
        if isinstance(item.request, EnumRequest)
    }


def metadata() -> str:
    """Return the text in the packets of ``metadata``."""
    raw = (FIXTURES / "metadata").read_bytes()
    text = b""
    for at in range(0, len(raw), 4096):
        (content,) = struct.unpack_from("<I", raw, at + 24)
        text += raw[at + 37 : at + content // 8]
    return text.decode()


def counts() -> dict[str, int]:
    """Return the number of events in each data file, as babeltrace2 counted them."""
    result: dict[str, int] = json.loads((FIXTURES / "counts.json").read_text())
    return result


def data(name: str) -> bytes:
    """Return a data file."""
    return lzma.decompress((FIXTURES / f"{name}.xz").read_bytes())
