# SPDX-License-Identifier: MIT
"""The verbs that change a session while it records."""

from __future__ import annotations

from sessiond.clients import Client, Handler
from sessiond.host import Host, Sessions
from sessiond.registry import Session
from sessiond.requests import typed
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import Done, Message, RegenerateMetadata, RegenerateStatedump

__all__ = ["LiveVerbs"]


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


def _not_started(session: Session) -> CommandError:
    state = "paused" if session.state == "paused" else "not started"
    return CommandError(f"session {session.name} is {state}: start it first")
