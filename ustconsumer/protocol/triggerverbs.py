# SPDX-License-Identifier: MIT
"""Control protocol: triggers and what they tell."""

from __future__ import annotations

from typing import Any

import msgspec

from ustconsumer.protocol.messages import Message
from ustconsumer.protocol.model import EventInfo
from ustconsumer.protocol.snapshotverbs import SnapshotOutput

__all__ = [
    "MESSAGES",
    "AddTrigger",
    "ListTriggers",
    "Listen",
    "Notification",
    "RemoveTrigger",
    "TriggerAction",
    "TriggerInfo",
    "Triggers",
]


class TriggerAction(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What happens when a trigger's condition is met."""

    #: "notify", "snapshot", "start" or "stop"
    kind: str
    #: of the last three
    session: str = ""
    #: of a snapshot
    output: SnapshotOutput | None = None
    #: "every": each Nth time; "once-after": the Nth time only; empty: always
    rate: str = ""
    rate_count: int = 0
    #: times it could not be done
    failed: int = 0


class TriggerInfo(msgspec.Struct, kw_only=True):
    """A trigger: its condition is an event that matches."""

    name: str
    #: whose it is; events are those that a session of this user could record
    uid: int
    event: EventInfo
    #: expressions, see `ustconsumer.client.capture`
    captures: list[str]
    actions: list[TriggerAction]
    #: times its condition was met
    hits: int = 0
    #: notifications that programs could not deliver or that made no sense
    lost: int = 0
    #: why something is not done, one line each
    problems: list[str] = msgspec.field(default_factory=list)


class AddTrigger(Message, tag="add-trigger", kw_only=True):
    """Replied to with `Triggers`, the new one alone, when programs that answer have it."""

    #: empty: the registry makes one
    name: str = ""
    event: EventInfo
    captures: list[str] = msgspec.field(default_factory=list)
    actions: list[TriggerAction]
    #: whose it is; -1: the peer's. Root may say another.
    uid: int = -1


class RemoveTrigger(Message, tag="remove-trigger", kw_only=True):
    name: str
    uid: int = -1


class ListTriggers(Message, tag="list-triggers", kw_only=True):
    """All that the peer may see."""


class Triggers(Message, tag="triggers", kw_only=True):
    triggers: list[TriggerInfo]


class Listen(Message, tag="listen", kw_only=True):
    """Have notifications pushed to this connection, from the reply (`Done`) on."""

    #: names; empty: of every trigger of the peer, also of those added later
    triggers: list[str] = msgspec.field(default_factory=list)


class Notification(Message, tag="notification", kw_only=True):
    """Push: a trigger with a "notify" action fired."""

    trigger: str
    #: of the program, 0 if it is not known
    pid: int
    #: wall-clock time at which the registry noticed, nanoseconds
    time: int
    #: one value each: number, text, list, None if the event has no such field;
    #: an enumeration is a map with its number as "value"
    captures: list[Any] = msgspec.field(default_factory=list)
    #: notifications before this one that the peer did not take in time
    missed: int = 0


#: Those of this module that travel.
MESSAGES: tuple[type[Message], ...] = (
    AddTrigger,
    RemoveTrigger,
    ListTriggers,
    Listen,
    Triggers,
    Notification,
)
