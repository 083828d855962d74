# SPDX-License-Identifier: MIT
"""Registration of applications: from two connections of a process to one `Application`.

Whatever an application says of itself is checked against what the kernel says, and it
is refused before a command could harm it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Iterator

from sessiond.applications import Application
from sessiond.halfopen import HalfOpen, Hall
from sessiond.quota import QuotaError
from sessiond.refusals import Refusals
from sessiond.sockets import Listener, Peer, close_all, peer_of, pidfd_of
from sessiond.traces import LAYOUTS
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.errors import RemoteProtocolError
from ustconsumer.limits import descriptors_leaving
from ustconsumer.paths import possible_cpus
from ustconsumer.protocol.application import (
    REGISTRATION_SIZE,
    Registration,
    SocketType,
    parse_registration,
    refusal,
)
from ustconsumer.protocol.control import AppInfo

__all__ = ["Doorman"]

_log = logging.getLogger("sessiond")

#: Connections of one uid that have not completed a registration.
_MAX_HALF_OPEN = 256
_REGISTER_SECONDS = 10.0
#: Descriptors that are left for buffers and for clients.
_RESERVE = 256


class Doorman:
    """Accepts connections of applications, pairs them by process, and judges them.

    Parameters
    ----------
    listener : socket.socket
        Non-blocking and listening.
    admit : callable
        Gets each new application with its two sockets, command first.
    no_room : callable
        Says why a peer may not have another application, nothing if it may.
    registered : callable
        Whether a peer has an application.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        admit: Callable[[Application, socket.socket, socket.socket], None],
        no_room: Callable[[Peer], str] = lambda peer: "",
        registered: Callable[[Peer], bool] = lambda peer: False,
    ) -> None:
        self._registered = registered
        self._no_room = no_room
        self._loop = loop
        self._admit = admit
        self._hall = Hall()
        #: uids that were told of
        self._crowds: set[int] = set()
        #: complete first messages that wait for their twin
        self._waiting: dict[tuple[int, bool, int], HalfOpen] = {}
        self._refusals = Refusals()
        self._cpus = possible_cpus()
        self._listener = Listener(loop, listener, "applications", self._connected)

    def refused(self) -> Iterator[AppInfo]:
        """Yield the living programs that were refused."""
        return self._refusals.living()

    def refuse(self, app: Application, reason: str) -> None:
        """Remember why an application that was admitted could not be kept."""
        self._refusals.note(app.peer, app.registration, reason)

    def close(self) -> None:
        self._listener.close()
        for half in self._hall.everybody():
            self._drop(half)

    def _connected(self, sock: socket.socket) -> None:
        half = HalfOpen(sock, peer_of(sock))
        if not self._make_room(half):
            reason = "the registry has no file descriptors left: raise its limit (ulimit -n)"
            self._refusals.note(half.peer, None, reason)
            half.sock.close()
            # Its other socket would have it wait for a command that never comes.
            for other in self._hall.of_uid(half.peer.uid):
                if other.key(0) == half.key(0):
                    self._drop(other)
            return
        half.timer = self._loop.call_later(_REGISTER_SECONDS, self._too_late, half)
        self._hall.add(half)
        self._loop.add_reader(half.sock.fileno(), self._read, half)

    def _make_room(self, half: HalfOpen) -> bool:
        """Return whether there is room for one more; those that say nothing have to make it.

        To refuse the newcomer would be to refuse whom nobody can tell from them yet: a
        program that is about to register.
        """
        uid = half.peer.uid
        mine = self._hall.of_uid(uid)
        if not mine:
            self._crowds.discard(uid)
        if len(mine) >= _MAX_HALF_OPEN:
            self._push_out(self._hall.last_to_register(uid))
        while half.sock.fileno() >= descriptors_leaving(_RESERVE):
            silent = self._hall.longest_silent()
            if silent is None:
                return False
            self._push_out(silent)
            try:
                half.move_down()
            except OSError:
                return False
        return True

    def _push_out(self, half: HalfOpen | None) -> None:
        if half is None:
            return
        uid = half.peer.uid
        if uid not in self._crowds:
            self._crowds.add(uid)
            _log.warning(
                "uid %d has %d connections that have not registered (one is of pid %d): "
                "the oldest make room for new ones",
                *(uid, len(self._hall.of_uid(uid)), half.peer.pid),
            )
        self._drop(half)

    def _too_late(self, half: HalfOpen) -> None:
        what = f"{half.unfinished} in {_REGISTER_SECONDS:.0f} s"
        if self._registered(half.peer):
            self._drop(half, what)
        else:
            self._refuse(half, half.registration, f"it never finished registering: it {what}")

    def _read(self, half: HalfOpen) -> None:
        try:
            # Not a byte more than the registration: what follows is for the link.
            chunk = half.sock.recv(max(1, REGISTRATION_SIZE - len(half.raw)))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            chunk = b""
        if not chunk:
            early = half.raw and half.registration is None
            self._drop(half, "closed its connection in the middle" if early else "")
        elif half.registration is not None:
            self._drop(half, "sent more than its registration before anything was asked")
        else:
            half.raw += chunk
            if len(half.raw) == REGISTRATION_SIZE:
                self._judge(half)

    def _judge(self, half: HalfOpen) -> None:
        try:
            registration = half.registration = parse_registration(bytes(half.raw))
        except RemoteProtocolError as error:
            self._drop(half, str(error))
            return
        reason = self._reason(half.peer, registration)
        if reason:
            self._refuse(half, registration, reason)
            return
        key = half.key(registration.socket_type)
        stale = self._waiting.pop(key, None)
        if stale is not None:
            self._drop(stale)  # the process has started over
        self._waiting[key] = half
        command = self._waiting.get(half.key(SocketType.COMMAND))
        notify = self._waiting.get(half.key(SocketType.NOTIFY))
        if command is not None and notify is not None:
            self._pair(command, notify)

    def _pair(self, command: HalfOpen, notify: HalfOpen) -> None:
        assert command.registration is not None
        for half in (command, notify):
            self._forget(half)
        try:
            pidfd = pidfd_of(command.sock, command.peer.pid)
        except OSError as error:
            # It may have died meanwhile; or we are out of descriptors.
            if error.errno != errno.ESRCH:
                reason = f"its life cannot be followed: {error.strerror}"
                self._refusals.note(command.peer, command.registration, reason)
            command.sock.close()
            notify.sock.close()
            return
        application = Application(command.peer, command.registration, pidfd, command.named)
        try:
            self._admit(application, command.sock, notify.sock)
        except QuotaError as error:
            close_all([pidfd])
            notify.sock.close()
            self._refuse(command, command.registration, str(error))
        except BaseException:
            close_all([pidfd])
            raise
        else:
            self._refusals.forget(command.peer, command.registration)

    def _reason(self, peer: Peer, registration: Registration) -> str:
        """Return why a program cannot be traced, empty if it can."""
        reason = refusal(registration)
        if reason:
            return reason
        if LAYOUTS.get(registration.major) not in RING_LAYOUTS:
            return f"its LTTng-UST speaks ABI {registration.major}, not yet supported"
        if not peer.key:
            return (
                f"it runs in another pid namespace, where it is process {registration.pid}, and "
                "this kernel cannot tell which one (Linux 6.9 can): run the registry outside, in "
                "a namespace above"
            )
        if peer.uid == _overflow_uid():
            return f"its uid is {peer.uid}, the one of users unknown here"
        cpus = self._cpus
        with contextlib.suppress(OSError, ValueError):
            cpus = possible_cpus(f"/proc/{peer.pid}/root/sys/devices/system/cpu/possible")
        if cpus != self._cpus:
            # It would abort on a stream too many, or write past the last one.
            return f"it sees {cpus} possible CPUs, the registry {self._cpus}"
        return self._no_room(peer)

    def _refuse(self, half: HalfOpen, registration: Registration | None, reason: str) -> None:
        self._refusals.note(half.peer, registration, reason)
        self._drop(half)

    def _drop(self, half: HalfOpen, reason: str = "") -> None:
        if reason:
            _log.warning("application of pid %d closed: %s", half.peer.pid, reason)
        self._forget(half)
        half.sock.close()

    def _forget(self, half: HalfOpen) -> None:
        if half.timer is not None:
            half.timer.cancel()
        self._hall.discard(half)
        self._loop.remove_reader(half.sock.fileno())
        if half.registration is not None:
            key = half.key(half.registration.socket_type)
            if self._waiting.get(key) is half:
                del self._waiting[key]


def _overflow_uid() -> int:
    with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
        return int(file.read())
