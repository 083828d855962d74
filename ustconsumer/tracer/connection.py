# SPDX-License-Identifier: MIT
"""One registry this process is registered with: its two sockets.

Imported by our own thread when a registry answers, not before: it needs the codecs.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import select
import struct
import time
from collections.abc import Generator
from typing import TYPE_CHECKING

from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol.tracer import (
    ANSWER_SIZES,
    COMMAND_SIZE,
    CONFIRMATION,
    Answer,
    ChannelRequest,
    Command,
    CommandNumber,
    EnumRequest,
    EventRequest,
    NotifyNumber,
    Request,
    SocketType,
    parse_answer,
    parse_command,
    registration,
    reply,
    request,
)
from ustconsumer.tracer.commands import Dispatcher
from ustconsumer.tracer.process import process_name
from ustconsumer.tracer.registrar import RefusedError

if TYPE_CHECKING:
    from ustconsumer.tracer.process import Process

__all__ = ["Connection"]

#: Bytes asked for at once; a channel's object is longer.
_CHUNK = 1 << 16
#: Seconds to wait for the lock before looking whether the thread is to stop.
_PATIENCE = 0.05
#: Seconds to wait for it when nothing has been promised yet.
_BOUND = 5.0
#: What the generator of commands yields: go on when there is more to read, or anyway.
_READ, _AGAIN = False, True


def _register(sock: _socket.socket, socket_type: int, timeout: float | None) -> None:
    message = registration(
        socket_type,
        pid=os.getpid(),
        ppid=os.getppid(),
        uid=os.getuid(),
        gid=os.getgid(),
        name=process_name(),
    )
    _send(sock, message, timeout)


def _send(sock: _socket.socket, data: bytes, timeout: float | None) -> None:
    """Send everything; the peer must read within the time."""
    deadline = None if timeout is None else time.monotonic() + timeout
    view = memoryview(data)
    while view:
        try:
            # Without the flag a program that lets SIGPIPE kill it would be killed.
            view = view[sock.send(view, _socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            _await(sock, select.POLLOUT, deadline)


def _await(sock: _socket.socket, event: int, deadline: float | None) -> None:
    poll = select.poll()
    poll.register(sock.fileno(), event)
    left = None if deadline is None else max(0.0, (deadline - time.monotonic()) * 1000)
    if not poll.poll(left):
        raise TimeoutError(errno.ETIMEDOUT, "the registry does not answer")


class _Notify:
    """The notify socket: a `Registrar`. Its user holds the lock of the process."""

    def __init__(self, sock: _socket.socket, other: _socket.socket, timeout: float | None) -> None:
        self.sock = sock
        self._other = other
        self._timeout = timeout
        self.broken = False

    def event(self, wanted: EventRequest, /) -> int:
        return self._ask(wanted, NotifyNumber.EVENT).id

    def enum(self, wanted: EnumRequest, /) -> int:
        return self._ask(wanted, NotifyNumber.ENUM).id

    def channel(self, wanted: ChannelRequest, /) -> tuple[int, int]:
        answer = self._ask(wanted, NotifyNumber.CHANNEL)
        return answer.id, answer.header_type

    def _ask(self, wanted: Request, number: int) -> Answer:
        message = request(wanted)
        if self.broken:
            raise OSError(errno.ENOTCONN, "the registry is gone")
        try:
            _send(self.sock, message, self._timeout)
            answer = parse_answer(self._receive(ANSWER_SIZES[number]), number)
        except BaseException:
            # The answer would be taken for that of another request (an interrupt counts as
            # well). Our thread sees the end of the sockets, and clears up.
            self.broken = True
            for sock in (self.sock, self._other):
                _hang_up(sock)
            raise
        if answer.ret_code:
            raise RefusedError(answer.ret_code)
        return answer

    def _receive(self, size: int) -> bytes:
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        raw = b""
        while len(raw) < size:
            try:
                chunk = self.sock.recv(size - len(raw))
            except BlockingIOError:
                _await(self.sock, select.POLLIN, deadline)
                continue
            if not chunk:
                raise ConnectionResetError(errno.ECONNRESET, "the registry is gone")
            raw += chunk
        return raw


def _hang_up(sock: _socket.socket) -> None:
    try:
        sock.shutdown(_socket.SHUT_RDWR)
    except OSError:
        return


class Connection:
    """Both sockets of a registration, served piece by piece as bytes come.

    Parameters
    ----------
    command, notify : socket
        Connected, non-blocking; owned by this from now on.
    process : Process
    timeout : float, optional
        Seconds in which the registry must take what we send and answer what we ask.

    Attributes
    ----------
    registered : bool
        The registry has said that it is done with setting us up.
    again : bool
        There is something to do even if no more bytes have come.
    """

    def __init__(
        self,
        command: _socket.socket,
        notify: _socket.socket,
        process: Process,
        timeout: float | None,
    ) -> None:
        self.registered = False
        self.again = False
        self._command = command
        self._timeout = timeout
        self._process = process
        self._fds: list[int] = []
        self._notify = _Notify(notify, command, timeout)
        _register(command, SocketType.COMMAND, timeout)
        _register(notify, SocketType.NOTIFY, timeout)
        if not process.lock.acquire(timeout=_BOUND):
            raise TimeoutError(errno.ETIMEDOUT, "the lock of the process is held")
        try:
            self._dispatcher = Dispatcher(process, self._notify)
        finally:
            process.lock.release()
        self._serving = self._serve()

    def watch(self, poll: select.poll) -> None:
        """Have the sockets polled: commands, and the end of either."""
        poll.register(self._command.fileno(), select.POLLIN)
        # Answers are awaited by who asked.
        poll.register(self._notify.sock.fileno(), 0)

    def owns(self, fd: int) -> bool:
        """Tell whether a polled descriptor is one of ours."""
        return fd in (self._command.fileno(), self._notify.sock.fileno())

    def hung_up(self, fd: int, events: int) -> None:
        """Raise if an event of `watch` is the end of the notify socket."""
        if fd == self._notify.sock.fileno() and events & (select.POLLHUP | select.POLLERR):
            raise ConnectionResetError(errno.ECONNRESET, "the registry closed the notify socket")

    def advance(self) -> None:
        """Do what can be done now.

        Raises
        ------
        OSError
            The registry is gone.
        RemoteProtocolError
            It makes no sense.
        """
        self.again = next(self._serving)

    def close(self) -> bool:
        """Release everything the registry made; False if the lock was not to be had now."""
        if not self._process.lock.acquire(timeout=_PATIENCE):
            return False
        try:
            self._dispatcher.close()
        finally:
            self._process.lock.release()
            self.abandon()
        return True

    def abandon(self) -> None:
        """Close the descriptors, and only those: in a forked child the rest is forgotten."""
        self._notify.broken = True
        with contextlib.suppress(ValueError):  # a fork that did not wait for our thread
            self._serving.close()
        self._command.close()
        self._notify.sock.close()
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    # -- the command socket: a generator that yields where a thread would block ---------

    def _serve(self) -> Generator[bool, None, None]:
        while True:
            command = parse_command((yield from self._receive(COMMAND_SIZE)))
            yield from self._lock()
            try:
                self._dispatcher.check(command)
            finally:
                self._process.lock.release()
            if command.two_phase:
                _send(self._command, reply(command, *CONFIRMATION), self._timeout)
            data = yield from self._receive(command.data_length)
            yield from self._receive_fds(command.fds)
            yield from self._obey(command, data)
            # A registry with much to say does not keep the thread from being stopped.
            yield _READ

    def _obey(self, command: Command, data: bytes) -> Generator[bool, None, None]:
        locked = self._dispatcher.needs_lock(command)
        if locked:
            yield from self._lock()
        try:
            fds, self._fds = self._fds, []
            answer = self._dispatcher.execute(command, data, fds)
        finally:
            if locked:
                self._process.lock.release()
        message = reply(command, answer.ret_code, answer.ret_val, answer.payload)
        _send(self._command, message + answer.trailer, self._timeout)
        if command.number == CommandNumber.REGISTER_DONE and answer.ret_code == 0:
            self.registered = True

    def _lock(self) -> Generator[bool, None, None]:
        # Whoever holds it may be waiting for this thread to stop.
        while not self._process.lock.acquire(timeout=_PATIENCE):
            yield _AGAIN

    def _receive(self, size: int) -> Generator[bool, None, bytes]:
        raw = bytearray()
        while len(raw) < size:
            try:
                chunk = self._command.recv(min(size - len(raw), _CHUNK))
            except BlockingIOError:
                yield _READ
                continue
            if not chunk:
                raise ConnectionResetError(errno.ECONNRESET, "the registry is gone")
            raw += chunk
        return bytes(raw)

    def _receive_fds(self, count: int) -> Generator[bool, None, None]:
        """Receive exactly so many descriptors, and the byte they come with."""
        if not count:
            return
        space = _socket.CMSG_SPACE(count * 4)
        while True:
            try:
                byte, control, flags, _ = self._command.recvmsg(1, space, _socket.MSG_CMSG_CLOEXEC)
                break
            except BlockingIOError:
                yield _READ
        for level, kind, raw in control:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                self._fds += struct.unpack(f"{len(raw) // 4}i", raw[: len(raw) // 4 * 4])
        if not byte:
            raise ConnectionResetError(errno.ECONNRESET, "the registry is gone")
        if len(self._fds) != count or flags & _socket.MSG_CTRUNC:
            raise RemoteProtocolError(f"{len(self._fds)} descriptors instead of {count}")
