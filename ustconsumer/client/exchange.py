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

import functools
import inspect
from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol.control import Done, Message

__all__ = ["Exchange", "ask", "done", "shown_as"]

T = TypeVar("T")
_Reply = TypeVar("_Reply", bound=Message)
_Method = TypeVar("_Method", bound=Callable[..., Any])

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


def shown_as(
    method: _Method, exchange: Callable[..., Exchange[Any]], owner: str, given: int = 0
) -> _Method:
    """Have a front-end's method documented as what it carries out.

    Parameters
    ----------
    method : callable
        Returned, changed.
    owner : str
        The name of its class.
    given : int
        So many of the exchange's first parameters are not the caller's.
    """
    functools.update_wrapper(method, exchange, assigned=("__name__", "__doc__"), updated=())
    method.__qualname__ = f"{owner}.{method.__name__}"
    signature = inspect.signature(exchange)
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    result = str(signature.return_annotation).removeprefix("Exchange[").removesuffix("]")
    vars(method)["__signature__"] = signature.replace(
        parameters=[first, *[*signature.parameters.values()][given:]], return_annotation=result
    )
    return method
