# SPDX-License-Identifier: MIT
"""The two sockets of an application: commands one at a time, requests answered at any time."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from sessiond.sockets import Wire, close_all
from ustconsumer.errors import BrokenResourceError, RemoteProtocolError, UstConsumerError
from ustconsumer.protocol.application import (
    REPLY_SIZE,
    Command,
    NotifyDecoder,
    Reply,
    Request,
    error_name,
    parse_reply,
)

__all__ = ["CommandLink", "CommandRefusedError", "NotifyLink"]

#: An application that takes longer for one command is slow: nobody waits for it any more.
COMMAND_SECONDS = 5.0
#: One command with the most exclusions the control protocol lets through.
_MAX_COMMANDS = 32 << 20
#: One request is answered before the next is made; more unread answers are an attack.
_MAX_ANSWERS = 1 << 16


class CommandRefusedError(UstConsumerError):
    """The application answered a command with an error.

    Parameters
    ----------
    command : Command
    ret_code : int
        Negative, see `error_name`.
    """

    def __init__(self, command: Command, ret_code: int) -> None:
        super().__init__(f"{command.name} refused: {error_name(ret_code)}")
        self.ret_code = ret_code


class CommandLink:
    """The command socket: a command, its replies, then the next command.

    Parameters
    ----------
    on_end : callable
        The socket is of no use any more, and why.
    on_slow : callable
        Called with True when a reply is overdue, with False when it came after all.
        Nothing is given up: a program that was stopped goes on where it was.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_end: Callable[[str], None],
        on_slow: Callable[[bool], None],
    ) -> None:
        self._loop = loop
        self._on_slow = on_slow
        self._lock = asyncio.Lock()
        self._buffer = bytearray()
        self._waiting: asyncio.Future[bytes] | None = None
        self._ended = on_end
        self._wire = Wire(loop, sock, self._received, self._end, _MAX_COMMANDS)

    async def run(self, command: Command) -> Reply:
        """Send a command and return its last reply, however long that takes.

        Raises
        ------
        CommandRefusedError
            The application answered with an error.
        BrokenResourceError
            The socket was closed meanwhile.
        """
        # Duplicated before the first wait: when this command's turn comes, the caller's
        # numbers may name other files.
        duplicates: dict[int, int] = {}
        try:
            for fd in (fd for step in command.steps for fd in step.fds):
                duplicates[fd] = os.dup(fd)
            async with self._lock:
                reply: Reply | None = None
                for step in command.steps:
                    if self._wire.closed:
                        raise BrokenResourceError("application went away")
                    answer = self._expect() if step.reply else None
                    self._wire.send(step.data, [duplicates[fd] for fd in step.fds])
                    if answer is not None:
                        reply = await self._reply(command, answer)
                assert reply is not None
                return reply
        finally:
            close_all(list(duplicates.values()))

    def close(self) -> None:
        self._wire.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(BrokenResourceError("application went away"))

    def _expect(self) -> asyncio.Future[bytes]:
        self._waiting = self._loop.create_future()
        return self._waiting

    async def _reply(self, command: Command, answer: asyncio.Future[bytes]) -> Reply:
        overdue = self._loop.call_later(COMMAND_SECONDS, self._on_slow, True)
        try:
            raw = await answer
        finally:
            overdue.cancel()
            self._waiting = None
        self._on_slow(False)
        try:
            reply = parse_reply(raw, command)
        except RemoteProtocolError as error:
            self._wire.close()
            self._ended(str(error))
            raise
        if error_name(reply.ret_code) == "EXITING":
            # In its destructor: it wants nothing any more, and that is no fault.
            self._wire.close()
            self._ended("")
            raise BrokenResourceError("application exits")
        if reply.ret_code < 0:
            raise CommandRefusedError(command, reply.ret_code)
        return reply

    def _end(self, reason: str) -> None:
        if self._buffer:
            reason = reason or "closed its connection in the middle of a reply"
        self._ended(reason)

    def _received(self, chunk: bytes) -> None:
        self._buffer += chunk
        if self._waiting is None or self._waiting.done():
            raise RemoteProtocolError(f"{len(self._buffer)} bytes that answer no command")
        if len(self._buffer) > REPLY_SIZE:
            raise RemoteProtocolError(f"reply of at least {len(self._buffer)} bytes")
        if len(self._buffer) == REPLY_SIZE:
            raw = bytes(self._buffer)
            self._buffer.clear()
            self._waiting.set_result(raw)


class NotifyLink:
    """The notify socket: every request is answered in the turn it arrives in.

    The application holds its global lock until the answer is there, also while a
    command of ours is pending, so nothing may come in between.

    Parameters
    ----------
    answer : callable
        From a request to the bytes of its answer.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        major: int,
        answer: Callable[[Request], bytes],
        on_end: Callable[[str], None],
    ) -> None:
        self._decoder = NotifyDecoder(major)
        self._answer = answer
        self._ended = on_end
        self._wire = Wire(loop, sock, self._received, self._end, _MAX_ANSWERS)

    def close(self) -> None:
        self._wire.close()

    def _end(self, reason: str) -> None:
        if self._decoder.incomplete:
            reason = reason or "closed its connection in the middle of a request"
        self._ended(reason)

    def _received(self, chunk: bytes) -> None:
        for request in self._decoder.feed(chunk):
            self._wire.send(self._answer(request))
