# SPDX-License-Identifier: MIT
"""The verbs of channels: rules, contexts, channels themselves."""

from __future__ import annotations

from sessiond.clients import Client, Handler
from sessiond.host import Host, Sessions
from sessiond.names import check_channel_name
from sessiond.registry import Session
from sessiond.requests import check_event, typed
from sessiond.traces import check_options
from ustconsumer.errors import CommandError
from ustconsumer.protocol.agent import PYTHON
from ustconsumer.protocol.contexts import parse_context
from ustconsumer.protocol.control import (
    AddContext,
    DisableChannel,
    DisableEvent,
    Done,
    EnableChannel,
    EnableEvent,
    ListLoggers,
    Loggers,
    Message,
    Track,
)

__all__ = ["ChannelVerbs"]


class ChannelVerbs:
    """Carries out requests about channels, their rules and contexts.

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
            EnableChannel: typed(EnableChannel, self.enable_channel),
            DisableChannel: typed(DisableChannel, self.disable_channel),
            EnableEvent: typed(EnableEvent, self.enable_event),
            DisableEvent: typed(DisableEvent, self.disable_event),
            Track: typed(Track, self.track),
            AddContext: typed(AddContext, self.add_context),
            ListLoggers: typed(ListLoggers, self.list_loggers),
        }

    async def enable_channel(self, client: Client, request: EnableChannel) -> Message:
        check_channel_name(request.channel)
        check_options(request.options)
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            session.enable_channel(request.channel, request.options)
            return Done(warnings=await self._settle(session))

    async def disable_channel(self, client: Client, request: DisableChannel) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            session.channel(request.channel).enabled = False
            return Done(warnings=await self._settle(session))

    async def enable_event(self, client: Client, request: EnableEvent) -> Message:
        check_event(request.event)
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            python = request.event.domain == PYTHON
            pick = session.pick_python_channel if python else session.pick_channel
            session.add_rule(pick(request.channel), request.event)
            return Done(warnings=await self._settle(session))

    async def disable_event(self, client: Client, request: DisableEvent) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            if not session.channels:
                raise CommandError(f"session {session.name} has no channel", "no-such-channel")
            python = request.domain == PYTHON
            pick = session.pick_python_channel if python else session.pick_channel
            session.disable_rules(pick(request.channel), request.patterns, request.domain)
            return Done(warnings=await self._settle(session))

    async def track(self, client: Client, request: Track) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            tracker = session.trackers[request.attribute]
            change = tracker.remove if request.remove else tracker.add
            change(request.value)
            return Done(warnings=await self._settle(session))

    async def add_context(self, client: Client, request: AddContext) -> Message:
        for name in request.contexts:
            parse_context(name)
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            session.add_contexts(request.channel, request.contexts)
            return Done()

    async def list_loggers(self, client: Client, request: ListLoggers) -> Message:
        return Loggers(programs=await self._host.loggers(client.peer.uid))

    async def _settle(self, session: Session) -> list[str]:
        """Have applications follow; they know of active sessions only."""
        return await self._host.settle(session) if session.state == "active" else []
