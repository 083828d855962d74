# SPDX-License-Identifier: MIT
"""A registered application: what is known of it, and what it has of each session."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import itertools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sessiond.links import CommandLink, NotifyLink
from sessiond.owners import Owner, Process
from sessiond.registry import Session
from sessiond.sockets import Peer
from sessiond.traces import LAYOUTS, Trace
from sessiond.trackers import Program
from ustconsumer.protocol.application import Registration
from ustconsumer.protocol.control import AppInfo

__all__ = ["AppChannel", "AppRule", "AppSession", "Application"]

_log = logging.getLogger("sessiond")
_numbers = itertools.count()


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
    #: the last statedump that it recorded, of `Session.statedumps`
    statedumps: int = 0
    #: paused, and none of its threads is in the middle of an event
    quiet: bool = False
    channels: dict[int, AppChannel] = field(default_factory=dict)
    #: why it cannot record this session; nothing is tried again
    problem: str = ""
    #: what it cannot do and is recorded without, one line each
    remarks: list[str] = field(default_factory=list)
    #: why it cannot have a channel, by the channel's id: it was answered so when it asked
    unfit: dict[int, str] = field(default_factory=dict)
    #: events that it has registered for this session: those of its tracepoints that match
    events: int = 0


class Application:
    """One registered program.

    It lives as long as its process (its pidfd), not as its sockets: a child of a bare fork
    holds both open. A living process whose socket closed registers again.

    Attributes
    ----------
    key : tuple of (int, bool)
        Its process, and which of the two tracers a process may have: a later application
        with this key is the same one, registered again.
    hidden : bool
        It runs in a pid namespace that ours does not see: neither ``/proc`` nor any pid of
        ours tells of it, nor of its children.
    ns_pid : int
        Its pid in a pid namespace of its own, 0 if it has none.
    sessions : dict of str to AppSession
        By session id: what the program has, not what it should have.
    settled : int
        The registry's revision it was last brought in line with.
    wake : asyncio.Event
        Set when there may be something to do for it.
    """

    def __init__(
        self, peer: Peer, registration: Registration, pidfd: int, named: bool = False
    ) -> None:
        self.peer = peer
        self.key = peer.key, named
        self.hidden = not peer.pid
        self.ns_pid = _pid_inside(peer, registration)
        self.registration = registration
        self.pidfd = pidfd
        self.layout = LAYOUTS[registration.major]
        #: of this registration; a process that registers again is another application
        self.number = next(_numbers)
        self.registered = datetime.datetime.now().astimezone().replace(microsecond=0)
        self.tracer = ""
        #: REGISTER_DONE was sent, and answered
        self.asked_done = False
        self.done = False
        #: monotonic, in seconds
        self.done_since = 0.0
        self.overdue = False
        self.gone = False
        self.sessions: dict[str, AppSession] = {}
        #: why it has nothing of a session, by session id; tried again at the next change
        self.problems: dict[str, str] = {}
        #: channels that it cannot have, by session id and channel id, and why
        self.unfit: dict[str, dict[int, str]] = {}
        self.settled = -1
        #: definitions that were refused
        self.refusals = 0
        self.wake = asyncio.Event()
        self.command: CommandLink
        self.notify: NotifyLink
        self._settling: list[tuple[int, asyncio.Future[None]]] = []

    def __str__(self) -> str:
        pid = str(self.peer.pid)
        if self.ns_pid:
            pid = f"{'unknown here' if self.hidden else pid}, {self.ns_pid} inside its container"
        return f"{self.registration.name!r} (pid {pid})"

    def owner(self, buffers: str) -> Owner:
        """Return whose buffers it writes, with buffers per ``"uid"`` or per ``"pid"``."""
        process = None
        if buffers == "pid":
            # As lttng-sessiond, which goes by what the kernel tells it; of a hidden one it
            # would be nothing.
            pid = self.peer.pid or self.ns_pid
            process = Process(pid, self.registration.name, self.number, self.registered)
        return Owner(self.peer.uid, self.layout, self.tracer, process)

    @property
    def state(self) -> str:
        if self.overdue:
            return "slow"
        return "registered" if self.done else "registering"

    @property
    def program(self) -> Program:
        """What trackers look at; the pid is its own word, the rest the kernel's."""
        registration, peer = self.registration, self.peer
        return Program(registration.pid, peer.uid, peer.gid, registration.name)

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

    def remarks_on(self, session: Session) -> list[str]:
        """Return what it is recorded without in a session, one line each."""
        entry = self.sessions.get(session.id)
        return list(entry.remarks) if entry else []

    def settle(self, revision: int) -> None:
        """Note that it was brought in line with a revision."""
        self.settled = max(self.settled, revision)
        self._release()

    def stopped(self) -> bool:
        """Return whether its process is stopped now, by a signal or a debugger."""
        try:
            stat = Path(f"/proc/{self.peer.pid}/stat").read_bytes()
        except OSError:
            return False
        # Behind its name, which may have any characters.
        return stat.rpartition(b") ")[2][:1] in (b"T", b"t")

    def delay(self) -> str:
        """Return why it does not follow now, as the rest of a sentence about it."""
        if self.stopped():
            return "is stopped (SIGSTOP): it follows when it goes on"
        return "does not answer: it follows when it does"

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

    def info(
        self, why: Iterable[str] = (), seen: Callable[[Session], bool] = lambda session: True
    ) -> AppInfo:
        """Return what ``drtrace apps`` shows of it.

        Parameters
        ----------
        why : iterable of str
            Why it is not recorded.
        seen : callable
            Whether whoever asks may know of a session.
        """
        registration = self.registration
        entries = self.sessions.values()
        problems = [*why, *(line for e in entries if seen(e.session) for line in e.remarks)]
        if self.overdue:
            problems.append(self.delay())
        return AppInfo(
            pid=self.peer.pid,
            # Its own claim: shown, and nothing depends on it.
            ppid=registration.ppid if registration.pid == self.peer.pid else 0,
            ns_pid=self.ns_pid,
            uid=self.peer.uid,
            gid=self.peer.gid,
            name=registration.name,
            abi=f"{registration.major}.{registration.minor}",
            bits=registration.bits_per_long,
            tracer=self.tracer,
            state=self.state,
            sessions=sorted(e.session.name for e in entries if e.active and seen(e.session)),
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


def _pid_inside(peer: Peer, registration: Registration) -> int:
    """Return a process's pid in its own pid namespace; 0 if that is ours, or it lies."""
    if registration.pid == peer.pid:
        return 0
    if not peer.pid:
        return registration.pid
    # What it claims is shown only if the kernel says the same.
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{peer.pid}/status").read_text(errors="replace").splitlines():
            if line.startswith("NSpid:") and int(line.split()[-1]) == registration.pid:
                return registration.pid
    return 0
