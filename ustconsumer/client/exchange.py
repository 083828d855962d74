# SPDX-License-Identifier: MIT
"""What a verb says to the registry, without I/O: one definition for both front-ends.

An `Exchange` is a generator: it yields a request, is sent the reply (or thrown what went wrong)
and returns the verb's result. A front-end carries it over its kind of connection:
`ustconsumer.client.connection` blocks, `ustconsumer.client.aioconnection` waits in an asyncio
loop. To add a verb: an exchange in `ustconsumer.client.sessionrequests` or
`ustconsumer.client.registryrequests`, and its line in each front-end
(`ustconsumer.client.session`, `registry`, `aio`).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol.control import Done, Message

__all__ = ["Exchange", "ask", "done"]

T = TypeVar("T")
_Reply = TypeVar("_Reply", bound=Message)

Exchange: TypeAlias = Generator[Message, Message, T]


def ask(message: Message, expected: type[_Reply]) -> Exchange[_Reply]:
    """Make one request; return its reply.

    Raises
    ------
    RemoteProtocolError
        The reply is of another type.
    """
    reply = yield message
    if not isinstance(reply, expected):
        raise RemoteProtocolError(
            f"registry answered {type(reply).__name__} to {type(message).__name__}"
        )
    return reply


def done(message: Message) -> Exchange[list[str]]:
    """Make one request that has no result; return the registry's warnings, one line each."""
    return (yield from ask(message, Done)).warnings
