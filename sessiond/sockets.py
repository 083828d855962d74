# SPDX-License-Identifier: MIT
"""Raw non-blocking stream sockets under the loop, and who is at their other end.

Never asyncio transports: they cannot carry descriptors, and a descriptor must ride
on a chosen byte of the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ustconsumer.errors import RemoteProtocolError

__all__ = ["Listener", "Peer", "Wire", "close_all", "peer_of", "pidfd_of"]

_log = logging.getLogger("sessiond")

_CHUNK = 1 << 16
#: Not in the socket module of Python 3.11; Linux 6.5 and later.
_SO_PEERPIDFD = 77
_UCRED = struct.Struct("iII")


class Peer(NamedTuple):
    """The process that made a connection, as the kernel saw it then.

    Attributes
    ----------
    pid : int
        0 for a process of a pid namespace that ours cannot see.
    process : int
        Tells such processes apart where the kernel does (Linux 6.9), else 0.
    """

    pid: int
    uid: int
    gid: int
    process: int = 0

    @property
    def key(self) -> int:
        """The same for all connections of a process; no other living process has it."""
        return self.pid or -self.process


def peer_of(sock: socket.socket) -> Peer:
    """Return the peer's credentials; its own claims never count."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    peer = Peer(*_UCRED.unpack(raw))
    return peer if peer.pid else peer._replace(process=_hidden_process(sock))


def _hidden_process(sock: socket.socket) -> int:
    """Return the number that a pidfd's inode has, 0 if this kernel gives none of its own."""
    try:
        pidfd = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        return 0
    try:
        status = os.fstat(pidfd)
        return status.st_ino if status.st_dev != _nameless_device() else 0
    finally:
        os.close(pidfd)


@functools.cache
def _nameless_device() -> int:
    """Return where the kernel keeps files without a name, before Linux 6.9 also pidfds."""
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


def pidfd_of(sock: socket.socket, pid: int) -> int:
    """Return a pidfd of the peer, whose life it follows from then on.

    Raises
    ------
    ProcessLookupError
        The peer is dead already.
    """
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        # An older kernel, where the pid may have been reused since connect: unlikely
        # within the milliseconds between connect and here.
        if not pid:
            raise
        return os.pidfd_open(pid)


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors, whatever state they are in."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


class Listener:
    """Accepts connections under the loop, and stays calm when descriptors run out.

    Parameters
    ----------
    sock : socket.socket
        Non-blocking and listening; closed by `close`.
    what : str
        Who connects, in the plural, for the log.
    connected : callable
        Gets each new connection, non-blocking.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        what: str,
        connected: Callable[[socket.socket], None],
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._what = what
        self._connected = connected
        self._starved = False
        self._listen()

    def close(self) -> None:
        """Accept nobody any more; closing twice is fine."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _listen(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            # Out of descriptors: the connection stays in the backlog. Not at once again,
            # which would turn the loop in circles.
            if not self._starved:
                _log.error("cannot accept %s for now: %s", self._what, error)
            self._starved = True
            self._loop.remove_reader(self._socket.fileno())
            self._loop.call_later(1.0, self._listen)
            return
        self._starved = False
        sock.setblocking(False)
        self._connected(sock)


class Wire:
    """One connected socket: bytes in by callback, bytes and descriptors out in order.

    Parameters
    ----------
    sock : socket.socket
        Taken over and closed by `close`.
    on_bytes : callable
        Gets what arrived; a `RemoteProtocolError` it raises ends the connection.
    on_end : callable
        Called once, from the loop and never from inside `send`, with the reason; empty
        means the peer closed. Not called after `close`.
    max_queue : int
        Bytes that may wait for a peer that does not read; more end the connection.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_bytes: Callable[[bytes], None],
        on_end: Callable[[str], None],
        max_queue: int,
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._socket = sock
        self._on_bytes = on_bytes
        self._on_end = on_end
        self._max_queue = max_queue
        self._queue: deque[tuple[memoryview, list[int]]] = deque()
        self._queued = 0
        self._closed = False
        self._ended = False
        loop.add_reader(sock.fileno(), self._readable)

    @property
    def closed(self) -> bool:
        return self._closed or self._ended

    @property
    def queued(self) -> int:
        """Bytes that wait for the peer to read."""
        return self._queued

    def send(self, chunk: bytes, fds: Sequence[int] = ()) -> None:
        """Send bytes; the descriptors ride on the first one and stay the caller's."""
        if self.closed:
            return
        view = memoryview(chunk)
        if not self._queue:
            view, fds = self._transmit(view, fds)
            if not view or self.closed:
                return
            self._loop.add_writer(self._socket.fileno(), self._writable)
        if self._queued + len(view) > self._max_queue:
            self._finish("does not read what it is sent")
            return
        # Duplicated: the caller may close its own before ours went out.
        self._queue.append((view, [os.dup(fd) for fd in fds]))
        self._queued += len(view)

    def close(self) -> None:
        """Close the socket now; what is queued is lost."""
        if self._closed:
            return
        self._closed = True
        self._detach()
        self._socket.close()

    def _detach(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
        while self._queue:
            close_all(self._queue.popleft()[1])

    def _transmit(self, view: memoryview, fds: Sequence[int]) -> tuple[memoryview, Sequence[int]]:
        """Send what goes now; return what does not."""
        while view:
            try:
                if fds:
                    sent = socket.send_fds(self._socket, [view], fds, socket.MSG_NOSIGNAL)
                else:
                    sent = self._socket.send(view, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                break
            except OSError as error:
                self._finish("" if isinstance(error, ConnectionError) else str(error))
                return view[:0], ()
            view, fds = view[sent:], ()
        return view, fds

    def _writable(self) -> None:
        while self._queue:
            view, fds = self._queue[0]
            rest, left = self._transmit(view, fds)
            if self.closed:
                return
            self._queued -= len(view) - len(rest)
            if not left:
                close_all(fds)
            if rest:
                self._queue[0] = (rest, fds if left else [])
                return
            self._queue.popleft()
        self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        # One chunk a turn, so that no peer keeps the loop for itself. Descriptors a
        # peer sends along are dropped by the kernel: plain recv takes none.
        try:
            chunk = self._socket.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._finish("" if isinstance(error, ConnectionError) else str(error))
            return
        if not chunk:
            self._finish("")
            return
        try:
            self._on_bytes(chunk)
        except RemoteProtocolError as error:
            self._finish(str(error))

    def _finish(self, reason: str) -> None:
        if self.closed:
            return
        self._ended = True
        self._detach()
        # From the loop: whoever is in `send` now must not find itself torn down.
        self._loop.call_soon(self._report, reason)

    def _report(self, reason: str) -> None:
        if not self._closed:
            self._on_end(reason)
