# SPDX-License-Identifier: MIT
"""Running one command and recording it, with a registry of its own that ends with it."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from ustconsumer.client import preload as libraries
from ustconsumer.client.command import wait
from ustconsumer.client.defaults import CONTEXTS, configure
from ustconsumer.client.descendants import alive, wait_for_all
from ustconsumer.client.flight import (
    FlightRecorder,
    FlightSnapshot,
    check_options,
    flight_channel,
)
from ustconsumer.client.launch import PrivateRegistry
from ustconsumer.client.occasions import check_condition, occasions
from ustconsumer.client.output import claim, unclaim
from ustconsumer.client.places import check_sent, session_place
from ustconsumer.client.program import ProgramError, environment, is_python, resolve
from ustconsumer.client.pythoncalls import PythonCalls, check_modules
from ustconsumer.client.registry import Registry
from ustconsumer.client.remarks import Notes, left_running, note_repairs, why_empty
from ustconsumer.client.session import Session
from ustconsumer.client.signals import CommandSignals, become_subreaper
from ustconsumer.client.totals import Totals, count
from ustconsumer.client.watch import Watch
from ustconsumer.errors import CommandError, ConnectionClosedError, DecodeError, UsageError
from ustconsumer.protocol.control import AppInfo, ChannelOptions, Destination
from ustconsumer.protocol.destinations import relay_of

__all__ = ["Recording", "record_command"]


class _Ending(NamedTuple):
    """What a session had recorded, who is still running, what its stop told."""

    totals: Totals | None
    left: list[AppInfo]
    told: list[str]
    relay_path: str


class Recording(msgspec.Struct, kw_only=True):
    """What `record_command` did."""

    command: list[str]
    #: the command's exit status, 128 + n if signal n killed it
    status: int
    #: directory of the trace; of a flight recorder: of the last snapshot; empty if there is none
    output: str
    #: URL of the relay that got the trace, empty if none did
    relay: str = ""
    #: directory of the trace there, below the relay's, where it says so
    relay_path: str = ""
    #: wall-clock time of the command, or of all that was waited for
    seconds: float
    #: None if they could not be counted; of a flight recorder: sums over its snapshots
    totals: Totals | None
    #: one line each
    warnings: list[str]
    #: those that a flight recorder took
    snapshots: list[FlightSnapshot] = []
    #: why a flight recorder took none
    no_snapshot: str = ""


def record_command(
    command: Sequence[str],
    *,
    output: str | os.PathLike[str] | None = None,
    events: Sequence[str] = (),
    channel: ChannelOptions | None = None,
    contexts: Sequence[str] = CONTEXTS,
    warn: Callable[[str], None] | None = None,
    take_over: bool = False,
    wait_all: bool = False,
    preload: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    workers: int = 0,
    direct: bool = False,
    python_calls: Sequence[str] | None = None,
    snapshot_on: Sequence[str | int] | None = None,
    snapshot_filter: str = "",
    destination: Destination | None = None,
) -> Recording:
    """Run a command and record its events: to disk, to a relay, or in memory for an occasion.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; no shell.
    output : path, optional
        Directory of the trace: absent or empty. Default: below ``~/lttng-traces``, or none if
        a relay gets it.
    events : sequence of str
        Patterns of event names. None: whatever the programs emit, without the state dumps
        (the libraries each has loaded) that open a trace of all events.
    channel : ChannelOptions, optional
        Buffer sizes. Default of a flight recorder: `ustconsumer.client.flight.flight_channel`.
    contexts : sequence of str
        Fields recorded with every event.
    warn : callable, optional
        Gets each warning when it happens; they are in the result too.
    take_over : bool
        This process exists for the command alone: adopt its orphans, forward
        signals to it, reap every child. For ``drtrace record``.
    wait_all : bool
        Record until the command and every program it started that registered have ended.
        With ``take_over`` a signal after the command's end is the end of the recording.
    preload : sequence of str
        Names of `ustconsumer.client.preload.LIBRARIES` that the command is started with.
        "fork" is added where it is found, unless "none" is among them or the program is Python.
    variables : mapping, optional
        Set in the command's environment where it does not have them.
    workers : int
        Most threads that move packets at a time; 0: one.
    direct : bool
        Write past the page cache where sub-buffers are large enough.
    python_calls : sequence of str, optional
        Have every Python that the command starts emit ``python:*`` for calls of functions of
        these modules and packages; empty: of all. The events are those of ``events`` still.
    snapshot_on : sequence of str or int, optional
        Be a flight recorder: keep the newest events in memory, and write them to a directory
        below ``output`` on each of these occasions: "exit", "crash" (the command, or an orphan
        of it that is adopted and recorded, was killed by a signal), the name or number of a
        signal that this process gets, a pattern of event names (with a colon). Empty: "exit".
        Signals need the main thread, and get handlers also without ``take_over``.
    snapshot_filter : str
        Of the events among these only those of which this expression is true.
    destination : Destination, optional
        A relay that gets the trace, and the form of the files.

    Raises
    ------
    ProgramError
        The program is not there or cannot be executed; nothing was changed.
    UsageError
        The output or an option cannot be used; nothing was changed.
    CommandError
        The registry could not be started or refused an option; nothing was left.
    """
    if not command:
        raise UsageError("no command to record: name one after the options")
    program = resolve(command[0])
    loaded = _loaded(program, preload)
    modules = None if python_calls is None else check_modules(python_calls)
    calls: PythonCalls | None = None
    without_calls: str | None = None
    wanted = None if snapshot_on is None else occasions(snapshot_on)
    flight: FlightRecorder | None = None
    options = channel or (ChannelOptions() if wanted is None else flight_channel())
    if wanted is not None:
        check_options(options, workers, direct)
    check_condition(wanted, snapshot_filter)
    destination = destination or Destination()
    check_sent(destination, flight=wanted is not None, direct=direct)
    name, place = session_place(program, output, destination)
    note = Notes(warn)
    with CommandSignals(take_over, wanted.signals if wanted else ()) as signals:
        made = [] if place is None else claim(place)
        try:
            if take_over:
                become_subreaper()
            with _private_registry(note) as registry, contextlib.ExitStack() as stack:
                client = Registry(registry.connection)
                session = client.create(
                    name, place or "", snapshot=wanted is not None, destination=destination
                )
                for line in configure(session, events, contexts, options):
                    note(line)
                if wanted is not None:
                    flight = FlightRecorder(session, wanted, snapshot_filter, signals, note)
                    stack.enter_context(flight)
                else:
                    for line in session.spawn_consumer(workers=workers, direct=direct):
                        note(line)
                for line in session.start():
                    note(line)
                env = _variables(variables or {}, options)
                env = environment(program, registry.home, env, loaded)
                if modules is not None:
                    calls = PythonCalls(registry.home / "python", modules)
                    env = calls.environment(env)
                begin = time.monotonic()
                child = _spawn(signals, program, command, env)
                watch = Watch(registry, note, reap=take_over, companion=flight)
                status = wait(child, watch, signals)
                if flight is not None:
                    flight.command_ended(status)
                if wait_all:
                    with signals.linger():
                        wait_for_all(watch, signals)
                seconds = time.monotonic() - begin
                if flight is not None:
                    flight.finish()
                else:
                    made.clear()
                ending = _finish(session, registry, place, note, flight)
                if calls is not None:
                    without_calls = calls.why_empty()
                    for line in calls.notes():
                        note(line)
        finally:
            unclaim(made)
    totals, told = ending.totals, ending.told
    if ending.left:
        note(left_running(ending.left, wait_all))
    # One that was there and could not be recorded was named by the registry.
    told += [line for line in note.lines if line.startswith("ltt-sessiond: session ")]
    empty = why_empty(totals, told, program, events, without_calls)
    if empty:
        note(empty)
    snapshots = [] if flight is None else flight.snapshots
    directory = "" if place is None else str(place)
    if flight is not None:
        directory = snapshots[-1].path if snapshots else ""
    return Recording(
        command=list(command),
        status=status,
        output=directory,
        relay=str(relay_of(destination)) if destination.url else "",
        relay_path=ending.relay_path,
        seconds=seconds,
        totals=totals,
        warnings=note.lines,
        snapshots=snapshots,
        no_snapshot="" if flight is None else flight.why_none(),
    )


def _loaded(program: Path, preload: Sequence[str]) -> list[str]:
    """Return the libraries that a program is started with."""
    chosen = libraries.check(preload)
    if is_python(program):
        # Our tracer follows forks by itself. With threads of a library it did not ask for, a
        # Python that forks is warned, and one that forks to run `preexec_fn` may abort.
        chosen.append(libraries.NONE)
    return libraries.paths(chosen)


@contextlib.contextmanager
def _private_registry(note: Callable[[str], None]) -> Iterator[PrivateRegistry]:
    registry = PrivateRegistry()
    interrupted = False
    try:
        yield registry
    except (KeyboardInterrupt, SystemExit):
        interrupted = True
        raise
    finally:
        last = registry.close()
        # What daemons say that are stopped half-way in starting is no news.
        for line in last if not interrupted else ():
            note(line)


def _spawn(
    signals: CommandSignals, program: Path, command: Sequence[str], env: dict[str, str]
) -> int:
    try:
        return signals.spawn(os.fspath(program), list(command), env)
    except OSError as error:
        # It was there and executable: what is missing or wrong is its interpreter.
        status = 127 if error.errno == errno.ENOENT else 126
        reason = "its interpreter is missing" if status == 127 else error.strerror
        raise ProgramError(f"{program}: cannot be executed ({reason})", status) from None


def _variables(wanted: Mapping[str, str], channel: ChannelOptions) -> dict[str, str]:
    """Return our environment with those variables that it does not have."""
    # Without it liblttng-ust ignores the time-out of a channel.
    blocking = {"LTTNG_UST_ALLOW_BLOCKING": "1"} if channel.blocking_timeout_us else {}
    return {**wanted, **blocking, **os.environ}


def _count(session: Session, note: Callable[[str], None]) -> Totals | None:
    try:
        return count(session)
    except (DecodeError, OSError) as error:
        # The trace is there all the same, and may be readable by others.
        note(f"cannot count what was recorded: {error}")
        return None


def _finish(
    session: Session,
    registry: PrivateRegistry,
    place: Path | None,
    note: Callable[[str], None],
    flight: FlightRecorder | None,
) -> _Ending:
    """Stop and destroy the session."""
    try:
        told = session.stop()
        for line in told:
            note(line)
        # While the session is there: who writes without being registered is found by its buffers.
        left = alive(registry)
        consumer = session.info().consumer
        relay_path = "" if consumer is None else consumer.stats.place
        if flight is None:
            totals = _count(session, note)
            note_repairs(session, note)
        else:
            totals = flight.totals()
        for line in session.destroy():
            note(line)
    except ConnectionClosedError as error:
        # Its consumer goes on without it and closes a readable trace.
        kept = f"what was recorded until then is in {place or 'the relay'}"
        if flight is not None and not flight.snapshots:
            kept = "what was in its buffers is lost"
        raise CommandError(f"the session daemon died ({error}): {kept}") from None
    return _Ending(totals, left, told, relay_path)
