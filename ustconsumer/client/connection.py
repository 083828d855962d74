# SPDX-License-Identifier: MIT
"""A blocking connection to the registry: one request at a time, pushes queued meanwhile.

Its twin for asyncio is `ustconsumer.client.aioconnection`.
"""

from __future__ import annotations

import os
import socket
import time
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
)
from ustconsumer.protocol.control import Message, Welcome, encode

if TYPE_CHECKING:
    from ustconsumer.client.exchange import Exchange

__all__ = ["Connection"]

T = TypeVar("T")


class Connection:
    """Connection over a connected AF_UNIX stream socket; not for use by several threads at once.

    Parameters
    ----------
    sock : socket.socket
        Taken over, and closed by `close`.
    role : {"client", "consumer", "observer"}
        What the registry shows of us.

    Raises
    ------
    CommandError
        The registry refused us (``kind`` "version" if it is of another release).
    RemoteProtocolError
        What answers is not a registry.
    BrokenResourceError
        It hung up, or did not answer in 10 s.
    """

    def __init__(self, sock: socket.socket, role: str = "client") -> None:
        self._socket = sock
        self._wire = Wire()
        try:
            #: What the registry said about itself.
            self.welcome: Welcome = welcomed(self.request(hello(role), timeout=HELLO_SECONDS))
        except BaseException:
            self.close()
            raise

    @classmethod
    def connect(
        cls, rundir: str | os.PathLike[str] | None = None, role: str = "client"
    ) -> Connection:
        """Connect to the registry of a run directory, by default the one that serves this user.

        Nothing is said to who runs as neither root nor this user; root, who names the
        directory, says it to anybody.

        Raises
        ------
        BrokenResourceError
            No registry listens there.
        """
        search = Search(rundir)
        for path in search.paths:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(HELLO_SECONDS)
            try:
                sock.connect(path)
            except OSError as error:
                sock.close()
                search.unreachable(error)
                continue
            if not search.trusted(sock):
                sock.close()
                continue
            try:
                return cls(sock, role)
            except (BrokenResourceError, RemoteProtocolError, CommandError) as error:
                search.unwanted(path, error)
        raise search.failure()

    def fileno(self) -> int:
        """Return the socket's descriptor, to poll; see also `pending`."""
        self._check_open()
        return self._socket.fileno()

    @property
    def pending(self) -> int:
        """Messages already received: `receive` returns them although the socket is not readable."""
        return len(self._wire.pushes)

    def send(self, message: Message) -> None:
        """Send a message that has no reply.

        Raises
        ------
        BrokenResourceError
            The registry is gone, or takes no data for 60 s.
        """
        self._check_open()
        self._send(encode(message))

    def request(self, message: Message, timeout: float = REQUEST_SECONDS) -> Message:
        """Send a request and return its reply; descriptors that came with it are closed.

        Raises
        ------
        CommandError
            The registry answered `Failed`.
        BrokenResourceError
            It went away, or gave no answer in ``timeout`` seconds.
        """
        reply, fds = self.exchange(message, timeout)
        close_all(fds)
        return reply

    def run(self, exchange: Exchange[T]) -> T:
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
                    reply = self.request(message)
                except BaseException as error:
                    # It may have something to undo, or know better.
                    message = exchange.throw(error)
                else:
                    message = exchange.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    def exchange(
        self, message: Message, timeout: float = REQUEST_SECONDS
    ) -> tuple[Message, list[int]]:
        """Do as `request`; return the reply with its descriptors, then the caller's."""
        self._check_open()
        deadline = time.monotonic() + timeout
        while self._wire.owed:
            # To a request that was interrupted.
            self._await_reply(deadline, timeout)
        frame = self._wire.ask(message)
        try:
            self._send(frame)
            while (answer := self._wire.answer()) is None:
                self._await_reply(deadline, timeout)
            return answer
        finally:
            self._wire.abandon()

    def receive(self, timeout: float | None = None) -> tuple[Message, list[int]] | None:
        """Return the next push and its descriptors (the caller's from then on).

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait; ``None`` waits for ever, 0 only looks.

        Returns
        -------
        tuple or None
            ``None`` if nothing came in time.

        Raises
        ------
        BrokenResourceError
            The registry went away.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pushes = self._wire.pushes
        while not pushes:
            self._read(None if deadline is None else deadline - time.monotonic())
            if not pushes and deadline is not None and time.monotonic() >= deadline:
                return None
        return pushes.popleft()

    def close(self) -> None:
        """Close the socket and every descriptor not handed out; closing twice is fine."""
        self._socket.close()
        self._wire.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, frame: bytes) -> None:
        self._socket.settimeout(REQUEST_SECONDS)
        try:
            self._socket.sendall(frame)
        except OSError as error:
            late = isinstance(error, TimeoutError)
            reason = "no progress" if late else error.strerror or str(error)
            raise BrokenResourceError(f"lost the session registry: {reason}") from None
        except BaseException:
            # Half a frame may be on its way.
            self.close()
            raise

    def _await_reply(self, deadline: float, timeout: float) -> None:
        """Receive once; at the deadline give up for good."""
        self._read(deadline - time.monotonic())
        if self._wire.owed and time.monotonic() >= deadline:
            self.close()
            raise BrokenResourceError(f"registry gave no answer in {timeout:.0f} s: is it stopped?")

    def _read(self, timeout: float | None) -> None:
        """Receive once, or nothing in ``timeout`` seconds."""
        self._check_open()
        self._socket.settimeout(None if timeout is None else max(timeout, 0.0))
        try:
            self._wire.receive(self._socket)
        except (TimeoutError, BlockingIOError):
            return

    def _check_open(self) -> None:
        if self._socket.fileno() < 0:
            raise ClosedResourceError("connection to the registry is closed")
