# SPDX-License-Identifier: MIT
"""The verbs that change a session while it records."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sessiond.clients import Client, Handler
from sessiond.host import Host, Sessions
from sessiond.registry import Channel, Session
from sessiond.requests import typed
from sessiond.traces import check_options
from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.control import (
    ChannelOptions,
    Done,
    Message,
    RegenerateMetadata,
    RegenerateStatedump,
    SetOptions,
)

__all__ = ["LiveVerbs"]

#: Attributes that can change while programs have the buffers.
_LIVE = ("switch_timer_us", "read_timer_us", "monitor_timer_us")
#: Why others cannot.
_FIXED = {
    "subbuf_size": "the size of the buffers that programs have mapped",
    "num_subbuf": "the size of the buffers that programs have mapped",
    "mode": "how programs write the buffers that they have",
    "buffers": "what programs share",
    "blocking_timeout_us": "what programs were told with their buffers",
}
_DEFAULT_REASON = "what its consumer has begun to write by"


class LiveVerbs:
    """Carries out requests about sessions that record.

    Parameters
    ----------
    host : Host
        The daemon.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._sessions = Sessions(host)

    def handlers(self) -> dict[type[Message], Handler]:
        """Return the handler of each request, by its type."""
        return {
            RegenerateMetadata: typed(RegenerateMetadata, self.regenerate_metadata),
            RegenerateStatedump: typed(RegenerateStatedump, self.regenerate_statedump),
            SetOptions: typed(SetOptions, self.set_options),
        }

    async def regenerate_metadata(self, client: Client, request: RegenerateMetadata) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            # As with LTTng: viewers have read it already, traces of ended processes are closed.
            if session.destination.live_us:
                raise CommandError(f"session {session.name} is live: its viewers have its metadata")
            if session.state not in ("active", "paused"):
                raise _not_started(session)
            if session.buffers == "pid":
                raise CommandError(
                    f"session {session.name} has buffers per process: the metadata of those that "
                    "have ended is complete"
                )
            try:
                for trace in self._host.recording(session).traces.values():
                    trace.metadata.regenerate()
            except OSError as error:
                raise CommandError(f"cannot write the metadata file: {error.strerror}") from None
            return Done()

    async def regenerate_statedump(self, client: Client, request: RegenerateStatedump) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            if session.state != "active":
                raise _not_started(session)
            session.statedumps += 1
            return Done(warnings=await self._host.settle(session))

    async def set_options(self, client: Client, request: SetOptions) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            if not session.channels:
                raise CommandError(f"session {session.name} has no channel", "no-such-channel")
            channels = [session.channel(request.channel)] if request.channel else session.channels
            changed = {channel: _changed(channel, request.options) for channel in channels}
            if session.started:
                for channel, options in changed.items():
                    _check_live(session, channel, options)
            _check_buffers(session, changed)
            # All or none: nothing fails any more.
            for channel, options in changed.items():
                channel.options = options
                self._host.recording(session).set_timers(channel)
            return Done()


def _changed(channel: Channel, options: Mapping[str, int | str]) -> ChannelOptions:
    """Return a channel's attributes with some of them changed; `UsageError` if they cannot be."""
    before = msgspec.structs.asdict(channel.options)
    for name in options:
        if name not in before:
            raise UsageError(f"a channel has no attribute {name!r}: it has {', '.join(before)}")
    try:
        changed = msgspec.convert({**before, **options}, ChannelOptions)
    except msgspec.ValidationError as error:
        raise UsageError(f"attributes of channel {channel.name}: {error}") from None
    check_options(changed)
    return changed


def _check_live(session: Session, channel: Channel, options: ChannelOptions) -> None:
    """Raise `CommandError` unless a channel that programs may have can get these attributes."""
    before, after = channel.options, options
    reason = ""
    for name, value in msgspec.structs.asdict(after).items():
        if name not in _LIVE and value != getattr(before, name):
            reason = f"{name} is {_FIXED.get(name, _DEFAULT_REASON)}"
    if bool(after.read_timer_us) != bool(before.read_timer_us):
        reason = (
            "whether there is a read timer is fixed in the buffers that programs write: it says "
            "whether they wake up the consumer"
        )
    if reason:
        raise CommandError(
            f"session {session.name} was started before, channel {channel.name} keeps what it "
            f"has: {reason}; destroy the session and create it with other attributes"
        )


def _check_buffers(session: Session, changed: Mapping[Channel, ChannelOptions]) -> None:
    kinds = {changed.get(channel, channel.options).buffers for channel in session.channels}
    if len(kinds) > 1:
        raise CommandError(
            f"session {session.name} has buffers per {session.buffers}: all its channels do; "
            "leave out the channel to change all of them"
        )


def _not_started(session: Session) -> CommandError:
    state = "paused" if session.state == "paused" else "not started"
    return CommandError(f"session {session.name} is {state}: start it first")
