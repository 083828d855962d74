# SPDX-License-Identifier: MIT
"""Running one command and recording it, with a registry of its own that ends with it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from ustconsumer.client import preload as libraries
from ustconsumer.client.command import wait
from ustconsumer.client.defaults import CONTEXTS, configure
from ustconsumer.client.descendants import alive, wait_for_all
from ustconsumer.client.launch import PrivateRegistry
from ustconsumer.client.output import claim, default_output, given_output, timestamped, unclaim
from ustconsumer.client.program import (
    ProgramError,
    environment,
    is_python,
    resolve,
    why_not_registered,
)
from ustconsumer.client.pythoncalls import PythonCalls, check_modules
from ustconsumer.client.registry import Registry
from ustconsumer.client.session import Session
from ustconsumer.client.signals import CommandSignals, become_subreaper
from ustconsumer.client.totals import Totals, count
from ustconsumer.errors import CommandError, ConnectionClosedError, DecodeError, UsageError
from ustconsumer.protocol.control import AppInfo, ChannelOptions

__all__ = ["Recording", "record_command"]

#: How many programs one line names.
_MAX_NAMED = 4
_SAID_BY = re.compile(r"^(ust-consumerd\[\d+\]|consumer): ")


class Recording(msgspec.Struct, kw_only=True):
    """What `record_command` did."""

    command: list[str]
    #: the command's exit status, 128 + n if signal n killed it
    status: int
    #: directory of the trace
    output: str
    #: wall-clock time of the command, or of all that was waited for
    seconds: float
    #: None if they could not be counted
    totals: Totals | None
    #: one line each
    warnings: list[str]


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
) -> Recording:
    """Run a command and record its events to disk.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; no shell.
    output : path, optional
        Directory of the trace: absent or empty. Default: below ``~/lttng-traces``.
    events : sequence of str
        Patterns of event names. None: whatever the programs emit, without the state dumps
        (the libraries each has loaded) that open a trace of all events.
    channel : ChannelOptions, optional
        Buffer sizes.
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

    Raises
    ------
    ProgramError
        The program is not there or cannot be executed; nothing was changed.
    UsageError
        The output cannot be used; nothing was changed.
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
    options = channel or ChannelOptions()
    name = timestamped(program.name)
    place = default_output(name) if output is None else given_output(output)
    note = _Notes(warn)
    with CommandSignals(take_over) as signals:
        made = claim(place)
        try:
            if take_over:
                become_subreaper()
            with _private_registry(note) as registry:
                session = Registry(registry.connection).create(name, place)
                for line in configure(session, events, contexts, options):
                    note(line)
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
                status = wait(child, registry, signals, note, take_over)
                if wait_all:
                    with signals.linger():
                        wait_for_all(registry, signals, note, take_over)
                seconds = time.monotonic() - begin
                made.clear()
                totals, left, told = _finish(session, registry, place, note)
                if calls is not None:
                    without_calls = calls.why_empty()
                    for line in calls.notes():
                        note(line)
        finally:
            unclaim(made)
    if left:
        note(_left_running(left, wait_all))
    # One that was there and could not be recorded was named by the registry.
    told += [line for line in note.lines if line.startswith("ltt-sessiond: session ")]
    empty = _why_empty(totals, told, program, events, without_calls)
    if empty:
        note(empty)
    return Recording(
        command=list(command),
        status=status,
        output=str(place),
        seconds=seconds,
        totals=totals,
        warnings=note.lines,
    )


class _Notes:
    """Warnings: kept, and told at once; each fact once, whoever says it."""

    def __init__(self, warn: Callable[[str], None] | None) -> None:
        self.lines: list[str] = []
        self._warn = warn
        self._said: set[str] = set()

    def __call__(self, line: str) -> None:
        # A consumer says on its own what the registry repeats at the end.
        fact = _SAID_BY.sub("", line)
        if fact in self._said:
            return
        self._said.add(fact)
        self.lines.append(line)
        if self._warn is not None:
            self._warn(line)


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


def _left_running(left: Sequence[AppInfo], wait_all: bool) -> str:
    # A Python with our tracer that also loads liblttng-ust is registered twice.
    left = list({app.pid: app for app in left}.values())
    shown = [f"{app.name} (pid {app.pid})" for app in left[:_MAX_NAMED]]
    if len(left) > len(shown):
        shown.append("...")
    count = "1 program is" if len(left) == 1 else f"{len(left)} programs are"
    advice = "" if wait_all else ": --wait-all records until they end"
    return f"{count} still running and recorded no more, {', '.join(shown)}{advice}"


def _why_empty(
    totals: Totals | None,
    told: Sequence[str],
    program: Path,
    events: Sequence[str],
    without_calls: str | None = None,
) -> str:
    """Return why nothing was recorded; empty if something was, or if it was told before.

    ``without_calls``: the reason where calls of Python were to be recorded.
    """
    if totals is None:
        return ""
    if totals.processes == 0:
        # One that registered, and ended before it had buffers, was told.
        if told:
            return ""
        if without_calls is not None:
            return without_calls
        return f"no program registered: {why_not_registered(program)}"
    if totals.packets and totals.recorded + totals.discarded == 0:
        # Without a packet the output took nothing, and that was said.
        if without_calls is not None:
            return without_calls
        if not events:
            return f"{program.name} registered and emitted no event"
        return f"no event matched {', '.join(events)}: `drtrace record -e '*'` shows what there is"
    return ""


def _count(session: Session, note: Callable[[str], None]) -> Totals | None:
    try:
        return count(session)
    except (DecodeError, OSError) as error:
        # The trace is there all the same, and may be readable by others.
        note(f"cannot count what was recorded: {error}")
        return None


def _note_repairs(session: Session, note: Callable[[str], None]) -> None:
    consumer = session.info().consumer
    if consumer is not None and consumer.stats.repaired:
        count = consumer.stats.repaired
        packets = "1 packet" if count == 1 else f"{count} packets"
        note(f"{packets} repaired: a process was killed while it wrote an event")


def _finish(
    session: Session, registry: PrivateRegistry, place: Path, note: Callable[[str], None]
) -> tuple[Totals | None, list[AppInfo], list[str]]:
    """Stop and destroy the session.

    Returns what it recorded, who is still running, and what the stop told.
    """
    try:
        told = session.stop()
        for line in told:
            note(line)
        # While the session is there: who writes without being registered is found by its buffers.
        left = alive(registry)
        totals = _count(session, note)
        _note_repairs(session, note)
        for line in session.destroy():
            note(line)
    except ConnectionClosedError as error:
        # Its consumer goes on without it and closes a readable trace.
        raise CommandError(
            f"the session daemon died ({error}): what was recorded until then is in {place}"
        ) from None
    return totals, left, told
