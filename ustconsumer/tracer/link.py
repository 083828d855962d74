# SPDX-License-Identifier: MIT
"""One place of a registry over time: when to try it, and what has become of it."""

from __future__ import annotations

import _socket
import _thread
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ustconsumer.tracer.connection import Connection
    from ustconsumer.tracer.rendezvous import Place

__all__ = ["Event", "Link", "open_sockets"]

#: Seconds until the next attempt, by the number of those that came to nothing.
_DELAYS = (0.1, 5.0, 10.0, 20.0, 40.0, 60.0)
#: So often in a row we register again at once after a message that makes no sense.
_FORGIVEN = 3
#: A connection that lasted so many seconds was a good one.
_LASTING = 5.0
#: Seconds until the next attempt with a registry that has too many callers at once.
_QUEUE = 0.02
#: Seconds from the wake of a word to the attempt. A liblttng-ust in this process is woken
#: as well, and lttng-sessiond may take a socket of one for the other's; it also bounds what
#: whoever wakes the word has us do.
_STEP_BACK = 0.02


class Event:
    """Something that happens once and is waited for."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        """Let everybody go on who waits, and who will."""
        if self._lock.locked():
            try:
                self._lock.release()
            except RuntimeError:
                return

    def wait(self, timeout: float | None) -> bool:
        """Wait for it; False if the time is over (seconds, None: for ever)."""
        if not self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            return False
        self._lock.release()
        return True


class Link:
    """A place and the connection there, if there is one.

    Attributes
    ----------
    explicit : bool
        Somebody asked for it; it is tried once, not whenever a registry may be there.
    settled : Event
        Registered, or not going to be: nobody need wait any longer.
    error : BaseException or None
        Why it is not registered.
    ended : bool
        The connection is over and has yet to be cleared up.
    leaving : bool
        It is to end; ``left`` then happens.
    last_value : int or None
        What `value` returned last.
    """

    def __init__(self, place: Place, explicit: bool = False) -> None:
        self.place = place
        self.explicit = explicit
        self.connection: Connection | None = None
        self.settled = Event()
        self.error: BaseException | None = None
        self.ended = False
        self.leaving = False
        self.left = Event()
        self.last_value: int | None = None
        self._anyway = True
        self._woken = False
        self._next = 0.0
        self._last = 0.0
        self._failures = 0
        self._queued_until: float | None = None

    def try_now(self) -> None:
        """Have it tried at once, whatever its word says."""
        self._anyway = True
        self._next = 0.0
        self.settled = Event()

    def woken(self) -> None:
        """Take note that somebody woke its word."""
        if not self._woken:
            self._woken = True
            self._next = time.monotonic() + _STEP_BACK

    def value(self) -> int | None:
        """Return its word now: 0 no registry, 1 there may be one, None it has no word."""
        word = self.place.word
        if word is None:
            return None
        try:
            value = word.value()
        except OSError:
            value = None
        if value and self.last_value == 0:
            self.woken()
        self.last_value = value
        return value

    @property
    def idle(self) -> bool:
        """No registry, but one may come."""
        return self.connection is None and self.place.word is not None

    def due(self) -> float | None:
        """Return in how many seconds to try it, 0 now, None not before its word is woken."""
        if self.connection is not None:
            return None
        if not self.value() and not self._anyway:
            return None
        return max(0.0, self._next - time.monotonic())

    def trying(self) -> None:
        """Take note that it is tried now."""
        self._anyway = False
        self._woken = False
        self._last = time.monotonic()

    def queue(self, timeout: float | None) -> bool:
        """Take note that others were before us; False once that took too long."""
        if self._queued_until is None:
            self._queued_until = float("inf") if timeout is None else self._last + timeout
        if self._last >= self._queued_until:
            return False
        self._anyway = True
        self._next = self._last + _QUEUE
        return True

    def connected(self, connection: Connection) -> None:
        """Take note of a registry that answered."""
        self.connection = connection
        self.error = None
        self.ended = False
        self._queued_until = None

    def failed(self, error: BaseException, at_once: bool = False) -> None:
        """Take note that there is no connection (any more).

        ``at_once``: the registry is there and made a mistake; it gets another chance.
        """
        # A traceback would keep alive what the frames hold.
        self.error = error.with_traceback(None)
        self.connection = None
        self.ended = False
        self._queued_until = None
        now = time.monotonic()
        if now - self._last >= _LASTING:
            self._failures = 0
        self._failures += 1
        if at_once and self._failures <= _FORGIVEN:
            self._anyway = True
            self._next = now
            return
        self._next = now + _DELAYS[min(self._failures, len(_DELAYS)) - 1]
        self.settled.set()


def open_sockets(path: str) -> tuple[_socket.socket, _socket.socket]:
    """Return two sockets connected to whoever listens at a path, non-blocking.

    Raises
    ------
    OSError
        Nobody does; BlockingIOError: too many others want to connect; PermissionError: it
        is neither root nor this user, who alone may have us map memory and run bytecode.
    """
    command = _open_socket(path)
    try:
        return command, _open_socket(path)
    except BaseException:
        command.close()
        raise


def _open_socket(path: str) -> _socket.socket:
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _name(sock)
        sock.connect(path)
        _check_peer(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def _check_peer(sock: _socket.socket) -> None:
    # struct ucred: pid, uid, gid.
    raw = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    uid = int.from_bytes(raw[4:8], sys.byteorder)
    if uid not in (0, os.geteuid()):
        raise PermissionError(f"uid {uid} listens there, neither root nor this program's user")


def _name(sock: _socket.socket) -> None:
    """Give a socket a name of the kernel's choice, where that is allowed.

    By that our registry tells us from liblttng-ust, which may be in this process as well
    and has the same pid.
    """
    try:
        sock.bind(b"")
    except OSError:
        return
