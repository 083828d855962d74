# SPDX-License-Identifier: MIT
"""Event rules: which tracepoints a registry wants, and which of their events."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ustconsumer.tracer.objects import Node
from ustconsumer.tracer.operations import starred

if TYPE_CHECKING:
    from ustconsumer.tracer.bytecode import Bytecode
    from ustconsumer.tracer.describe import Described

__all__ = ["Filter", "Rule", "glob", "is_glob", "passes"]

_LEVEL_RANGE, _LEVEL_SINGLE = 1, 2
#: The least severe level there is.
_LEVEL_DEBUG = 14

#: What native code calls with an event's values.
Evaluate = Callable[[tuple[object, ...]], object]


def is_glob(pattern: str) -> bool:
    """Return whether a pattern has a ``*`` that no backslash escapes."""
    return len(_pieces(pattern)) > 1


def glob(pattern: str, name: str) -> bool:
    """Return whether a name matches: ``*`` is any run of characters, ``\\`` escapes one."""
    return starred(_pieces(pattern), name)


def _pieces(pattern: str) -> list[str]:
    """Return what is between the stars, without backslashes."""
    pieces = [""]
    characters = iter(pattern)
    for character in characters:
        if character == "*":
            pieces.append("")
        else:
            # A backslash at the very end stands for nothing.
            pieces[-1] += next(characters, "") if character == "\\" else character
    return pieces


class Filter:
    """A filter, compiled for one tracepoint after the other.

    ``bytecode`` None is one that made no sense: it rejects, and nobody is told.
    """

    def __init__(self, bytecode: Bytecode | None):
        self._bytecode = bytecode

    def evaluate(self, declared: Described) -> Evaluate:
        """Return what tells whether an event of a tracepoint passes."""
        from ustconsumer.tracer import contexts
        from ustconsumer.tracer.compile import LinkError, filter_of

        if self._bytecode is None:
            return _reject
        try:
            return filter_of(self._bytecode, declared.fields, contexts)
        except LinkError:
            return _reject


def passes(filters: tuple[Evaluate, ...] | None, values: tuple[object, ...]) -> bool:
    """Return whether an event passes one of the filters; None are no filters.

    What native code does for events that are recorded.
    """
    if filters is None:
        return True
    for accepts in filters:
        try:
            if accepts(values):
                return True
        except Exception:  # noqa: S112 - an error rejects, as it does natively
            continue
    return False


def _reject(values: tuple[object, ...]) -> bool:
    return False


class Rule(Node):
    """A pattern of names and levels, with exclusions and filters; disabled when new.

    Parameters
    ----------
    values : dict
        ``name loglevel_type loglevel`` as in the rows of an event command.
    """

    def __init__(self, values: dict[str, Any]):
        self.pattern: str = values["name"]
        self.enabled = False
        self._glob = is_glob(self.pattern)
        self._level_type: int = values["loglevel_type"]
        self._level: int = values["loglevel"]
        self._excluded: list[str] = []
        self._filters: list[Filter] = []
        # Compiled once per tracepoint and filter: a rule is asked anew after every change.
        self._compiled: dict[tuple[str, int], Evaluate] = {}

    def exclude(self, names: tuple[str, ...]) -> None:
        """Leave out names; only a rule whose own name has a star heeds them."""
        self._excluded += [name for name in names if name]

    def add_filter(self, filter_: Filter) -> None:
        """Let events pass that it accepts; of several filters one is enough."""
        self._filters.append(filter_)

    def matches(self, name: str, level: int) -> bool:
        """Return whether a tracepoint is meant."""
        if not self._level_matches(level):
            return False
        if not self._glob:
            return name == self.pattern
        return glob(self.pattern, name) and not any(glob(out, name) for out in self._excluded)

    def _level_matches(self, level: int) -> bool:
        if self._level_type == _LEVEL_RANGE and self._level != -1:
            return level <= self._level
        if self._level_type == _LEVEL_SINGLE and self._level != -1:
            return level == self._level
        return level <= _LEVEL_DEBUG

    def filters(self, declared: Described) -> tuple[Evaluate, ...] | None:
        """Return what an event of a tracepoint must pass one of, None if it need not."""
        if not self._filters:
            return None
        return tuple(self._evaluate(declared, number) for number in range(len(self._filters)))

    def _evaluate(self, declared: Described, number: int) -> Evaluate:
        key = (declared.name, number)
        if key not in self._compiled:
            self._compiled[key] = self._filters[number].evaluate(declared)
        return self._compiled[key]

    def forget(self, declared: Described) -> None:
        """Forget what was compiled for a tracepoint that is no more."""
        self._compiled = {
            key: evaluate for key, evaluate in self._compiled.items() if key[0] != declared.name
        }
