# SPDX-License-Identifier: MIT
"""Triggers in the words of ``lttng``: options in their order, and what ``list-triggers`` shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ustconsumer.abi.loglevels import LOGLEVELS
from ustconsumer.cli.places import snapshot_place
from ustconsumer.cli.values import names, size, uid
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import (
    EventInfo,
    SnapshotOutput,
    TriggerAction,
    TriggerInfo,
)

__all__ = ["Option", "Wanted", "describe", "trigger_of"]

#: LTTng's words -> ours.
_ACTIONS = {
    "notify": "notify",
    "snapshot-session": "snapshot",
    "start-session": "start",
    "stop-session": "stop",
}
_CONDITION = "event-rule-matches"
_TYPES = ("user", "user:tracepoint")
#: LTTng's words for what is not there.
_OTHER_CONDITIONS = ("session-consumed-size", "buffer-usage-high", "buffer-usage-low")
_OTHER_TYPES = ("kernel", "jul", "log4j", "python")
_OTHER_ACTIONS = ("rotate-session",)
#: LTTng's longer names of log levels.
_PREFIX = "TRACE_"
_OF_RULE = ("--type", "--name", "--exclude-name", "--log-level", "--filter", "--capture")
_OF_SNAPSHOT = ("--name", "--max-size", "--path", "--url")
_RATES = ("every", "once-after")


class Option(NamedTuple):
    """An option with its values, as it stood in the command line."""

    name: str
    values: list[str]


class Wanted(NamedTuple):
    """A trigger as the command line describes it."""

    name: str
    uid: int | None
    event: EventInfo
    captures: list[str]
    actions: list[TriggerAction]


def trigger_of(options: Iterable[Option]) -> Wanted:
    """Return the trigger that options describe, each in the section it stands in.

    Raises
    ------
    UsageError
        One stands where it means nothing, or something is missing.
    """
    reader = _Reader()
    for option in options:
        reader.take(option)
    return reader.trigger()


class _Reader:
    """Takes options; ``--condition`` and ``--action`` begin what the following belong to."""

    def __init__(self) -> None:
        self._name = ""
        self._uid: int | None = None
        self._event: EventInfo | None = None
        self._type = ""
        self._captures: list[str] = []
        self._actions: list[TriggerAction] = []

    def take(self, option: Option) -> None:
        if option.name == "--condition":
            self._begin_condition(option.values[0])
        elif option.name == "--action":
            self._begin_action(option.values)
        elif self._actions:
            self._of_action(option.name, option.values[0])
        elif self._event is not None:
            self._of_rule(self._event, option.name, option.values[0])
        elif option.name == "--name":
            self._name = option.values[0]
        elif option.name == "--owner-uid":
            self._uid = uid(option.values[0])
        else:
            raise UsageError(f"{option.name} belongs to a condition or an action: put it behind")

    def trigger(self) -> Wanted:
        if self._event is None:
            raise UsageError(f"a condition is missing: use --condition {_CONDITION}")
        if not self._type:
            raise UsageError("the event rule needs a type: use --type=user")
        if not self._actions:
            raise UsageError(f"an action is missing: use --action with {_listed(_ACTIONS)}")
        return Wanted(self._name, self._uid, self._event, self._captures, self._actions)

    def _begin_condition(self, name: str) -> None:
        if self._event is not None:
            raise UsageError("a trigger has one condition")
        if name in _OTHER_CONDITIONS:
            raise UsageError(f"condition {name} is not supported: only {_CONDITION} is")
        if name != _CONDITION:
            raise UsageError(f"unknown condition {name!r}: use {_CONDITION}")
        if self._actions:
            raise UsageError("the condition comes before the actions")
        self._event = EventInfo(pattern="*")

    def _begin_action(self, values: list[str]) -> None:
        kind, sessions = values[0], values[1:]
        if kind in _OTHER_ACTIONS:
            raise UsageError(f"action {kind} is not supported: use {_listed(_ACTIONS)}")
        if kind not in _ACTIONS:
            raise UsageError(f"unknown action {kind!r}: use {_listed(_ACTIONS)}")
        if self._event is None:
            raise UsageError(f"a condition is missing: use --condition {_CONDITION}")
        wanted = 0 if kind == "notify" else 1
        if len(sessions) < wanted:
            raise UsageError(f"--action {kind} needs the name of a session behind it")
        if len(sessions) > wanted:
            raise UsageError(f"unexpected argument {sessions[wanted]!r} behind --action {kind}")
        output = SnapshotOutput() if kind == "snapshot-session" else None
        session = sessions[0] if sessions else ""
        self._actions.append(TriggerAction(kind=_ACTIONS[kind], session=session, output=output))

    def _of_rule(self, event: EventInfo, name: str, value: str) -> None:
        if name not in _OF_RULE:
            raise UsageError(f"{name} does not belong to a condition: put it elsewhere")
        if name == "--type":
            if value.partition(":")[0] in _OTHER_TYPES:
                raise UsageError(f"events of {value} are not supported: only user space is")
            if value not in _TYPES:
                raise UsageError(f"unknown type of event rule {value!r}: use user")
            self._type = value
        elif name == "--name":
            event.pattern = value
        elif name == "--exclude-name":
            event.exclusions = [*event.exclusions, *names(value)]
        elif name == "--log-level":
            event.loglevel_type, event.loglevel = _levels(value)
        elif name == "--filter":
            event.filter = value
        else:
            self._captures.append(value)

    def _of_action(self, name: str, value: str) -> None:
        action = self._actions[-1]
        if name == "--rate-policy":
            action.rate, action.rate_count = _rate(value)
            return
        output = action.output
        if output is None or name not in _OF_SNAPSHOT:
            raise UsageError(f"{name} does not belong to --action {_shown_kind(action)}")
        if name == "--name":
            output.name = value
        elif name == "--max-size":
            output.max_size = size(value)
        else:
            output.path = snapshot_place(value, None, None)[0] or ""


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def _levels(text: str) -> tuple[int, int]:
    """Return the relation and the level of ``INFO``, ``INFO..``, ``INFO..EMERG`` or ``..``."""
    least, separator, most = text.partition("..")
    if not separator:
        return 2, _level(text, text)
    if (most and not least) or most.removeprefix(_PREFIX) not in ("", LOGLEVELS[0]):
        raise UsageError(
            f"log levels {text!r}: a range goes up to EMERG, from LEVEL as LEVEL.., or is one level"
        )
    return (1, _level(least, text)) if least else (0, -1)


def _level(name: str, text: str) -> int:
    level = name.removeprefix(_PREFIX)
    if level not in LOGLEVELS:
        raise UsageError(f"log levels {text!r}: unknown level {name!r}; use INFO, INFO.. or ..")
    return LOGLEVELS.index(level)


def _rate(text: str) -> tuple[str, int]:
    kind, _, count = text.partition(":")
    if kind not in _RATES:
        raise UsageError(f"unknown rate policy {text!r}: use every:N or once-after:N")
    if not (count.isascii() and count.isdigit() and 0 < int(count) < 1 << 63):
        raise UsageError(f"rate policy {text!r}: a number above 0 is wanted behind {kind}:")
    return kind, int(count)


# -- what is shown -----------------------------------------------------------------------


def describe(trigger: TriggerInfo) -> str:
    """Return a trigger as ``lttng list-triggers`` shows it, and what became of it."""
    lines = [f"- name: {trigger.name}", f"  owner uid: {trigger.uid}"]
    lines += ["  condition: event rule matches", f"    rule: {_rule(trigger.event)}"]
    if trigger.captures:
        lines += ["    captures:", *(f"      - {text}" for text in trigger.captures)]
    lines += ["    errors: none" if not trigger.lost else _lost(trigger.lost), "  actions:"]
    for action in trigger.actions:
        errors = f"failed {action.failed} times" if action.failed else "none"
        lines += [f"    {_action(action)}", f"      errors: {errors}"]
    if trigger.problems:
        lines += ["  errors:", *(f"    {line}" for line in trigger.problems)]
    else:
        lines.append("  errors: none")
    return "\n".join([*lines, f"  hits: {trigger.hits}"])


def _lost(count: int) -> str:
    return f"    errors: {count} notifications could not be read"


def _rule(event: EventInfo) -> str:
    details = ["type: user tracepoint"]
    if event.filter:
        details.append(f"filter: {event.filter}")
    if event.loglevel_type:
        relation = "is" if event.loglevel_type == 2 else "at least"
        details.append(f"log level {relation} {LOGLEVELS[event.loglevel]}")
    if event.exclusions:
        details.append(f"exclusions: {','.join(event.exclusions)}")
    return f"{event.pattern} ({', '.join(details)})"


def _shown_kind(action: TriggerAction) -> str:
    return next(word for word, kind in _ACTIONS.items() if kind == action.kind)


def _action(action: TriggerAction) -> str:
    parts = [action.kind]
    if action.session:
        parts = [f"{action.kind} session `{action.session}`"]
    output = action.output
    if output is not None:
        # The other places are absolute paths.
        word = "path" if output.path.startswith("/") else "url"
        parts += [f"{word}: {output.path}"] if output.path else []
        parts += [f"name: {output.name}"] if output.name else []
        parts += [f"max size: {output.max_size}"] if output.max_size else []
    if action.rate == "every":
        parts.append(f"rate policy: every {action.rate_count} occurrences")
    elif action.rate:
        parts.append(f"rate policy: once after {action.rate_count} occurrences")
    return ", ".join(parts)
