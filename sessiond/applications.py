# SPDX-License-Identifier: MIT
"""Registered applications: from two connections to one `Application`, and its end.

An application lives as long as its process (its pidfd), not as its sockets: a child of
a bare fork holds both open. A living process whose socket closed registers again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sessiond.links import CommandLink, NotifyLink
from sessiond.registry import Session
from sessiond.sockets import Peer, close_all, peer_of, pidfd_of
from sessiond.traces import LAYOUTS, Trace
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.errors import RemoteProtocolError
from ustconsumer.paths import possible_cpus
from ustconsumer.protocol.application import (
    REGISTRATION_SIZE,
    Registration,
    SocketType,
    parse_registration,
    refusal,
)
from ustconsumer.protocol.control import AppInfo

__all__ = ["AppChannel", "AppRule", "AppSession", "Application", "Doorman"]

_log = logging.getLogger("sessiond")

#: Connections of one uid that have not completed a registration.
_MAX_HALF_OPEN = 256
_REGISTER_SECONDS = 10.0
#: Programs that were refused, remembered for ``drtrace apps``.
_MAX_REFUSED = 256


@dataclass(eq=False)
class AppRule:
    """An event rule as one application has it; rules are born disabled."""

    handle: int
    enabled: bool = False
    #: the application would not have it; it stays as it is
    refused: bool = False


@dataclass(eq=False)
class AppChannel:
    """A channel as one application has it: handles."""

    handle: int
    #: channels are born enabled
    enabled: bool = True
    #: how many it was given so far
    streams: int = 0
    contexts: int = 0
    #: by rule id
    rules: dict[int, AppRule] = field(default_factory=dict)


@dataclass(eq=False)
class AppSession:
    """A session as one application has it."""

    session: Session
    trace: Trace
    handle: int
    active: bool = False
    channels: dict[int, AppChannel] = field(default_factory=dict)
    #: why it cannot record this session; nothing is tried again
    problem: str = ""


class Application:
    """One registered program.

    Attributes
    ----------
    sessions : dict of str to AppSession
        By session id: what the program has, not what it should have.
    settled : int
        The registry's revision it was last brought in line with.
    wake : asyncio.Event
        Set when there may be something to do for it.
    """

    def __init__(self, peer: Peer, registration: Registration, pidfd: int) -> None:
        self.peer = peer
        self.registration = registration
        self.pidfd = pidfd
        self.layout = LAYOUTS[registration.major]
        self.tracer = ""
        #: REGISTER_DONE was sent, and answered
        self.asked_done = False
        self.done = False
        self.overdue = False
        self.gone = False
        self.sessions: dict[str, AppSession] = {}
        #: why it has nothing of a session, by session id; tried again at the next change
        self.problems: dict[str, str] = {}
        self.settled = -1
        #: definitions that were refused
        self.refusals = 0
        self.wake = asyncio.Event()
        self.command: CommandLink
        self.notify: NotifyLink
        self._settling: list[tuple[int, asyncio.Future[None]]] = []

    def __str__(self) -> str:
        return f"{self.registration.name!r} (pid {self.peer.pid})"

    @property
    def state(self) -> str:
        if self.overdue:
            return "slow"
        return "registered" if self.done else "registering"

    def by_handle(self, handle: int) -> AppSession | None:
        """Return the session that the program knows by this handle."""
        for entry in self.sessions.values():
            if entry.handle == handle:
                return entry
        return None

    def problem_with(self, session: Session) -> str:
        """Return why it is not recorded in a session, empty if there is no reason."""
        entry = self.sessions.get(session.id)
        return entry.problem if entry else self.problems.get(session.id, "")

    def settle(self, revision: int) -> None:
        """Note that it was brought in line with a revision."""
        self.settled = max(self.settled, revision)
        self._release()

    def slow(self, overdue: bool) -> None:
        """Note that a reply is overdue, or came after all."""
        if overdue and not self.overdue:
            _log.warning("application %s does not answer: going on without it", self)
        elif self.overdue and not overdue:
            _log.info("application %s answers again", self)
        self.overdue = overdue
        if overdue:
            self._release()

    async def wait_settled(self, revision: int) -> None:
        """Wait until it is in line with a revision, gone, or slow."""
        if not (self.settled >= revision or self.overdue or self.gone):
            waiting = asyncio.get_running_loop().create_future()
            self._settling.append((revision, waiting))
            await waiting

    def leave(self) -> None:
        """Note that it is gone."""
        self.gone = True
        self._release()

    def info(self) -> AppInfo:
        """Return what ``drtrace apps`` shows of it."""
        registration = self.registration
        problems = [*self.problems.values()]
        problems += [entry.problem for entry in self.sessions.values() if entry.problem]
        return AppInfo(
            pid=self.peer.pid,
            # Its own claim: shown, and nothing depends on it.
            ppid=registration.ppid if registration.pid == self.peer.pid else 0,
            uid=self.peer.uid,
            gid=self.peer.gid,
            name=registration.name,
            abi=f"{registration.major}.{registration.minor}",
            bits=registration.bits_per_long,
            tracer=self.tracer,
            state=self.state,
            sessions=sorted(e.session.name for e in self.sessions.values() if e.active),
            reason="; ".join(problems),
        )

    def _release(self) -> None:
        keep = []
        for revision, waiting in self._settling:
            if self.overdue or self.gone or self.settled >= revision:
                if not waiting.done():
                    waiting.set_result(None)
            else:
                keep.append((revision, waiting))
        self._settling = keep


class _HalfOpen:
    """A connection that has not said yet who it is, or whose twin is not there yet."""

    def __init__(self, sock: socket.socket, peer: Peer) -> None:
        self.sock = sock
        self.peer = peer
        self.raw = bytearray()
        self.registration: Registration | None = None
        self.timer: asyncio.TimerHandle | None = None


class Doorman:
    """Accepts connections of applications, pairs them by process, and judges them.

    Parameters
    ----------
    listener : socket.socket
        Non-blocking and listening.
    admit : callable
        Gets each new application with its two sockets, command first.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        admit: Callable[[Application, socket.socket, socket.socket], None],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._admit = admit
        self._half_open: set[_HalfOpen] = set()
        #: complete first messages that wait for their twin, by pid and socket type
        self._waiting: dict[tuple[int, int], _HalfOpen] = {}
        self._refused: dict[int, AppInfo] = {}
        self._cpus = possible_cpus()
        loop.add_reader(listener.fileno(), self._accept)

    def refused(self) -> Iterator[AppInfo]:
        """Yield the living programs that were refused."""
        for pid in tuple(self._refused):
            if Path(f"/proc/{pid}").exists():
                yield self._refused[pid]
            else:
                del self._refused[pid]

    def close(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for half in tuple(self._half_open):
            self._drop(half, "")

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            # Out of descriptors: the connection stays in the backlog. Not at once again,
            # which would turn the loop in circles.
            _log.error("cannot accept applications for a second: %s", error)
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(1.0, self._listen_again)
            return
        sock.setblocking(False)
        half = _HalfOpen(sock, peer_of(sock))
        if half.peer.pid == 0:
            _log.warning("refused an application of another pid namespace")
            sock.close()
            return
        if sum(other.peer.uid == half.peer.uid for other in self._half_open) >= _MAX_HALF_OPEN:
            _log.warning("refused pid %d: too many half-open connections of its uid", half.peer.pid)
            sock.close()
            return
        half.timer = self._loop.call_later(
            _REGISTER_SECONDS, self._drop, half, "did not complete its registration"
        )
        self._half_open.add(half)
        self._loop.add_reader(sock.fileno(), self._read, half)

    def _listen_again(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _read(self, half: _HalfOpen) -> None:
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

    def _judge(self, half: _HalfOpen) -> None:
        try:
            registration = half.registration = parse_registration(bytes(half.raw))
        except RemoteProtocolError as error:
            self._drop(half, str(error))
            return
        reason = self._reason(half.peer, registration)
        if reason:
            self._refuse(half, registration, reason)
            return
        key = half.peer.pid, registration.socket_type
        stale = self._waiting.pop(key, None)
        if stale is not None:
            self._drop(stale, "")  # the process has started over
        self._waiting[key] = half
        command = self._waiting.get((half.peer.pid, SocketType.COMMAND))
        notify = self._waiting.get((half.peer.pid, SocketType.NOTIFY))
        if command is not None and notify is not None:
            self._pair(command, notify)

    def _pair(self, command: _HalfOpen, notify: _HalfOpen) -> None:
        assert command.registration is not None
        for half in (command, notify):
            self._forget(half)
        try:
            pidfd = pidfd_of(command.sock, command.peer.pid)
        except OSError:  # died meanwhile
            command.sock.close()
            notify.sock.close()
            return
        self._refused.pop(command.peer.pid, None)
        application = Application(command.peer, command.registration, pidfd)
        try:
            self._admit(application, command.sock, notify.sock)
        except BaseException:
            close_all([pidfd])
            raise

    def _reason(self, peer: Peer, registration: Registration) -> str:
        """Return why a program cannot be traced, empty if it can."""
        reason = refusal(registration)
        if reason:
            return reason
        if LAYOUTS.get(registration.major) not in RING_LAYOUTS:
            return f"its LTTng-UST speaks ABI {registration.major}, not yet supported"
        if peer.uid == _overflow_uid():
            return f"its uid is {peer.uid}, the one of users unknown here"
        cpus = self._cpus
        with contextlib.suppress(OSError, ValueError):
            cpus = possible_cpus(f"/proc/{peer.pid}/root/sys/devices/system/cpu/possible")
        if cpus != self._cpus:
            # It would abort on a stream too many, or write past the last one.
            return f"it sees {cpus} possible CPUs, the registry {self._cpus}"
        return ""

    def _refuse(self, half: _HalfOpen, registration: Registration, reason: str) -> None:
        pid = half.peer.pid
        if pid not in self._refused:
            _log.warning("application %r (pid %d) refused: %s", registration.name, pid, reason)
        while len(self._refused) >= _MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        self._refused[pid] = AppInfo(
            pid=pid,
            ppid=registration.ppid if registration.pid == pid else 0,
            uid=half.peer.uid,
            gid=half.peer.gid,
            name=registration.name,
            abi=f"{registration.major}.{registration.minor}",
            bits=registration.bits_per_long,
            tracer="",
            state="refused",
            sessions=[],
            reason=reason,
        )
        self._drop(half, "")

    def _drop(self, half: _HalfOpen, reason: str) -> None:
        if reason:
            _log.warning("application of pid %d closed: %s", half.peer.pid, reason)
        self._forget(half)
        half.sock.close()

    def _forget(self, half: _HalfOpen) -> None:
        if half.timer is not None:
            half.timer.cancel()
        self._half_open.discard(half)
        self._loop.remove_reader(half.sock.fileno())
        if half.registration is not None:
            key = half.peer.pid, half.registration.socket_type
            if self._waiting.get(key) is half:
                del self._waiting[key]


def _overflow_uid() -> int:
    with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
        return int(file.read())
