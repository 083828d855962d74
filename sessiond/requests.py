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
from ustconsumer.protocol.control import EventInfo, Message

__all__ = ["check_event", "typed"]

_MAX_EXCLUSIONS = 1024
#: A pattern with one star, at its end.
_PREFIX = re.compile(r"(?:[^*\\]|\\.)*\*", re.DOTALL)
_LOGLEVEL_TYPES = (0, 1, 2)
_LOGLEVELS = range(-1, 15)

_Request = TypeVar("_Request", bound=Message)


def check_event(event: EventInfo) -> None:
    """Raise `UsageError` unless applications can have this event rule."""
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


def typed(
    kind: type[_Request], verb: Callable[[Client, _Request], Awaitable[Message | None]]
) -> Handler:
    """Return the handler of one type of request."""

    async def handler(client: Client, request: Message) -> Message | None:
        assert isinstance(request, kind)
        return await verb(client, request)

    return handler
