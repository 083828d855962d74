# SPDX-License-Identifier: MIT
"""Notifications of triggers over an asyncio connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType

from ustconsumer.client.aioconnection import AsyncConnection
from ustconsumer.client.wire import close_all
from ustconsumer.errors import ClosedResourceError, RemoteProtocolError
from ustconsumer.protocol.control import Listen, Notification

__all__ = ["AsyncNotifications"]


class AsyncNotifications:
    """Notifications as they come, with ``async for``; see `AsyncRegistry.notifications`.

    Ends when it is closed, or when nothing came for ``timeout`` seconds: a later loop goes on.
    With ``async with`` it is closed at the end. For one task.

    Parameters
    ----------
    rundir : str
        Of the registry.
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
        self, rundir: str, names: Sequence[str] = (), timeout: float | None = None
    ) -> None:
        self._rundir = rundir
        self._names = list(names)
        self._timeout = timeout
        self._connection: AsyncConnection | None = None
        self._closed = False

    def __aiter__(self) -> AsyncNotifications:
        return self

    async def __anext__(self) -> Notification:
        if self._closed:
            raise StopAsyncIteration
        try:
            connection = await self._listening()
            async with asyncio.timeout(self._timeout):
                message, fds = await connection.receive()
        except (ClosedResourceError, TimeoutError):
            raise StopAsyncIteration from None
        close_all(fds)
        if not isinstance(message, Notification):
            raise RemoteProtocolError(f"registry pushed {type(message).__name__} to a listener")
        return message

    async def close(self) -> None:
        """Hear no more; closing twice is fine. An iteration that waits ends."""
        self._closed = True
        if self._connection is not None:
            self._connection.close()

    async def __aenter__(self) -> AsyncNotifications:
        await self._listening()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _listening(self) -> AsyncConnection:
        """Connect, once: what is pushed must not wait between somebody else's requests."""
        if self._connection is None:
            connection = await AsyncConnection.connect(self._rundir)
            try:
                await connection.request(Listen(triggers=self._names))
                if self._closed:
                    raise ClosedResourceError("notifications were closed meanwhile")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection
