# SPDX-License-Identifier: MIT
"""What a flight recorder takes its snapshots on, as people write it."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import NamedTuple

from ustconsumer.errors import UsageError

__all__ = ["Occasions", "check_condition", "occasions", "signal_name"]

_POSSIBLE = (
    "use exit, crash, a signal (USR1, HUP, 10), or an event, a pattern with a colon ('shop:error')"
)
_ENDS = "ends the command"
_FAULT = "says that drtrace itself fails"
_TERMINAL = "is the terminal's"
#: Signals that mean something to whoever runs a command, and what.
_TAKEN = {
    signal.SIGINT: _ENDS,
    signal.SIGQUIT: _ENDS,
    signal.SIGTERM: _ENDS,
    signal.SIGKILL: "cannot be caught",
    signal.SIGSTOP: "cannot be caught",
    signal.SIGCHLD: "says that a program has ended",
    signal.SIGPIPE: "says that nobody reads what drtrace prints",
    signal.SIGXFSZ: "says that a file is too large",
    signal.SIGTSTP: _TERMINAL,
    signal.SIGTTIN: _TERMINAL,
    signal.SIGTTOU: _TERMINAL,
    signal.SIGCONT: _TERMINAL,
    **dict.fromkeys(
        (
            signal.SIGABRT,
            signal.SIGBUS,
            signal.SIGFPE,
            signal.SIGILL,
            signal.SIGSEGV,
            signal.SIGSYS,
            signal.SIGTRAP,
        ),
        _FAULT,
    ),
}


class Occasions(NamedTuple):
    """What snapshots are taken on."""

    #: the end of the command, however it ended
    exit: bool = False
    #: its end by a signal
    crash: bool = False
    signals: tuple[int, ...] = ()
    #: patterns of event names
    events: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """Return each as it is written."""
        words = ["exit"] * self.exit + ["crash"] * self.crash
        return [*words, *map(signal_name, self.signals), *self.events]


def occasions(words: Sequence[str | int]) -> Occasions:
    """Return what is meant by ``exit``, ``crash``, signals and patterns of events.

    Parameters
    ----------
    words : sequence of str or int
        A signal is a name, with or without ``SIG``, or a number. None at all: ``exit``.

    Raises
    ------
    UsageError
        A word means nothing, or a signal means something else already.
    """
    signals: dict[int, None] = {}
    events: dict[str, None] = {}
    for word in words:
        if word in ("exit", "crash"):
            continue
        number = _signal(word)
        if number is not None:
            signals[number] = None
        elif isinstance(word, str) and _is_event(word):
            events[word] = None
        else:
            raise UsageError(f"no snapshot can be taken on {word!r}: {_POSSIBLE}")
    return Occasions(
        exit="exit" in words or not words,
        crash="crash" in words,
        signals=tuple(signals),
        events=tuple(events),
    )


def check_condition(wanted: Occasions | None, condition: str) -> None:
    """Refuse a filter expression for events where there is no such event, or that is none.

    Raises
    ------
    UsageError
        There is no event it could be about.
    FilterError
        It is no expression.
    """
    if not condition:
        return
    if wanted is None or not wanted.events:
        raise UsageError("--snapshot-filter is about events: name one with --snapshot-on")
    from ustconsumer.client.filter import compile_filter

    compile_filter(condition)


def signal_name(number: int) -> str:
    """Return the name of a signal, ``SIGUSR1``; real-time signals have numbers."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _is_event(word: str) -> bool:
    provider, colon, name = word.partition(":")
    return bool(provider and colon and name) and not any(each.isspace() for each in word)


def _signal(word: str | int) -> int | None:
    """Return the number of a signal; None if the word is not meant as one."""
    text = str(int(word)) if isinstance(word, int) else word.upper()
    if text.isascii() and text.isdigit():
        number = int(text)
        if number not in signal.valid_signals():
            raise UsageError(f"there is no signal {number}: {_POSSIBLE}")
    else:
        try:
            number = signal.Signals["SIG" + text.removeprefix("SIG")]
        except KeyError:
            return None
    if number in _TAKEN:
        means = _TAKEN[signal.Signals(number)]
        raise UsageError(
            f"no snapshot can be taken on {signal_name(number)}, which {means}: "
            "use another signal, USR1 for example"
        )
    return int(number)
