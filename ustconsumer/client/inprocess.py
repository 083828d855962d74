# SPDX-License-Identifier: MIT
"""Recording this process itself, for a while: in tests and notebooks."""

from __future__ import annotations

import itertools
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ustconsumer.client.connection import Connection
from ustconsumer.client.defaults import CONTEXTS, configure
from ustconsumer.client.output import claim, given_output, unclaim
from ustconsumer.client.registry import Registry
from ustconsumer.client.session import Session
from ustconsumer.client.shared import shared
from ustconsumer.client.totals import Totals, count
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import ChannelOptions

if TYPE_CHECKING:
    from typing import Self

    from ustconsumer.ctf.reading import Event

__all__ = ["RecordedTrace", "record"]

_numbers = itertools.count(1)


class RecordedTrace:
    """What this process emits between `start` and `stop`, or within a ``with`` block.

    Made by `record`, which describes the parameters. Iterating yields the events by time,
    without keeping them; `events` keeps them.

    Attributes
    ----------
    path : Path
        Directory of the trace. Without ``output`` it is temporary, and removed with this
        object, or when the process ends.
    warnings : list of str
        What the registry had to say, one line each.
    """

    def __init__(
        self,
        *events: str,
        exclude: Sequence[str] = (),
        output: str | os.PathLike[str] | None = None,
        contexts: Sequence[str] = CONTEXTS,
        channel: ChannelOptions | None = None,
        children: bool = False,
    ) -> None:
        self._patterns = events
        self._excluded = tuple(exclude)
        self._output = None if output is None else given_output(output)
        self._contexts = tuple(contexts)
        self._channel = channel
        self._children = bool(children)
        self._pid = os.getpid()
        self._session: Session | None = None
        self._cleanup: ExitStack | None = None
        self._totals: Totals | None = None
        self._events: list[Event] | None = None
        self.warnings: list[str] = []
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        if self._path is None:
            raise UsageError("the recording has not begun: use it in a `with` statement")
        return self._path

    @property
    def recording(self) -> bool:
        """Whether it has begun and not ended."""
        return self._session is not None and os.getpid() == self._pid

    # -- recording ---------------------------------------------------------------------------

    def start(self) -> None:
        """Record from now on. What ``with`` does at its beginning.

        Raises
        ------
        UsageError
            It has been started before, or the output cannot be used.
        CommandError
            No registry could be started, or it refused something.
        """
        if self._path is not None:
            raise UsageError("a recording is made once: call record() for another")
        self._pid = os.getpid()
        with ExitStack() as undo, ExitStack() as stack:
            self._path = path = self._place(undo)
            try:
                rundir = shared.acquire(self._children)
                stack.callback(self._release)
                connection = Connection.connect(rundir)
                stack.callback(connection.close)
                session = Registry(connection).create(f"python-{next(_numbers)}", path)
                self.warnings += configure(
                    session, self._patterns, self._contexts, self._channel, self._excluded
                )
                self.warnings += session.spawn_consumer()
                self.warnings += session.start()
            except BaseException:
                self._path = None
                raise
            self._session = session
            stack.enter_context(shared.unfinished(self))
            self._cleanup = stack.pop_all()
            undo.pop_all()

    def stop(self) -> None:
        """Record no more; the trace is complete. What ``with`` does at its end.

        Does nothing in a forked child, where the recording is the parent's, nor if it is
        not recording.
        """
        session, self._session = self._session, None
        cleanup, self._cleanup = self._cleanup, None
        if session is None or cleanup is None:
            return
        with cleanup:
            if os.getpid() != self._pid:
                return
            self.warnings += session.stop()
            self._totals = count(session)
            self.warnings += session.destroy()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        except Exception as problem:
            # Why the block failed is what its author wants to know.
            if error is None:
                raise
            error.add_note(f"and the recording failed: {problem}")

    def _place(self, undo: ExitStack) -> Path:
        """Return the directory of the trace, made, and not there again if we fail."""
        if self._output is not None:
            made = claim(self._output)
            undo.callback(unclaim, made)
            return self._output
        place = Path(tempfile.mkdtemp(prefix="drtrace-trace-"))
        shared.keep(place)
        # Not when the interpreter ends: then it is removed after the registry has ended.
        weakref.finalize(self, shared.remove, place).atexit = False
        return place

    def _release(self) -> None:
        if os.getpid() != self._pid:
            return
        self.warnings += shared.release(self._children)

    # -- what was recorded -------------------------------------------------------------------

    @property
    def events(self) -> list[Event]:
        """All events, by time."""
        if self._events is None:
            self._events = list(self)
        return self._events

    @property
    def discarded(self) -> int:
        """How many events are missing because there was no room for them."""
        return self._ended().discarded

    def __iter__(self) -> Iterator[Event]:
        # Before the first event is asked for: it is a mistake of whoever asks for an iterator.
        if not self._ended().processes:
            return iter(())
        from ustconsumer.ctf.reading import Trace

        return iter(Trace(self.path))

    def named(self, pattern: str) -> list[Event]:
        """Return the events whose name matches; ``*`` matches anything."""
        return [event for event in self.events if fnmatchcase(event.name, pattern)]

    def fields(self, pattern: str) -> list[dict[str, Any]]:
        """Return the fields of the events whose name matches, without their contexts."""
        return [event.fields for event in self.named(pattern)]

    def _ended(self) -> Totals:
        if self._totals is None:
            raise UsageError(
                "the trace is not complete: look at its events when the `with` block has ended"
            )
        return self._totals

    def __repr__(self) -> str:
        if self._totals is None:
            state = "not recorded yet" if self._session is None else "recording"
        else:
            state = f"{self._totals.recorded} events recorded, {self._totals.discarded} discarded"
        return f"<trace of {', '.join(self._patterns) or '*'}: {state}>"


def record(
    *events: str,
    exclude: Sequence[str] = (),
    output: str | os.PathLike[str] | None = None,
    contexts: Sequence[str] = CONTEXTS,
    channel: ChannelOptions | None = None,
    children: bool = False,
) -> RecordedTrace:
    """Record what this process emits, in a ``with`` block.

    The tracepoints are those of `ustconsumer.tracer`, in all threads, asyncio tasks, and
    children that are forked meanwhile. Needs no registry, changes no signal handler, and
    blocks may be within one another or in several threads.

    Parameters
    ----------
    *events : str
        Names, ``*`` matches anything. Default: all that the program emits.
    exclude : sequence of str
        Names left out.
    output : path, optional
        Directory of the trace: absent or empty. Default: a temporary one.
    contexts : sequence of str
        Recorded with each event.
    channel : ChannelOptions, optional
        Buffer sizes. Default: 2 MiB per CPU; what does not fit is discarded and counted.
    children : bool
        Record programs as well that are started meanwhile: sets ``LTTNG_HOME`` in
        `os.environ`. A C program has to be linked with liblttng-ust for that.

    Raises
    ------
    UsageError
        The output cannot be used.

    Examples
    --------
    >>> with record("shop:*") as trace:
    ...     order(1, "tea", 2.5)
    >>> trace.fields("shop:order")
    [{'number': 1, 'item': 'tea', 'price': 2.5}]

    Notes
    -----
    Beginning and ending take about 0.2 s, and 0.03 s while another block is open: then the
    registry runs already.
    """
    return RecordedTrace(
        *events,
        exclude=exclude,
        output=output,
        contexts=contexts,
        channel=channel,
        children=children,
    )
