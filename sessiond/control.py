# SPDX-License-Identifier: MIT
"""The verbs of the control protocol: one handler each."""

from __future__ import annotations

from collections.abc import Awaitable

from sessiond.clients import Client, Handler
from sessiond.destinations import check_destination
from sessiond.host import Host, Sessions
from sessiond.names import check_output, check_session_name
from sessiond.quota import QuotaError
from sessiond.registry import Session
from sessiond.requests import typed
from sessiond.spawner import Program
from sessiond.unregistered import unregistered
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import (
    Applications,
    CreateSession,
    DestroySession,
    Done,
    ListApplications,
    ListSessions,
    Message,
    PauseSession,
    Shutdown,
    SnapshotOutput,
    StartSession,
    StopSession,
    TriggerAction,
)
from ustconsumer.protocol.control import Sessions as SessionList

__all__ = ["Control"]

_DRAIN_SECONDS = 10.0
#: States with an open trace.
_RECORDING = ("active", "paused")


class Control:
    """Carries out requests.

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
            CreateSession: typed(CreateSession, self.create),
            DestroySession: typed(DestroySession, self.destroy),
            StartSession: typed(StartSession, self.start),
            PauseSession: typed(PauseSession, self.pause),
            StopSession: typed(StopSession, self.stop),
            ListSessions: typed(ListSessions, self.list_sessions),
            ListApplications: typed(ListApplications, self.list_applications),
            Shutdown: typed(Shutdown, self.shutdown),
        }

    # -- sessions ------------------------------------------------------------------

    async def create(self, client: Client, request: CreateSession) -> Message:
        check_session_name(request.name)
        if request.output or not request.snapshot:
            check_output(request.output)
        check_destination(request)
        peer = client.peer
        session = Session(
            name=request.name,
            uid=peer.uid,
            gid=peer.gid,
            output=request.output,
            destination=request.destination,
            snapshot=request.snapshot,
            shm_path=request.shm_path,
            owner_is_tracer=self._host.access.is_tracer(peer.uid),
        )
        self._host.registry.add(session)
        try:
            self._host.open(session)
        except BaseException as error:
            self._host.registry.remove(session)
            if isinstance(error, QuotaError):
                raise CommandError(str(error)) from None
            raise
        return Done()

    async def destroy(self, client: Client, request: DestroySession) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            warnings: list[str] = []
            if session.state in _RECORDING:
                warnings += await self.finish(session)
            warnings += await self._host.recording(session).rotations.archive_last()
            session.step("destroy")
            warnings += await self._host.settle(session)
            self._host.registry.remove(session)
            self._host.discard(session)
            return Done(warnings=list(dict.fromkeys(warnings)))

    async def start(self, client: Client, request: StartSession) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            return Done(warnings=await self._begin(session))

    async def _begin(self, session: Session) -> list[str]:
        _check_channels(session)
        paused = session.state == "paused"
        recording = self._host.recording(session)
        first = not session.started
        session.step("start")
        recording.rotations.started(first)
        if not paused:
            recording.set_paused(False)
            return await self._host.settle(session)
        # What was changed meanwhile comes first: else rules that are disabled would record.
        session.resuming = True
        try:
            warnings = await self._host.settle(session)
        finally:
            session.resuming = False
            recording.set_paused(False)
        if session.undescribed:
            session.undescribed = False
            warnings = list(dict.fromkeys([*warnings, *await self._host.settle(session)]))
        return warnings

    async def act(self, uid: int, action: TriggerAction) -> None:
        """Carry out what a trigger of a user wants done to a session.

        Raises
        ------
        CommandError
            There is no such session of the user, or it is not in a state for that.
        """
        if action.kind == "snapshot":
            # Without the lock: it may take as long as the disk does, and changes nothing.
            session = self._sessions.find(uid, action.session)
            await self._host.snapshots.take(session, action.output or SnapshotOutput())
            return
        async with self._sessions.changing(uid, action.session) as session:
            if action.kind == "stop":
                await self.finish(session)
                return
            _check_channels(session)
            recording = self._host.recording(session)
            if recording.lease is None and not session.snapshot and session.state != "active":
                await self._host.start_consumer(recording, Program(session.consumer_kind))
            await self._begin(session)

    async def pause(self, client: Client, request: PauseSession) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            session.step("pause")
            self._host.recording(session).set_paused(True)
            return Done(warnings=await self._host.settle(session))

    async def stop(self, client: Client, request: StopSession) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            return Done(warnings=await self.finish(session))

    async def finish(self, session: Session) -> list[str]:
        """Stop a session: applications first, then its consumer writes what is left."""
        session.step("stop")
        warnings = await self._host.settle(session)
        # Paused buffers stay so until a start: who stands still has not heard of the stop yet.
        recording = self._host.recording(session)
        if recording.lease is not None:
            pid = recording.lease.peer.pid
            if not await recording.lease.drain(True, _DRAIN_SECONDS):
                warnings.append(
                    f"the consumer (pid {pid}) of session {session.name} did not finish writing"
                )
        elif recording.stream_count() and not session.snapshot:
            await recording.switch()
            warnings.append(
                f"session {session.name} has no consumer: what it recorded is still in memory"
            )
        warnings += recording.incomplete()
        return [*warnings, *(f"consumer: {line}" for line in recording.problems())]

    def finish_if_active(self, session: Session) -> Awaitable[list[str]]:
        """Stop a session at the end of the registry, after the verb it may be in."""
        # Looked up now: that verb may be the one that destroys it.
        lock = self._host.recording(session).lock

        async def finish() -> list[str]:
            async with lock:
                return await self.finish(session) if session.state in _RECORDING else []

        return finish()

    async def list_sessions(self, client: Client, request: ListSessions) -> Message:
        if request.session:
            sessions = [self._sessions.find(client.peer.uid, request.session)]
        else:
            sessions = [
                s for s in self._host.registry if self._sessions.may_manage(client.peer.uid, s)
            ]
        return SessionList(
            sessions=[self._host.recording(s).info(self._host.slow(s)) for s in sessions]
        )

    # -- the rest ------------------------------------------------------------------

    async def list_applications(self, client: Client, request: ListApplications) -> Message:
        uid = client.peer.uid
        access = self._host.access
        everything = access.is_tracer(uid)
        host = self._host

        def seen(session: Session) -> bool:
            return self._sessions.may_manage(uid, session)

        children = await unregistered(host.registry, host.recording, host.applications, seen)
        return Applications(
            applications=[
                app
                for app in (*host.applications(seen), *children)
                if everything or access.may_see(uid, app.uid)
            ]
        )

    async def shutdown(self, client: Client, request: Shutdown) -> Message:
        if not self._host.access.may_end(client.peer.uid):
            raise CommandError("only root and its own user may end the registry", "permission")
        self._host.shutdown()
        return Done()


def _check_channels(session: Session) -> None:
    if not session.channels:
        raise CommandError(
            f"session {session.name} has no channel: enable an event or a channel first"
        )
