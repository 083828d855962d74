# SPDX-License-Identifier: MIT
"""What the registry knows: sessions, their channels and rules. Pure state, no I/O.

Changed on the loop only. Every change raises ``revision``; an application whose state
was compared with a revision and found equal is settled for it.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from sessiond.trackers import Program, Trackers
from ustconsumer.client.filter import FilterProgram, compile_filter
from ustconsumer.errors import CommandError
from ustconsumer.protocol.agent import PYTHON, PYTHON_CHANNEL, traced_as
from ustconsumer.protocol.control import (
    ChannelInfo,
    ChannelLoad,
    ChannelOptions,
    Destination,
    EventInfo,
)

__all__ = ["TRANSITIONS", "Channel", "Registry", "Rule", "Session"]

#: Life of a recording session: state -> verb -> next state.
TRANSITIONS: dict[str, dict[str, str]] = {
    "configured": {"start": "active", "destroy": "destroyed"},
    "active": {"pause": "paused", "stop": "inactive", "destroy": "destroyed"},
    "paused": {"start": "active", "stop": "inactive", "destroy": "destroyed"},
    "inactive": {"start": "active", "destroy": "destroyed"},
    "destroyed": {},
}
#: Verbs that change nothing, in LTTng's words: a warning there.
_IDLE = {
    ("active", "start"): "Tracing already started",
    ("paused", "pause"): "Tracing already paused",
    ("configured", "stop"): "Tracing already stopped",
    ("inactive", "stop"): "Tracing already stopped",
}
_DEFAULT_CHANNEL = "channel0"


@dataclass(eq=False)
class Rule:
    """An event rule of a channel; ``info`` is what the user asked for."""

    id: int
    info: EventInfo

    @property
    def event(self) -> EventInfo:
        """What applications are asked to record."""
        return traced_as(self.info) if self.info.domain == PYTHON else self.info

    @cached_property
    def program(self) -> FilterProgram:
        """The filter, which there is, as applications get it."""
        return compile_filter(self.event.filter)


@dataclass(eq=False)
class Channel:
    """A channel; its id is the stream class id in the trace, in order of creation."""

    id: int
    name: str
    options: ChannelOptions
    contexts: list[str] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    enabled: bool = True

    def info(self, discarded: int, load: ChannelLoad | None = None) -> ChannelInfo:
        return ChannelInfo(
            name=self.name,
            enabled=self.enabled,
            options=self.options,
            contexts=list(self.contexts),
            events=[rule.info for rule in self.rules],
            discarded=discarded,
            load=load,
        )


def _same_files(name: str, options: ChannelOptions, other: str, files: ChannelOptions) -> bool:
    """Whether file N of a stream of ``name`` would be that of CPU N of ``other``."""
    first, _, cpu = other.rpartition("_")
    numbered = bool(options.tracefile_size) and not files.tracefile_size
    return numbered and first == name and cpu.isdecimal()


@dataclass(eq=False)
class Session:
    """A recording session, from ``create`` to the end of ``destroy``."""

    name: str
    uid: int
    gid: int
    output: str
    #: where else its packets go, and how
    destination: Destination = field(default_factory=Destination)
    #: the owner is in the tracing group of a global registry: every program joins
    owner_is_tracer: bool = False
    #: nothing is written until a snapshot is asked for
    snapshot: bool = False
    #: directory in which the buffers are files; empty: memory without a name
    shm_path: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: datetime.datetime = field(
        default_factory=lambda: datetime.datetime.now().astimezone().replace(microsecond=0)
    )
    state: str = "configured"
    #: from the first start on, channels and contexts are fixed: applications refuse more
    started: bool = False
    channels: list[Channel] = field(default_factory=list)
    #: which programs it records
    trackers: Trackers = field(default_factory=Trackers)
    #: how often programs were asked to record their state again
    statedumps: int = 0
    #: started again after a pause, and its buffers take nothing yet
    resuming: bool = False
    #: programs joined meanwhile: their description of themselves was not recorded
    undescribed: bool = False
    #: applications that ever got buffers, by pid, in that order
    processes: dict[int, str] = field(default_factory=dict)

    def step(self, verb: str) -> None:
        """Go to the state that ``verb`` leads to.

        Raises
        ------
        CommandError
            It leads nowhere from here.
        """
        following = TRANSITIONS[self.state].get(verb)
        if following is None:
            idle = _IDLE.get((self.state, verb))
            if idle is not None:
                raise CommandError(f"{idle} for session {self.name}", "already")
            raise CommandError(f"session {self.name} is {self.state}")
        self.state = following
        self.started = self.started or following == "active"

    @property
    def consumer_kind(self) -> str:
        """Which consumer takes its packets where they are to go."""
        return "network" if self.destination.url else "disk"

    @property
    def buffers(self) -> str:
        """Who shares buffers: "uid" or "pid", the same in all channels."""
        return self.channels[0].options.buffers if self.channels else "uid"

    def channel(self, name: str) -> Channel:
        for channel in self.channels:
            if channel.name == name:
                return channel
        raise CommandError(f"session {self.name} has no channel {name}", "no-such-channel")

    def untracked(self, program: Program) -> str:
        """Return why its trackers leave a program out, empty if they do not."""
        excluding = self.trackers.excluding(program)
        return f"left out by the {' and the '.join(excluding)}" if excluding else ""

    def enable_channel(self, name: str, options: ChannelOptions) -> Channel:
        """Enable a channel that was disabled, with the attributes it has; else add one.

        Raises
        ------
        CommandError
            As `add_channel`.
        """
        for channel in self.channels:
            if channel.name == name and not channel.enabled:
                channel.enabled = True
                return channel
        return self.add_channel(name, options)

    def add_channel(self, name: str, options: ChannelOptions) -> Channel:
        """Add a channel.

        Raises
        ------
        CommandError
            The name is taken, the session was started before, or its other channels have
            buffers of another kind.
        """
        if any(channel.name == name for channel in self.channels):
            raise CommandError(
                f"session {self.name} has a channel {name} already",
                "channel-exists",
            )
        self._check_open("a channel")
        if self.channels and options.buffers != self.buffers:
            raise CommandError(
                f"session {self.name} has buffers per {self.buffers}: all its channels do"
            )
        for other, files in ((c.name, c.options) for c in self.channels):
            if _same_files(name, options, other, files) or _same_files(other, files, name, options):
                raise CommandError(
                    f"channels {other} and {name} would have files of the same names: "
                    "choose another name"
                )
        self.channels.append(Channel(len(self.channels), name, options))
        return self.channels[-1]

    def pick_channel(self, name: str) -> Channel:
        """Return the named channel; for an empty name the only one, or a new default one.

        Raises
        ------
        CommandError
            There is no such channel, or there are several to choose from.
        """
        if name:
            return self.channel(name)
        channels = [each for each in self.channels if each.name != PYTHON_CHANNEL]
        if not channels:
            mode = "overwrite" if self.snapshot else "discard"
            options = ChannelOptions(mode=mode, buffers=self.buffers)
            return self.add_channel(_DEFAULT_CHANNEL, options)
        if len(channels) > 1:
            names = ", ".join(channel.name for channel in channels)
            raise CommandError(f"session {self.name} has several channels ({names}): name one")
        return channels[0]

    def add_rule(self, channel: Channel, info: EventInfo) -> None:
        """Add an event rule, or enable the equal one that was disabled."""
        for rule in channel.rules:
            if _key(rule.info) == _key(info):
                if rule.info.enabled:
                    raise CommandError(
                        f"event {info.pattern} is enabled already in channel {channel.name}"
                    )
                rule.info.enabled = True
                return
        channel.rules.append(Rule(len(channel.rules), info))

    def pick_python_channel(self, name: str) -> Channel:
        """Return the channel of loggers, which has one name; made where there is none.

        Raises
        ------
        CommandError
            It cannot be added, or another one is named.
        """
        if name not in ("", PYTHON_CHANNEL):
            raise CommandError(
                f"what loggers say is recorded in channel {PYTHON_CHANNEL}: leave out -c"
            )
        for channel in self.channels:
            if channel.name == PYTHON_CHANNEL:
                return channel
        mode = "overwrite" if self.snapshot else "discard"
        buffers = self.buffers
        return self.add_channel(PYTHON_CHANNEL, ChannelOptions(mode=mode, buffers=buffers))

    def disable_rules(self, channel: Channel, patterns: list[str], domain: str = "") -> None:
        """Disable the rules with these patterns, whatever their filters; without any, all.

        Raises
        ------
        CommandError
            There is no rule with such a pattern: none was disabled.
        """
        rules = [rule for rule in channel.rules if rule.info.domain == domain]
        known = {rule.info.pattern for rule in rules}
        for pattern in patterns:
            if pattern not in known:
                raise CommandError(
                    f"channel {channel.name} of session {self.name} has no event {pattern}: "
                    f"`drtrace list {self.name}` shows what it has",
                    "no-such-event",
                )
        for rule in rules:
            if not patterns or rule.info.pattern in patterns:
                rule.info.enabled = False

    def add_contexts(self, name: str, contexts: list[str]) -> None:
        """Add contexts to a channel, for an empty name to every channel."""
        self._check_open("a context")
        channels = [self.channel(name)] if name else self.channels or [self.pick_channel("")]
        for channel in channels:
            for context in contexts:
                if context in channel.contexts:
                    raise CommandError(f"channel {channel.name} has context {context} already")
        for channel in channels:
            channel.contexts += dict.fromkeys(contexts)

    def _check_open(self, what: str) -> None:
        if self.started:
            raise CommandError(
                f"session {self.name} was started before: {what} must be added before its "
                "first start"
            )


def _key(info: EventInfo) -> tuple[object, ...]:
    exclusions = tuple(sorted(info.exclusions))
    levels = info.loglevel_type, info.loglevel
    return info.domain, info.pattern, *levels, exclusions, info.filter


class Registry:
    """Every session that is not destroyed; each user has names of their own."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[int, str], Session] = {}
        self.revision = 0

    def changed(self) -> int:
        """Note a change; return the new revision."""
        self.revision += 1
        return self.revision

    def add(self, session: Session) -> None:
        """Add a session; raises `CommandError` if its user has one of that name."""
        if (session.uid, session.name) in self._sessions:
            raise CommandError(
                f"session {session.name} exists already: destroy it or choose another name",
                "session-exists",
            )
        self._sessions[session.uid, session.name] = session

    def named(self, name: str, uid: int) -> list[Session]:
        """Return the sessions a user may mean: the own one, else all with that name or id."""
        own = self._sessions.get((uid, name))
        if own is not None:
            return [own]
        return [session for session in self if name in (session.name, session.id)]

    def remove(self, session: Session) -> None:
        """Forget a destroyed session; its name is free again."""
        if self._sessions.get((session.uid, session.name)) is session:
            del self._sessions[session.uid, session.name]

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._sessions.values()))
