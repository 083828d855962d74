# SPDX-License-Identifier: MIT
"""The verbs of triggers."""

from __future__ import annotations

from typing import Protocol

from sessiond.access import Access
from sessiond.actions import Listeners
from sessiond.clients import Client, Handler
from sessiond.requests import check_event, typed
from sessiond.triggers import Trigger, Triggers
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import (
    AddTrigger,
    Done,
    Listen,
    ListTriggers,
    Message,
    RemoveTrigger,
)
from ustconsumer.protocol.control import Triggers as TriggersReply

__all__ = ["TriggerHost", "TriggerVerbs"]


class TriggerHost(Protocol):
    """What the verbs of triggers need of the daemon."""

    access: Access
    triggers: Triggers
    listeners: Listeners

    async def settle_trigger(self, trigger: Trigger) -> list[str]:
        """Have the applications follow; return those that did not, in a line."""


class TriggerVerbs:
    """Carries out requests about triggers."""

    def __init__(self, host: TriggerHost) -> None:
        self._host = host

    def handlers(self) -> dict[type[Message], Handler]:
        """Return the handler of each request, by its type."""
        return {
            AddTrigger: typed(AddTrigger, self.add),
            RemoveTrigger: typed(RemoveTrigger, self.remove),
            ListTriggers: typed(ListTriggers, self.list_triggers),
            Listen: typed(Listen, self.listen),
        }

    async def add(self, client: Client, request: AddTrigger) -> Message:
        check_event(request.event)
        uid = _owner(client, request.uid)
        triggers = self._host.triggers
        trigger = Trigger(
            request.name or triggers.new_name(uid),
            uid,
            self._host.access.is_tracer(uid),
            request.event,
            request.captures,
            request.actions,
        )
        triggers.add(trigger)
        for line in await self._host.settle_trigger(trigger):
            trigger.problem(line)
        return TriggersReply(triggers=[trigger.info()])

    async def remove(self, client: Client, request: RemoveTrigger) -> Message:
        trigger = self._host.triggers.remove(request.name, _owner(client, request.uid))
        return Done(warnings=await self._host.settle_trigger(trigger))

    async def list_triggers(self, client: Client, request: ListTriggers) -> Message:
        may_manage = self._host.access.may_manage
        return TriggersReply(
            triggers=[
                trigger.info()
                for trigger in self._host.triggers
                if may_manage(client.peer.uid, trigger.uid)
            ]
        )

    async def listen(self, client: Client, request: Listen) -> Message:
        self._host.listeners.add(client, request.triggers)
        return Done()


def _owner(client: Client, uid: int) -> int:
    """Return whose trigger is meant; only root may mean another's."""
    if uid in (-1, client.peer.uid):
        return client.peer.uid
    if client.peer.uid == 0 and uid > 0:
        return uid
    raise CommandError(f"uid {client.peer.uid} may not have triggers of uid {uid}", "permission")
