# SPDX-License-Identifier: MIT
"""For pytest: assertions on the events that the code under test emits.

In ``conftest.py`` (the one beside ``pyproject.toml``, or at the top of the tests):

.. code-block:: python

    pytest_plugins = ["ustconsumer.testing"]

and in a test:

.. code-block:: python

    def test_an_order_is_told(traced):
        with traced("shop:*") as trace:
            sell("tea")
        assert trace.fields("shop:order") == [{"number": 1, "item": "tea", "price": 2.5}]
        assert trace.one("shop:paid").fields["price"] == 2.5

Nobody else's pytest loads this: the package has no entry point for it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pytest

from ustconsumer.client.defaults import CONTEXTS
from ustconsumer.client.inprocess import RecordedTrace
from ustconsumer.client.shared import shared
from ustconsumer.protocol.control import ChannelOptions

if TYPE_CHECKING:
    from ustconsumer.ctf.reading import Event

__all__ = ["CheckedTrace", "Fields", "Traced", "pytest_assertrepr_compare", "traced"]

#: How many of anything a message names.
_MOST = 10


class Fields(list[dict[str, Any]]):
    """The fields of some events; a list that pytest can say more about."""

    def __init__(self, trace: CheckedTrace, pattern: str, events: Sequence[Event]) -> None:
        super().__init__(event.fields for event in events)
        self.trace = trace
        self.pattern = pattern


class CheckedTrace(RecordedTrace):
    """What `traced` gives: a trace in which nothing may be missing.

    Parameters
    ----------
    lossy : bool
        Events may be discarded, which otherwise fails the test at the end of the block.
    """

    def __init__(self, *events: str, lossy: bool = False, **options: Any) -> None:
        super().__init__(*events, **options)
        self._lossy = lossy

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        ours = self.recording
        super().__exit__(kind, error, traceback)
        # What the block raised, if it did, is the better reason.
        if kind is None and ours and self.discarded and not self._lossy:
            pytest.fail(
                f"{_times(self.discarded, 'event')} discarded for want of room: give `channel` "
                "larger buffers, or allow it with lossy=True"
            )

    def fields(self, pattern: str) -> Fields:
        """Return the fields of the events whose name matches, without their contexts."""
        return Fields(self, pattern, self.named(pattern))

    def one(self, pattern: str) -> Event:
        """Return the event whose name matches; there must be exactly one."""
        __tracebackhide__ = True
        events = self.named(pattern)
        if len(events) != 1:
            lines = [f"{_times(len(events), 'event')} {pattern}, expected 1"]
            lines += [f"  {event.name}: {event.fields}" for event in events[:_MOST]]
            pytest.fail("\n".join([*lines, *self.told()]))
        return events[0]

    def none(self, pattern: str) -> None:
        """Assert that there is no event whose name matches."""
        __tracebackhide__ = True
        events = self.named(pattern)
        if events:
            lines = [f"{_times(len(events), 'event')} {pattern}, expected none"]
            lines += [f"  {event.name}: {event.fields}" for event in events[:_MOST]]
            pytest.fail("\n".join(lines))

    def told(self) -> list[str]:
        """Return what there is, in lines: for messages."""
        from ustconsumer.tracer.process import process

        names = Counter(event.name for event in self.events)
        if names:
            lines = [f"recorded: {_list(f'{name} {n}x' for name, n in names.most_common())}"]
        elif process.declared:
            lines = [f"nothing was recorded; tracepoints here: {_list(process.declared)}"]
        else:
            lines = ["nothing was recorded: no tracepoint has been declared in this process"]
        return [*lines, *self.warnings]


class Traced:
    """Makes the traces of one test; see `ustconsumer.record` for the options."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)
        self._made: list[CheckedTrace] = []

    def __call__(
        self,
        *events: str,
        exclude: Sequence[str] = (),
        contexts: Sequence[str] = CONTEXTS,
        channel: ChannelOptions | None = None,
        children: bool = False,
        lossy: bool = False,
    ) -> CheckedTrace:
        """Return what records in a ``with`` block; its trace is kept as pytest keeps files."""
        trace = CheckedTrace(
            *events,
            exclude=exclude,
            output=self._directory / f"trace-{next(self._numbers)}",
            contexts=contexts,
            channel=channel,
            children=children,
            lossy=lossy,
        )
        self._made.append(trace)
        return trace

    def end(self) -> None:
        """End those that a test began and did not end."""
        for trace in self._made:
            RecordedTrace.stop(trace)


@pytest.fixture(scope="session")
def _shared_registry() -> Iterator[None]:
    # One for all tests: a recording then takes a tenth of the time.
    shared.acquire(children=False)
    yield
    shared.release(children=False)


@pytest.fixture
def traced(_shared_registry: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """Record what this process emits: ``with traced("shop:*") as trace``; see `CheckedTrace`."""
    made = Traced(tmp_path_factory.mktemp("traced"))
    yield made
    made.end()


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explain ``trace.fields(...) == [...]``."""
    if op != "==":
        return None
    if isinstance(left, Fields) and isinstance(right, list):
        return _explain(left, right)
    if isinstance(right, Fields) and isinstance(left, list):
        return _explain(right, left)
    return None


def _explain(recorded: Fields, expected: list[Any]) -> list[str]:
    lines = [f"{_times(len(recorded), 'event')} {recorded.pattern}, expected {len(expected)}"]
    events = recorded.trace.named(recorded.pattern)
    differences = 0
    for number, (event, wanted) in enumerate(zip(events, expected, strict=False)):
        if event.fields == wanted:
            continue
        differences += 1
        if differences <= _MOST:
            lines.append(f"  event {number}, {event.name}: {_difference(event.fields, wanted)}")
    if differences > _MOST:
        lines.append(f"  and {differences - _MOST} more events differ")
    for event in events[len(expected) :][:_MOST]:
        lines.append(f"  not expected: {event.name}: {event.fields}")
    for wanted in expected[len(events) :][:_MOST]:
        lines.append(f"  missing: {wanted}")
    return [*lines, *recorded.trace.told()]


def _difference(fields: dict[str, Any], wanted: object) -> str:
    if not isinstance(wanted, dict):
        return f"{fields}, expected {wanted!r}"
    parts = []
    for name in dict.fromkeys((*fields, *wanted)):
        if name not in wanted:
            parts.append(f"{name} = {fields[name]!r} is not expected")
        elif name not in fields:
            parts.append(f"there is no {name}")
        elif fields[name] != wanted[name]:
            parts.append(f"{name} = {fields[name]!r}, expected {wanted[name]!r}")
    return "; ".join(parts)


def _times(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _list(words: Any) -> str:
    shown = list(itertools.islice(words, _MOST + 1))
    return ", ".join(shown[:_MOST] + ["..."] * (len(shown) > _MOST))
