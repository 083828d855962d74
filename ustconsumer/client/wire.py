# SPDX-License-Identifier: MIT
"""A client's half of the control protocol, without I/O: requests out, replies and pushes in.

Shared by `ustconsumer.client.connection` and `ustconsumer.client.aioconnection`.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections import deque

from ustconsumer.errors import BrokenResourceError, CommandError, RemoteProtocolError
from ustconsumer.protocol.control import (
    MAX_FDS,
    VERSION,
    Failed,
    FrameDecoder,
    Hello,
    Message,
    Welcome,
    encode,
)

__all__ = [
    "CHUNK",
    "CONTROL",
    "HELLO_SECONDS",
    "REQUEST_SECONDS",
    "Wire",
    "close_all",
    "hello",
    "welcomed",
]

#: A registry that does not answer a hello in this time is not one.
HELLO_SECONDS = 10.0
#: Above every bound of the registry itself (5 s per application, 10 s for a drain).
REQUEST_SECONDS = 60.0
#: What ``recvmsg`` takes at once, of bytes and of control messages.
CHUNK = 1 << 16
CONTROL = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)


class Wire:
    """What has come of replies and pushes, and what is owed.

    One request at a time. One whose caller has gone (a KeyboardInterrupt, a cancelled task)
    is still answered: that reply is dropped, and the next request waits for it.
    """

    def __init__(self) -> None:
        self._decoder = FrameDecoder()
        #: Messages that are no reply, with their descriptors.
        self.pushes: deque[tuple[Message, list[int]]] = deque()
        self._seq = 0
        self._owed = False
        self._wanted = False
        self._answer: tuple[Message, list[int]] | None = None

    @property
    def owed(self) -> bool:
        """Whether the reply to the last request is still to come."""
        return self._owed

    def ask(self, message: Message) -> bytes:
        """Number a request; return its frame.

        Raises
        ------
        UsageError
            It cannot be sent; nothing is owed.
        """
        assert not self._owed
        message.seq = self._seq + 1
        frame = encode(message)
        self._seq += 1
        self._owed = self._wanted = True
        return frame

    def answer(self) -> tuple[Message, list[int]] | None:
        """Return the reply with its descriptors, then the caller's; None if it has not come.

        Raises
        ------
        CommandError
            The registry answered `Failed`.
        """
        answer, self._answer = self._answer, None
        if answer is not None and isinstance(answer[0], Failed):
            close_all(answer[1])
            raise CommandError(answer[0].message, answer[0].kind)
        return answer

    def abandon(self) -> None:
        """Nobody waits for the reply any more."""
        self._wanted = False
        if self._answer is not None:
            close_all(self._answer[1])
            self._answer = None

    def receive(self, sock: socket.socket) -> None:
        """Take what has come; `BlockingIOError` and `TimeoutError` are the socket's.

        Raises
        ------
        BrokenResourceError
            The registry hung up, or the socket failed.
        RemoteProtocolError
            What came is no message, or not one that is due. The connection is of no use then.
        """
        try:
            chunk, control, flags, _ = sock.recvmsg(CHUNK, CONTROL, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, TimeoutError):
            raise
        except OSError as error:
            raise BrokenResourceError(
                f"lost the session registry: {error.strerror or error}"
            ) from None
        fds = array.array("i")
        for level, kind, raw in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
        if flags & socket.MSG_CTRUNC:
            close_all(list(fds))
            raise RemoteProtocolError("control connection: descriptors were lost on the way")
        if not chunk:
            raise BrokenResourceError("session registry hung up")
        for message, mine in self._decoder.feed(chunk, list(fds)):
            self._sort(message, mine)

    def close(self) -> None:
        """Close every descriptor that was not handed out."""
        self.abandon()
        close_all(self._decoder.close())
        while self.pushes:
            close_all(self.pushes.popleft()[1])

    def _sort(self, message: Message, fds: list[int]) -> None:
        # A refusal with seq 0 is from before the registry could read ours.
        if message.seq == 0 and not (self._owed and isinstance(message, Failed)):
            self.pushes.append((message, fds))
        elif self._owed and message.seq in (0, self._seq):
            self._owed = False
            if self._wanted:
                self._answer = message, fds
            else:
                close_all(fds)
        else:
            close_all(fds)
            raise RemoteProtocolError(
                f"registry answered request {message.seq}, asked was {self._seq}"
            )


def hello(role: str) -> Hello:
    """Return what a connection says first."""
    from ustconsumer import __version__

    return Hello(version=VERSION, role=role, release=__version__)


def welcomed(reply: Message) -> Welcome:
    """Return the answer to the hello.

    Raises
    ------
    RemoteProtocolError
        It is none.
    CommandError
        ``kind`` "version": the registry is of another release.
    """
    if not isinstance(reply, Welcome):
        raise RemoteProtocolError(f"registry answered {type(reply).__name__} to the hello")
    if reply.version != VERSION:
        raise CommandError(
            f"registry {reply.release} (pid {reply.pid}) speaks control protocol "
            f"{reply.version}, we speak {VERSION}: restart it",
            "version",
        )
    return reply


def close_all(fds: list[int]) -> None:
    """Close descriptors; one that is closed already is no error."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
