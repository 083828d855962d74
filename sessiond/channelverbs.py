# SPDX-License-Identifier: MIT
"""The verbs of channels: rules, contexts, channels themselves."""

from __future__ import annotations

from sessiond.clients import Client, Handler
from sessiond.host import Host, Sessions
from sessiond.names import check_channel_name
from sessiond.requests import check_event, typed
from sessiond.traces import check_options
from ustconsumer.errors import UsageError
from ustconsumer.protocol.application import CONTEXTS
from ustconsumer.protocol.control import AddContext, Done, EnableChannel, EnableEvent, Message

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
            EnableEvent: typed(EnableEvent, self.enable_event),
            AddContext: typed(AddContext, self.add_context),
        }

    async def enable_channel(self, client: Client, request: EnableChannel) -> Message:
        check_channel_name(request.channel)
        check_options(request.options)
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            session.add_channel(request.channel, request.options)
            return Done()

    async def enable_event(self, client: Client, request: EnableEvent) -> Message:
        check_event(request.event)
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            channel = session.pick_channel(request.channel)
            session.add_rule(channel, request.event)
            # Applications know of active sessions only.
            active = session.state == "active"
            return Done(warnings=await self._host.settle(session) if active else [])

    async def add_context(self, client: Client, request: AddContext) -> Message:
        for name in request.contexts:
            if name not in CONTEXTS:
                raise UsageError(f"unknown context {name!r}: use one of {', '.join(CONTEXTS)}")
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            session.add_contexts(request.channel, request.contexts)
            return Done()
