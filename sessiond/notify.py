# SPDX-License-Identifier: MIT
"""Answers to what applications ask on their notify socket.

The metadata is appended before the answer goes out, so no reader ever meets an id it
cannot name, whoever dies in between.
"""

from __future__ import annotations

import errno
import logging

from sessiond.applications import Application, AppSession
from sessiond.declarations import DeclarationRefusedError
from ustconsumer.protocol.application import (
    ChannelRequest,
    EnumRequest,
    EventRequest,
    Request,
    channel_reply,
    enum_reply,
    event_reply,
)

__all__ = ["answer"]

_log = logging.getLogger("sessiond")

#: Definitions of one program that are refused with a line each.
_MAX_LINES = 10


def answer(application: Application, request: Request) -> bytes:
    """Return the bytes that answer a request; a refusal is a line in the log."""
    try:
        return _answer(application, request)
    except DeclarationRefusedError as error:
        _complain(application, str(error))
        return _refusal(request, -error.errno)
    except OSError as error:
        _log.error("application %s: cannot write metadata: %s", application, error)
        return _refusal(request, -(error.errno or errno.EIO))


def _complain(application: Application, line: str) -> None:
    application.refusals += 1
    if application.refusals <= _MAX_LINES:
        _log.warning("application %s: %s", application, line)
    elif application.refusals == _MAX_LINES + 1:
        _log.warning("application %s: more of this is not shown", application)


def _answer(application: Application, request: Request) -> bytes:
    entry = application.by_handle(request.session)
    if entry is None or entry.trace.closed:
        raise DeclarationRefusedError(f"no session has handle {request.session}")
    metadata = entry.trace.metadata
    if isinstance(request, EnumRequest):
        return enum_reply(0, metadata.enumeration(request.name, request.entries))
    channel = _channel(entry, request)
    if isinstance(request, EventRequest):
        reply = event_reply(0, metadata.event(channel, request))
        entry.events += 1
        return reply
    try:
        metadata.stream_class(channel, request.contexts)
    except DeclarationRefusedError as error:
        # The application only tells that something was refused.
        entry.unfit[channel] = str(error)
        raise
    return channel_reply(0, channel)


def _channel(entry: AppSession, request: EventRequest | ChannelRequest) -> int:
    for number, channel in entry.channels.items():
        if channel.handle == request.channel:
            return number
    raise DeclarationRefusedError(f"no channel has handle {request.channel}")


def _refusal(request: Request, code: int) -> bytes:
    if isinstance(request, EventRequest):
        return event_reply(code, 0)
    if isinstance(request, ChannelRequest):
        return channel_reply(code, 0)
    return enum_reply(code, 0)
