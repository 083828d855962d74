# SPDX-License-Identifier: MIT
"""Control protocol: requests for sessions, their channels and rules, and programs."""

from __future__ import annotations

import msgspec

from ustconsumer.protocol.messages import Message
from ustconsumer.protocol.model import AppInfo, ChannelOptions, Destination, EventInfo, SessionInfo

__all__ = [
    "MESSAGES",
    "AddContext",
    "Applications",
    "CreateSession",
    "DestroySession",
    "DisableChannel",
    "DisableEvent",
    "EnableChannel",
    "EnableEvent",
    "ListApplications",
    "ListLoggers",
    "ListSessions",
    "Loggers",
    "LoggingProgram",
    "PauseSession",
    "Sessions",
    "SpawnConsumer",
    "StartSession",
    "StopSession",
    "Track",
]


class CreateSession(Message, tag="create", kw_only=True):
    name: str
    #: absolute directory; created by the consumer; empty: none
    output: str
    destination: Destination = Destination()
    #: nothing is written until a snapshot is asked for; channels overwrite by default
    snapshot: bool = False
    #: absolute directory in which the buffers are files; empty: memory without a name
    shm_path: str = ""
    #: environment values that go into the metadata are the registry's business


class DestroySession(Message, tag="destroy", kw_only=True):
    session: str


class EnableChannel(Message, tag="enable-channel", kw_only=True):
    session: str
    channel: str
    options: ChannelOptions


class EnableEvent(Message, tag="enable-event", kw_only=True):
    session: str
    #: empty: the session's only channel, or a new "channel0"
    channel: str = ""
    event: EventInfo


class DisableEvent(Message, tag="disable-event", kw_only=True):
    """Record events of these rules no more, until `EnableEvent` has them again."""

    session: str
    #: empty: the session's only channel
    channel: str = ""
    #: as they were enabled, whatever their filters and levels; empty: all rules
    patterns: list[str] = msgspec.field(default_factory=list)
    #: of the rules, as in `EventInfo`
    domain: str = ""


class DisableChannel(Message, tag="disable-channel", kw_only=True):
    """Record nothing in a channel until `EnableChannel` names it again."""

    session: str
    channel: str


class Track(Message, tag="track", kw_only=True):
    """Change which programs are recorded.

    Of each attribute everything is included until a value is: then only what was.
    """

    session: str
    #: "vpid", "vuid", "vgid" or "name"
    attribute: str
    #: a number, a user's or group's name, a pattern of program names; empty: everything
    value: str = ""
    #: leave it out instead
    remove: bool = False


class AddContext(Message, tag="add-context", kw_only=True):
    session: str
    #: empty: every channel (a new "channel0" if there is none)
    channel: str = ""
    contexts: list[str]


class ListLoggers(Message, tag="list-loggers", kw_only=True):
    """Ask running programs for their loggers; replied to with `Loggers`."""


class LoggingProgram(msgspec.Struct, kw_only=True):
    """A program with an agent of Python's logging."""

    pid: int
    uid: int
    #: of its executable
    name: str
    loggers: list[str]


class Loggers(Message, tag="loggers", kw_only=True):
    programs: list[LoggingProgram]


class StartSession(Message, tag="start", kw_only=True):
    """Replied to when every application that answers in time records."""

    session: str


class StopSession(Message, tag="stop", kw_only=True):
    """Replied to when the trace in the consumer's sink is complete."""

    session: str


class PauseSession(Message, tag="pause", kw_only=True):
    """Record nothing until the next `StartSession`; buffers, consumer and trace stay as they are.

    Replied to when no application is in the middle of an event.
    """

    session: str


class ListSessions(Message, tag="list", kw_only=True):
    #: empty: all that the peer may see
    session: str = ""


class Sessions(Message, tag="sessions", kw_only=True):
    sessions: list[SessionInfo]


class ListApplications(Message, tag="apps", kw_only=True):
    pass


class Applications(Message, tag="applications", kw_only=True):
    applications: list[AppInfo]


class SpawnConsumer(Message, tag="spawn-consumer", kw_only=True):
    """Have the spawner start a consumer; replied to when it has attached."""

    session: str
    #: empty: "network" if the session has a relay's URL, else "disk"
    kind: str = ""
    #: most threads that move packets; 0: the consumer's default
    workers: int = 0
    #: write past the page cache where sub-buffers are large enough
    direct: bool = False


#: Those of this module that travel.
MESSAGES: tuple[type[Message], ...] = (
    CreateSession,
    DestroySession,
    EnableChannel,
    DisableChannel,
    EnableEvent,
    DisableEvent,
    Track,
    AddContext,
    StartSession,
    StopSession,
    PauseSession,
    ListSessions,
    ListApplications,
    ListLoggers,
    Loggers,
    SpawnConsumer,
    Sessions,
    Applications,
)
