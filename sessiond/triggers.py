# SPDX-License-Identifier: MIT
"""Triggers: what happens when an event matches. Pure state, no I/O."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cached_property

import msgspec

from ustconsumer.client.capture import compile_capture
from ustconsumer.client.filter import FilterProgram, compile_filter
from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.control import EventInfo, TriggerAction, TriggerInfo

__all__ = ["Action", "Trigger", "Triggers"]

_KINDS = ("notify", "snapshot", "start", "stop")
_RATES = ("", "every", "once-after")
#: Bounds of one trigger, and of one uid: each costs every application something.
_MAX_ACTIONS = 64
_MAX_CAPTURES = 64
_MAX_TRIGGERS = 1024
_MAX_NAME = 255
#: Lines that are kept of what went wrong.
_MAX_PROBLEMS = 8


class Action:
    """One action, and how often its turn came."""

    def __init__(self, info: TriggerAction) -> None:
        self.info = info
        self._turns = 0

    def due(self) -> bool:
        """Count that the condition was met; return whether that is a reason to act."""
        self._turns += 1
        if self.info.rate == "every":
            return self._turns % self.info.rate_count == 0
        if self.info.rate == "once-after":
            return self._turns == self.info.rate_count
        return True


class Trigger:
    """A condition, an event rule, and the actions that follow.

    Parameters
    ----------
    name : str
    uid : int
        Whose it is.
    owner_is_tracer : bool
        The owner is in the tracing group of a global registry.
    event : EventInfo
    captures : list of str
    actions : list of TriggerAction

    Raises
    ------
    UsageError
        An action or a capture makes no sense.
    """

    def __init__(
        self,
        name: str,
        uid: int,
        owner_is_tracer: bool,
        event: EventInfo,
        captures: list[str],
        actions: list[TriggerAction],
    ) -> None:
        if len(captures) > _MAX_CAPTURES:
            raise UsageError(f"{len(captures)} captures: at most {_MAX_CAPTURES}")
        _check_actions(actions)
        self.name = name
        self.uid = uid
        self.owner_is_tracer = owner_is_tracer
        self.event = event
        self.captures = captures
        #: What applications evaluate for each capture.
        self.capture_programs = [compile_capture(text) for text in captures]
        self.actions = [Action(msgspec.structs.replace(info, failed=0)) for info in actions]
        self.hits = 0
        self.lost = 0
        self.removed = False
        self._problems: list[str] = []

    @cached_property
    def filter_program(self) -> FilterProgram:
        """The filter, which there is, as applications get it."""
        return compile_filter(self.event.filter)

    def problem(self, line: str) -> None:
        """Note what went wrong, the latest last."""
        if line in self._problems:
            self._problems.remove(line)
        self._problems = [*self._problems, line][-_MAX_PROBLEMS:]

    def info(self) -> TriggerInfo:
        return TriggerInfo(
            name=self.name,
            uid=self.uid,
            event=self.event,
            captures=self.captures,
            actions=[action.info for action in self.actions],
            hits=self.hits,
            lost=self.lost,
            problems=list(self._problems),
        )


def _check_actions(actions: list[TriggerAction]) -> None:
    if not actions:
        raise UsageError("a trigger needs an action: notify, snapshot, start or stop")
    if len(actions) > _MAX_ACTIONS:
        raise UsageError(f"{len(actions)} actions: at most {_MAX_ACTIONS}")
    for action in actions:
        if action.kind not in _KINDS:
            raise UsageError(f"unknown action {action.kind!r}: use one of {', '.join(_KINDS)}")
        if action.kind != "notify" and not action.session:
            raise UsageError(f"action {action.kind} needs a session")
        if action.rate not in _RATES:
            raise UsageError(f"unknown rate policy {action.rate!r}: use every or once-after")
        if action.rate and action.rate_count < 1:
            raise UsageError(f"rate policy {action.rate} of {action.rate_count}: at least 1")


class Triggers:
    """Every trigger; each user has names of their own."""

    def __init__(self) -> None:
        self._triggers: dict[tuple[int, str], Trigger] = {}
        self._numbers = itertools.count()

    def new_name(self, uid: int) -> str:
        """Return a name that a user has not given to any trigger; as LTTng, none comes twice."""
        return next(
            name
            for name in (f"trigger{number}" for number in self._numbers)
            if (uid, name) not in self._triggers
        )

    def add(self, trigger: Trigger) -> None:
        """Add a trigger; raises `CommandError` if its user has one of that name, or too many."""
        name = trigger.name
        if not name or len(name) > _MAX_NAME or not name.isprintable():
            raise UsageError(f"trigger name {name!r}: 1 to {_MAX_NAME} printable characters")
        if (trigger.uid, name) in self._triggers:
            raise CommandError(
                f"trigger {name} exists already: remove it or choose another name",
                "trigger-exists",
            )
        if sum(1 for uid, _ in self._triggers if uid == trigger.uid) >= _MAX_TRIGGERS:
            raise CommandError(f"uid {trigger.uid} has {_MAX_TRIGGERS} triggers, the most it may")
        self._triggers[trigger.uid, name] = trigger

    def remove(self, name: str, uid: int) -> Trigger:
        """Forget a trigger; raises `CommandError` if there is none of that name."""
        trigger = self._triggers.pop((uid, name), None)
        if trigger is None:
            raise CommandError(f"trigger {name!r} of uid {uid} not found", "no-such-trigger")
        trigger.removed = True
        return trigger

    def __iter__(self) -> Iterator[Trigger]:
        return iter(tuple(self._triggers.values()))
