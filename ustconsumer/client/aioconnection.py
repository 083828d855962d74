# SPDX-License-Identifier: MIT
"""A connection to the registry for programs with an asyncio loop.

Its twin that blocks is `ustconsumer.client.connection`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from ustconsumer.client.search import Search
from ustconsumer.client.wire import (
    HELLO_SECONDS,
    REQUEST_SECONDS,
    Wire,
    close_all,
    hello,
    welcomed,
)
from ustconsumer.errors import (
    BrokenResourceError,
    ClosedResourceError,
    CommandError,
    RemoteProtocolError,
    UstConsumerError,
)
from ustconsumer.protocol.control import Message, Welcome

if TYPE_CHECKING:
    from ustconsumer.client.exchange import Exchange

__all__ = ["AsyncConnection"]

T = TypeVar("T")

#: A registry with a full backlog: nothing tells when there is room again.
_BACKLOG_SECONDS = 0.01


class AsyncConnection:
    """Connection over a connected AF_UNIX stream socket; several tasks of one loop may use it.

    Their requests are carried out one after the other. A task that is cancelled while it waits
    leaves the connection usable: its request may be carried out or not, its reply is dropped.
    Made by `over` and `connect`.

    Attributes
    ----------
    welcome : Welcome
        What the registry said about itself.
    """

    welcome: Welcome

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._wire = Wire()
        self._unsent = bytearray()
        #: one request at a time
        self._turn = asyncio.Lock()
        #: nobody reads ahead of those who wait: what floods us is held up at the registry
        self._waiting: set[asyncio.Future[None]] = set()
        self._broken: UstConsumerError | None = None

    @classmethod
    async def over(cls, sock: socket.socket, role: str = "client") -> AsyncConnection:
        """Greet the registry at the other end of a socket, which is taken over.

        Raises
        ------
        CommandError
            The registry refused us (``kind`` "version" if it is of another release).
        RemoteProtocolError
            What answers is not a registry.
        BrokenResourceError
            It hung up, or did not answer in 10 s.
        """
        sock.setblocking(False)
        connection = cls(sock)
        try:
            connection.welcome = welcomed(await connection.request(hello(role), HELLO_SECONDS))
        except BaseException:
            connection.close()
            raise
        return connection

    @classmethod
    async def connect(
        cls, rundir: str | os.PathLike[str] | None = None, role: str = "client"
    ) -> AsyncConnection:
        """Connect to the registry of a run directory, by default the one that serves this user.

        Raises
        ------
        BrokenResourceError
            No registry listens there.
        """
        search = Search(rundir)
        for path in search.paths:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                await _connect(sock, path)
            except OSError as error:
                sock.close()
                search.unreachable(error)
                continue
            except BaseException:
                sock.close()
                raise
            if not search.trusted(sock):
                sock.close()
                continue
            try:
                return await cls.over(sock, role)
            except (BrokenResourceError, RemoteProtocolError, CommandError) as error:
                search.unwanted(path, error)
        raise search.failure()

    async def request(self, message: Message, seconds: float = REQUEST_SECONDS) -> Message:
        """Send a request and return its reply; descriptors that came with it are closed.

        Raises
        ------
        CommandError
            The registry answered `Failed`.
        BrokenResourceError
            It went away, or gave no answer in so many ``seconds`` from when it was this request's
            turn: the connection is closed then.
        """
        reply, fds = await self.exchange(message, seconds)
        close_all(fds)
        return reply

    async def run(self, exchange: Exchange[T]) -> T:
        """Carry out an exchange and return its result.

        Raises
        ------
        UstConsumerError
            As `request`, and what the exchange says of the replies.
        """
        try:
            message = next(exchange)
            while True:
                try:
                    reply = await self.request(message)
                except BaseException as error:
                    # It may have something to undo, also for a task that was cancelled.
                    message = exchange.throw(error)
                else:
                    message = exchange.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    async def exchange(
        self, message: Message, seconds: float = REQUEST_SECONDS
    ) -> tuple[Message, list[int]]:
        """Do as `request`; return the reply with its descriptors, then the caller's."""
        async with self._turn:
            self._check_open()
            deadline = self._loop.time() + seconds
            # To a request whose task was cancelled.
            await self._reply(deadline, seconds)
            frame = self._wire.ask(message)
            try:
                self._send(frame)
                await self._reply(deadline, seconds)
                answer = self._wire.answer()
                assert answer is not None
                return answer
            finally:
                self._wire.abandon()

    async def receive(self) -> tuple[Message, list[int]]:
        """Return the next push and its descriptors (the caller's from then on).

        Raises
        ------
        BrokenResourceError
            The registry went away.
        ClosedResourceError
            The connection was closed, also while it waited.
        """
        pushes = self._wire.pushes
        await self._until(lambda: bool(pushes))
        return pushes.popleft()

    def close(self) -> None:
        """Close the socket and every descriptor not handed out; closing twice is fine."""
        self._broken = None
        self._shut()
        self._wire.close()

    async def __aenter__(self) -> AsyncConnection:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def _reply(self, deadline: float, seconds: float) -> None:
        """Wait until no reply is owed; at the deadline give up for good."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._until(lambda: not self._wire.owed)
        except TimeoutError:
            if self._wire.owed:
                why = f"registry gave no answer in {seconds:.0f} s: is it stopped?"
                self._fail(BrokenResourceError(why))
                self._check_open()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Receive until a condition holds."""
        while not condition():
            self._check_open()
            waiting = self._loop.create_future()
            self._waiting.add(waiting)
            self._loop.add_reader(self._socket, self._readable)
            try:
                await waiting
            finally:
                self._waiting.discard(waiting)
                if not self._waiting and self._socket.fileno() >= 0:
                    self._loop.remove_reader(self._socket)

    def _readable(self) -> None:
        try:
            self._wire.receive(self._socket)
        except BlockingIOError:
            return
        except UstConsumerError as error:
            self._fail(error)
        self._wake()

    def _send(self, frame: bytes) -> None:
        """Send what can be sent now, the rest later: no task that ends tears a frame."""
        self._unsent += frame
        self._writable()
        if self._unsent:
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError as error:
            reason = error.strerror or str(error)
            self._fail(BrokenResourceError(f"lost the session registry: {reason}"))
            return
        if not self._unsent:
            self._loop.remove_writer(self._socket)

    def _fail(self, error: UstConsumerError) -> None:
        """Hang up; whoever waits, or comes later, is told why. What was pushed stays."""
        if self._broken is None:
            self._broken = error
        self._shut()

    def _shut(self) -> None:
        if self._socket.fileno() >= 0:
            # Before the descriptor is another file's.
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
        self._unsent.clear()
        self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def _check_open(self) -> None:
        if self._broken is not None:
            # Each with a traceback of its own.
            raise type(self._broken)(str(self._broken))
        if self._socket.fileno() < 0:
            raise ClosedResourceError("connection to the registry is closed")


async def _connect(sock: socket.socket, path: str) -> None:
    sock.setblocking(False)
    deadline = asyncio.get_running_loop().time() + HELLO_SECONDS
    while True:
        try:
            sock.connect(path)
        except BlockingIOError as error:
            # Its backlog is full. That is neither under way, as with TCP, nor refused:
            # loop.sock_connect would take it for connected.
            if asyncio.get_running_loop().time() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "it does not answer") from error
            await asyncio.sleep(_BACKLOG_SECONDS)
        else:
            return
