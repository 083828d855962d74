# SPDX-License-Identifier: MIT
"""Notifications of triggers, for programs with and without an asyncio loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType

from ustconsumer.client.connection import Connection
from ustconsumer.errors import ClosedResourceError, RemoteProtocolError
from ustconsumer.protocol.control import Listen, Message, Notification

__all__ = ["Notifications"]


class Notifications:
    """Notifications as they come, with ``for`` or ``async for``; see `Registry.notifications`.

    Ends when it is closed, or when nothing came for ``timeout`` seconds: a later loop goes on.
    As a context manager, also with ``async with``, it is closed at the end.

    Parameters
    ----------
    connection : Connection
        Taken over: closing this closes it.
    names : sequence of str
        Of triggers; none for every trigger of this user.
    timeout : float, optional
        Seconds to wait for each; default: for ever.

    Raises
    ------
    BrokenResourceError
        The registry went away; also while it iterates.
    """

    def __init__(
        self, connection: Connection, names: Sequence[str] = (), timeout: float | None = None
    ) -> None:
        self._connection = connection
        self._timeout = timeout
        self._closed = False
        #: set when there is something to read, or nothing any more
        self._waiting: asyncio.Future[None] | None = None
        try:
            connection.request(Listen(triggers=list(names)))
        except BaseException:
            connection.close()
            raise

    def __iter__(self) -> Iterator[Notification]:
        return self

    def __next__(self) -> Notification:
        if self._closed:
            raise StopIteration
        try:
            received = self._connection.receive(self._timeout)
        except ClosedResourceError:
            raise StopIteration from None  # by another thread
        if received is None:
            raise StopIteration
        return _notification(*received)

    def __aiter__(self) -> AsyncIterator[Notification]:
        return self

    async def __anext__(self) -> Notification:
        loop = asyncio.get_running_loop()
        deadline = None if self._timeout is None else loop.time() + self._timeout
        while not self._closed:
            received = self._connection.receive(0)
            if received is not None:
                return _notification(*received)
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                break
            await self._readable(loop, left)
        raise StopAsyncIteration

    async def _readable(self, loop: asyncio.AbstractEventLoop, seconds: float | None) -> None:
        """Wait until there is something to read, time is over, or this was closed."""
        waiting = self._waiting = loop.create_future()
        fd = self._connection.fileno()
        loop.add_reader(fd, _set, waiting)
        timer = None if seconds is None else loop.call_later(seconds, _set, waiting)
        try:
            await waiting
        finally:
            self._waiting = None
            if timer is not None:
                timer.cancel()
            if not self._closed:
                loop.remove_reader(fd)

    def close(self) -> None:
        """Hear no more; closing twice is fine. An iteration that waits in this loop ends."""
        if self._closed:
            return
        self._closed = True
        if self._waiting is not None:
            # Before the descriptor is another file's.
            self._waiting.get_loop().remove_reader(self._connection.fileno())
            _set(self._waiting)
        self._connection.close()

    async def aclose(self) -> None:
        """Do as `close`."""
        self.close()

    def __enter__(self) -> Notifications:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Notifications:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _set(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _notification(message: Message, fds: list[int]) -> Notification:
    for fd in fds:
        os.close(fd)
    if not isinstance(message, Notification):
        raise RemoteProtocolError(f"registry pushed {type(message).__name__} to a listener")
    return message
