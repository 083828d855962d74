# SPDX-License-Identifier: MIT
"""The flight recorder: buffers that nobody reads until something happens."""

from __future__ import annotations

import contextlib
import copy
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Sequence
from types import TracebackType

import msgspec

from ustconsumer.client.connection import Connection
from ustconsumer.client.occasions import Occasions, signal_name
from ustconsumer.client.session import Session
from ustconsumer.client.signals import CommandSignals
from ustconsumer.client.totals import Totals, add_files
from ustconsumer.errors import ConnectionClosedError, UsageError, UstConsumerError
from ustconsumer.protocol.control import (
    AddTrigger,
    ChannelOptions,
    EventInfo,
    Listen,
    Notification,
    TriggerAction,
)

__all__ = ["FlightRecorder", "FlightSnapshot", "check_options", "flight_channel"]

#: A flight recorder's buffers: some seconds of ten thousand events a second on each CPU.
_NUM_SUBBUF = 8
_SUBBUF_SIZE = {"uid": 512 << 10, "pid": 64 << 10}
#: From one snapshot on an event to the next, at least: a burst of events is in one or two.
_BURST_SECONDS = 1.0
#: How soon the death of an orphan is noticed if it is an occasion.
_REAP_SECONDS = 0.05
#: From an event to its notification, once the program has ended.
_LAST_SECONDS = 0.5


class FlightSnapshot(msgspec.Struct, kw_only=True):
    """A snapshot that a `FlightRecorder` took."""

    #: its directory
    path: str
    #: what it was taken on: "exit", "crash", the name of a signal, or the pattern of an event
    occasion: str
    #: None if they could not be counted
    events: int | None
    packets: int
    bytes: int
    #: packets that could not be had
    lost: int


class FlightRecorder:
    """Takes snapshots of a session on occasions, while a command runs and at its end.

    A context manager; entered before any program runs that is recorded.

    Parameters
    ----------
    session : Session
        In snapshot mode.
    occasions : Occasions
    condition : str
        A filter expression for the events among the occasions; empty: none.
    signals : CommandSignals
        With the signals among the occasions as requests.
    note : callable
        Gets a line for what was not done, and why.

    Attributes
    ----------
    snapshots : list of FlightSnapshot
        In the order in which they were taken.

    Raises
    ------
    CommandError
        On entry: the registry refused a pattern or the condition.
    """

    def __init__(
        self,
        session: Session,
        occasions: Occasions,
        condition: str,
        signals: CommandSignals,
        note: Callable[[str], None],
    ) -> None:
        self.snapshots: list[FlightSnapshot] = []
        self._session = session
        self._occasions = occasions
        self._condition = condition
        self._signals = signals
        self._note = note
        self._listener: _Listener | None = None
        self._pending = ""
        self._not_before = 0.0
        self._failed = False

    def __enter__(self) -> FlightRecorder:
        if self._occasions.events:
            self._listener = _Listener(self._session, self._occasions.events, self._condition)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._listener is not None:
            self._listener.close()

    # -- while the command runs: see `ustconsumer.client.watch.Companion` --------------------

    def descriptors(self) -> Collection[int]:
        """Return what is to be polled."""
        found = [] if self._signals.requested is None else [self._signals.requested]
        # More events change nothing while a snapshot is due.
        if self._listener is not None and self._listener.open and not self._pending:
            found.append(self._listener.fileno())
        return found

    def timeout(self) -> float | None:
        """Return after how many seconds `look` is to be called at the latest."""
        bounds = [_REAP_SECONDS] if self._occasions.crash else []
        if self._pending:
            bounds.append(max(self._not_before - time.monotonic(), 0.0))
        return min(bounds, default=None)

    def look(self) -> None:
        """Take the snapshots that are asked for by now."""
        for number in self._signals.take_requests():
            self._take(signal_name(number))
        if self._listener is not None:
            self._pending = self._listener.heard() or self._pending
        if self._pending and time.monotonic() >= self._not_before:
            self._take(self._pending)
            self._pending = ""
            self._not_before = time.monotonic() + _BURST_SECONDS

    def reaped(self, pid: int, code: int) -> None:
        """Take notice of an orphan's end; ``code`` is negative if a signal killed it."""
        if not self._occasions.crash or code >= 0:
            return
        with contextlib.suppress(ConnectionClosedError):
            if pid in self._session.info().processes:
                self._pending = "crash"
                self.look()

    # -- at the end ---------------------------------------------------------------------------

    def command_ended(self, status: int) -> None:
        """Take the snapshots that the end of the command asks for.

        Parameters
        ----------
        status : int
            Exit status, 128 + n for signal n: a shell passes on in this way, too, that what
            it ran was killed.
        """
        self.look()
        if self._occasions.crash and status - 128 in signal.valid_signals():
            self._take("crash")

    def finish(self) -> None:
        """Take the snapshots that are due when everybody has ended who is waited for."""
        if self._listener is not None and not self._pending:
            self._listener.wait(_LAST_SECONDS)
        self._not_before = 0.0
        self.look()
        if self._occasions.exit:
            self._take("exit")
        with contextlib.suppress(ConnectionClosedError):
            if dropped := self._session.info().dropped:
                programs = "1 program" if dropped == 1 else f"{dropped} programs"
                self._note(
                    f"buffers of {programs} that had ended were given up for those of newer ones: "
                    "use smaller ones, or --buffers-uid"
                )

    def totals(self) -> Totals | None:
        """Return what the snapshots hold together, None if not known; an event may be in several.

        Called before the session is destroyed.
        """
        info = self._session.info()
        events = 0
        for snapshot in self.snapshots:
            if snapshot.events is None:
                return None
            events += snapshot.events
        return Totals(
            recorded=events,
            discarded=sum(channel.discarded for channel in info.channels),
            processes=len(info.processes),
            packets=sum(snapshot.packets for snapshot in self.snapshots),
            bytes=sum(snapshot.bytes for snapshot in self.snapshots),
        )

    def why_none(self) -> str:
        """Return why there is no snapshot; empty if there is one."""
        if self.snapshots:
            return ""
        if self._failed:
            return "nothing could be kept"
        return f"nothing was kept: there was no {' and no '.join(self._occasions.words())}"

    def _take(self, occasion: str) -> None:
        try:
            taken = self._session.snapshot()
        except ConnectionClosedError:
            # The registry is gone: who ends the session will say so.
            self._failed = True
            return
        except (UstConsumerError, OSError) as error:
            self._failed = True
            self._note(f"no snapshot on {occasion}: {error}")
            return
        for line in taken.problems:
            self._note(f"snapshot on {occasion}: {line}")
        if not os.path.isdir(taken.path):
            self._failed = True
            self._note(f"no snapshot on {occasion}: nothing was recorded until then")
            return
        snapshot = FlightSnapshot(
            path=taken.path,
            occasion=occasion,
            events=self._count(taken.path),
            packets=taken.packets,
            bytes=taken.bytes,
            lost=taken.lost,
        )
        self.snapshots.append(snapshot)

    def _count(self, path: str) -> int | None:
        counted = Totals()
        try:
            add_files(counted, path, self._session.describe())
        except (UstConsumerError, OSError) as error:
            # The snapshot is there all the same, and may be readable by others.
            self._note(f"cannot count what is in {path}: {error}")
            return None
        return counted.recorded


class _Listener:
    """Hears of events: programs tell the registry of each that matches, and it tells us.

    Parameters
    ----------
    session : Session
        Of the registry.
    patterns : sequence of str
    condition : str
        A filter expression; empty: none.
    """

    def __init__(self, session: Session, patterns: Sequence[str], condition: str) -> None:
        self._patterns = {f"snapshot-on-{each}": each for each in patterns}
        self.open = True
        # Of its own: what is pushed to it must not wait between requests.
        self._connection = Connection.connect(session.connection.welcome.rundir)
        try:
            for name, pattern in self._patterns.items():
                event = EventInfo(pattern=pattern, filter=condition)
                actions = [TriggerAction(kind="notify")]
                trigger = AddTrigger(name=name, event=event, captures=[], actions=actions)
                self._connection.request(trigger)
            self._connection.request(Listen(triggers=[*self._patterns]))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def fileno(self) -> int:
        return self._connection.fileno()

    def wait(self, seconds: float) -> None:
        """Wait until there is something to hear."""
        if self.open and not self._connection.pending:
            poll = select.poll()
            poll.register(self._connection, select.POLLIN)
            poll.poll(seconds * 1000)

    def heard(self) -> str:
        """Return the pattern of an event that happened since the last call, else nothing."""
        last = ""
        try:
            while self.open and (received := self._connection.receive(0)) is not None:
                message, fds = received
                for fd in fds:
                    os.close(fd)
                if isinstance(message, Notification):
                    last = self._patterns.get(message.trigger, last)
        except ConnectionClosedError:
            # The registry is gone: who ends the session will say so.
            self.open = False
        return last


def flight_channel(base: ChannelOptions | None = None, buffers: str = "uid") -> ChannelOptions:
    """Return the buffers of a flight recorder: those of ``base`` if they hold more."""
    wanted = ChannelOptions() if base is None else copy.copy(base)
    wanted.mode, wanted.buffers = "overwrite", buffers
    # Nobody is woken up, and nothing is to be written at once.
    wanted.switch_timer_us = wanted.read_timer_us = 0
    if base is None or base.subbuf_size * base.num_subbuf < _SUBBUF_SIZE[buffers] * _NUM_SUBBUF:
        wanted.subbuf_size, wanted.num_subbuf = _SUBBUF_SIZE[buffers], _NUM_SUBBUF
    return wanted


def check_options(channel: ChannelOptions, workers: int, direct: bool) -> None:
    """Refuse what makes no sense with a flight recorder.

    Raises
    ------
    UsageError
        It does not.
    """
    senseless = {
        "--discard": channel.mode != "overwrite",
        "--switch-timer": channel.switch_timer_us,
        "--read-timer": channel.read_timer_us,
        "--workers": workers,
        "--direct": direct,
    }
    words = [word for word, given in senseless.items() if given]
    if words:
        raise UsageError(
            "--snapshot keeps the newest events in memory and writes them only when something "
            f"happens: leave out {' and '.join(words)}"
        )
