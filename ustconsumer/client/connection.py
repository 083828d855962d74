# SPDX-License-Identifier: MIT
"""A blocking connection to the registry: one request at a time, pushes queued meanwhile."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import struct
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from ustconsumer.errors import (
    BrokenResourceError,
    ClosedResourceError,
    CommandError,
    RemoteProtocolError,
)
from ustconsumer.paths import CONTROL_SOCKET, GLOBAL_RUNDIR, default_rundir
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

if TYPE_CHECKING:
    from ustconsumer.client.exchange import Exchange

__all__ = ["Connection", "rundirs"]

T = TypeVar("T")

#: A registry that does not answer a hello in this time is not one.
_HELLO_SECONDS = 10.0
#: Above every bound of the registry itself (5 s per application, 10 s for a drain).
_REQUEST_SECONDS = 60.0
_START_ONE = "start one with `drtrace create`"
_ELSEWHERE = "choose another directory with --rundir"
_CHUNK = 1 << 16
_UCRED = struct.Struct("iII")
_CONTROL = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)


def rundirs(override: str | None = None) -> list[str]:
    """Return the run directories to look for a registry in, best first.

    An ordinary user prefers the global registry, but only if it answers: a
    directory that exists says nothing.
    """
    own = default_rundir(override)
    if override or os.environ.get("LTTNG_UST_CTL_PATH") or own == GLOBAL_RUNDIR:
        return [own]
    return [GLOBAL_RUNDIR, own]


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
        from ustconsumer import __version__

        self._socket = sock
        self._decoder = FrameDecoder()
        self._queue: deque[tuple[Message, list[int]]] = deque()
        self._seq = 0
        try:
            hello = Hello(version=VERSION, role=role, release=__version__)
            reply = self.request(hello, timeout=_HELLO_SECONDS)
            if not isinstance(reply, Welcome):
                raise RemoteProtocolError(f"registry answered {type(reply).__name__} to the hello")
            if reply.version != VERSION:
                raise CommandError(
                    f"registry {reply.release} (pid {reply.pid}) speaks control protocol "
                    f"{reply.version}, we speak {VERSION}: restart it",
                    "version",
                )
        except BaseException:
            self.close()
            raise
        #: What the registry said about itself.
        self.welcome: Welcome = reply

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
        places = rundirs(None if rundir is None else os.fspath(rundir))
        why = ""
        advice = _START_ONE
        for place in places:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(_HELLO_SECONDS)
            try:
                sock.connect(os.path.join(place, CONTROL_SOCKET))
            except OSError as error:
                sock.close()
                # AF_UNIX path too long is an OSError without errno.
                why = error.strerror or str(error)
                nobody = error.errno in (errno.ENOENT, errno.ECONNREFUSED)
                advice = _START_ONE if nobody else _ELSEWHERE
                continue
            uid = _peer_uid(sock)
            if os.geteuid() not in (0, uid) and uid:
                sock.close()
                why, advice = f"uid {uid} listens there, neither root nor you", _ELSEWHERE
                continue
            try:
                return cls(sock, role)
            except (BrokenResourceError, RemoteProtocolError, CommandError) as error:
                # One that does not want us is not the one that serves us.
                unwanted = not isinstance(error, CommandError) or error.kind == "permission"
                if place == places[-1] or not unwanted:
                    raise
                why = str(error)
        raise BrokenResourceError(
            f"no session registry at {os.path.join(places[-1], CONTROL_SOCKET)} ({why}): {advice}"
        )

    def fileno(self) -> int:
        """Return the socket's descriptor, to poll; see also `pending`."""
        self._check_open()
        return self._socket.fileno()

    @property
    def pending(self) -> int:
        """Messages already received: `receive` returns them although the socket is not readable."""
        return len(self._queue)

    def send(self, message: Message) -> None:
        """Send a message that has no reply.

        Raises
        ------
        BrokenResourceError
            The registry is gone, or takes no data for 60 s.
        """
        self._check_open()
        self._socket.settimeout(_REQUEST_SECONDS)
        try:
            self._socket.sendall(encode(message))
        except OSError as error:
            raise self._broken(error) from None

    def request(self, message: Message, timeout: float = _REQUEST_SECONDS) -> Message:
        """Send a request and return its reply; descriptors that came with it are closed.

        Raises
        ------
        CommandError
            The registry answered `Failed`.
        BrokenResourceError
            It went away, or gave no answer in ``timeout`` seconds.
        """
        reply, fds = self.exchange(message, timeout)
        _close_all(fds)
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
        self, message: Message, timeout: float = _REQUEST_SECONDS
    ) -> tuple[Message, list[int]]:
        """Do as `request`; return the reply with its descriptors, then the caller's."""
        self._seq += 1
        message.seq = self._seq
        self.send(message)
        deadline = time.monotonic() + timeout
        while True:
            answer = self._sort(self._read(deadline - time.monotonic()))
            if answer is not None:
                return answer
            if time.monotonic() >= deadline:
                self.close()
                raise BrokenResourceError(
                    f"registry gave no answer in {timeout:.0f} s: is it stopped?"
                )

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
        while not self._queue:
            left = None if deadline is None else deadline - time.monotonic()
            self._queue.extend(self._read(left))
            if not self._queue and deadline is not None and time.monotonic() >= deadline:
                return None
        return self._queue.popleft()

    def close(self) -> None:
        """Close the socket and every descriptor not handed out; closing twice is fine."""
        self._socket.close()
        _close_all(self._decoder.close())
        while self._queue:
            _close_all(self._queue.popleft()[1])

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _sort(self, received: list[tuple[Message, list[int]]]) -> tuple[Message, list[int]] | None:
        """Queue the pushes, return the reply to the last request if it is there."""
        answer = None
        for position, (message, fds) in enumerate(received):
            # A refusal with seq 0 is from before the registry could read ours.
            if message.seq == 0 and not isinstance(message, Failed):
                self._queue.append((message, fds))
            elif message.seq in (0, self._seq) and answer is None:
                answer = message, fds
            else:
                # For `close`, with the descriptors.
                self._queue.extend(received[position:])
                raise RemoteProtocolError(
                    f"registry answered request {message.seq}, asked was {self._seq}"
                )
        if answer is not None and isinstance(answer[0], Failed):
            _close_all(answer[1])
            raise CommandError(answer[0].message, answer[0].kind)
        return answer

    def _read(self, timeout: float | None) -> list[tuple[Message, list[int]]]:
        """Receive once; return what that completed, nothing on a time-out."""
        self._check_open()
        self._socket.settimeout(None if timeout is None else max(timeout, 0.0))
        try:
            chunk, control, flags, _ = self._socket.recvmsg(
                _CHUNK, _CONTROL, socket.MSG_CMSG_CLOEXEC
            )
        except (TimeoutError, BlockingIOError):
            return []
        except OSError as error:
            raise self._broken(error) from None
        fds = array.array("i")
        for level, kind, raw in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
        if flags & socket.MSG_CTRUNC:
            _close_all(list(fds))
            raise RemoteProtocolError("control connection: descriptors were lost on the way")
        if not chunk:
            raise BrokenResourceError("session registry hung up")
        received: list[tuple[Message, list[int]]] = []
        try:
            received.extend(self._decoder.feed(chunk, list(fds)))
        except RemoteProtocolError:
            # Those before the broken one have descriptors: `close` closes what is queued.
            self._queue.extend(received)
            raise
        return received

    def _check_open(self) -> None:
        if self._socket.fileno() < 0:
            raise ClosedResourceError("connection to the registry is closed")

    def _broken(self, error: OSError) -> BrokenResourceError:
        reason = "no progress" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return BrokenResourceError(f"lost the session registry: {reason}")


def _peer_uid(sock: socket.socket) -> int:
    """Return who listens, as the kernel noted it when it began to."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    uid: int = _UCRED.unpack(raw)[1]
    return uid


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
