# SPDX-License-Identifier: MIT
"""What the verbs of the control protocol share."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sessiond.clients import Client, Handler
from sessiond.names import check_pattern
from ustconsumer.client.filter import compile_filter
from ustconsumer.errors import UsageError
from ustconsumer.protocol.agent import PYTHON, traced_as
from ustconsumer.protocol.control import EventInfo, Message

__all__ = ["check_event", "typed"]

_MAX_EXCLUSIONS = 1024
#: A pattern with one star, at its end.
_PREFIX = re.compile(r"(?:[^*\\]|\\.)*\*", re.DOTALL)
_LOGLEVEL_TYPES = (0, 1, 2)
_LOGLEVELS = range(-1, 15)
#: As the agent has room for, and for levels of programs of their own.
_MAX_LOGGER, _MAX_LEVEL = 255, 1000

_Request = TypeVar("_Request", bound=Message)


def check_event(event: EventInfo) -> None:
    """Raise `UsageError` unless applications can have this event rule."""
    if event.domain == PYTHON:
        _check_logger(event)
        return
    if event.domain:
        raise UsageError(f"events of domain {event.domain[:20]!r} cannot be recorded")
    check_pattern(event.pattern)
    for name in event.exclusions:
        check_pattern(name)
    if event.exclusions and "*" not in event.pattern:
        raise UsageError(f"event pattern {event.pattern} has no *: nothing can be excluded from it")
    if _PREFIX.fullmatch(event.pattern):
        for name in filter(_PREFIX.fullmatch, event.exclusions):
            if event.pattern.startswith(name[:-1]):
                raise UsageError(f"{name} excludes all events from {event.pattern}")
    if len(event.exclusions) > _MAX_EXCLUSIONS:
        raise UsageError(f"{len(event.exclusions)} exclusions: at most {_MAX_EXCLUSIONS}")
    if event.loglevel_type not in _LOGLEVEL_TYPES or event.loglevel not in _LOGLEVELS:
        raise UsageError(
            f"log level {event.loglevel} of type {event.loglevel_type}: levels are 0 to 14, "
            "types 0 (all), 1 (at least as severe), 2 (exactly)"
        )
    if event.filter:
        compile_filter(event.filter)


def _check_logger(event: EventInfo) -> None:
    if not event.pattern or len(event.pattern.encode()) > _MAX_LOGGER:
        raise UsageError(f"names of loggers have 1 to {_MAX_LOGGER} bytes")
    if event.exclusions:
        raise UsageError("nothing can be excluded from what loggers say: use a filter")
    if event.loglevel_type not in _LOGLEVEL_TYPES or not -1 <= event.loglevel <= _MAX_LEVEL:
        raise UsageError(f"log level {event.loglevel} of type {event.loglevel_type}")
    if condition := traced_as(event).filter:
        compile_filter(condition)


def typed(
    kind: type[_Request], verb: Callable[[Client, _Request], Awaitable[Message | None]]
) -> Handler:
    """Return the handler of one type of request."""

    async def handler(client: Client, request: Message) -> Message | None:
        assert isinstance(request, kind)
        return await verb(client, request)

    return handler
