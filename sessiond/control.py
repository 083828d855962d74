# SPDX-License-Identifier: MIT
"""The verbs of the control protocol: one handler each."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Protocol

from sessiond.access import Access
from sessiond.clients import Client, Handler
from sessiond.destinations import check_destination
from sessiond.names import check_channel_name, check_output, check_session_name
from sessiond.quota import QuotaError
from sessiond.recording import Recording
from sessiond.registry import Registry, Session
from sessiond.requests import check_event, typed
from sessiond.snapshots import Snapshots
from sessiond.spawner import Program
from sessiond.subscription import Subscription
from sessiond.traces import check_options
from sessiond.unregistered import unregistered
from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.application import CONTEXTS
from ustconsumer.protocol.control import (
    AddContext,
    AddSnapshotOutput,
    AppInfo,
    Applications,
    Attach,
    Attached,
    CreateSession,
    DelSnapshotOutput,
    Describe,
    Description,
    DestroySession,
    Done,
    EnableChannel,
    EnableEvent,
    ListApplications,
    ListSessions,
    ListSnapshotOutputs,
    Message,
    PauseSession,
    PrepareSnapshot,
    Sessions,
    Shutdown,
    SnapshotOutput,
    SnapshotOutputs,
    SpawnConsumer,
    StartSession,
    StopSession,
    TriggerAction,
)

__all__ = ["Control", "Host"]

_DRAIN_SECONDS = 10.0
_CONSUMERS = ("disk", "network")
_MAX_WORKERS = 64
#: States with an open trace.
_RECORDING = ("active", "paused")


class Host(Protocol):
    """What the verbs need of the daemon."""

    registry: Registry
    access: Access
    snapshots: Snapshots

    def recording(self, session: Session) -> Recording:
        """Return the live side of a session."""

    def open(self, session: Session) -> None:
        """Make the live side of a new session; raises `QuotaError`."""

    def discard(self, session: Session) -> None:
        """Close the live side of a destroyed session."""

    async def settle(self, session: Session) -> list[str]:
        """Have the applications follow the last change; return those that did not, in a line."""

    def slow(self, session: Session) -> list[str]:
        """Return the applications that have not followed yet, one line each."""

    def applications(self) -> list[AppInfo]:
        """Return every application, also the refused."""

    async def start_consumer(self, recording: Recording, program: Program) -> None:
        """Start a consumer and wait until it is attached."""

    def shutdown(self) -> None:
        """Begin the end."""


class Control:
    """Carries out requests.

    Parameters
    ----------
    host : Host
        The daemon.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    def handlers(self) -> dict[type[Message], Handler]:
        """Return the handler of each request, by its type."""
        return {
            CreateSession: typed(CreateSession, self.create),
            DestroySession: typed(DestroySession, self.destroy),
            EnableChannel: typed(EnableChannel, self.enable_channel),
            EnableEvent: typed(EnableEvent, self.enable_event),
            AddContext: typed(AddContext, self.add_context),
            StartSession: typed(StartSession, self.start),
            PauseSession: typed(PauseSession, self.pause),
            StopSession: typed(StopSession, self.stop),
            ListSessions: typed(ListSessions, self.list_sessions),
            ListApplications: typed(ListApplications, self.list_applications),
            Describe: typed(Describe, self.describe),
            SpawnConsumer: typed(SpawnConsumer, self.spawn_consumer),
            Attach: typed(Attach, self.attach),
            PrepareSnapshot: typed(PrepareSnapshot, self.prepare_snapshot),
            AddSnapshotOutput: typed(AddSnapshotOutput, self.add_snapshot_output),
            DelSnapshotOutput: typed(DelSnapshotOutput, self.del_snapshot_output),
            ListSnapshotOutputs: typed(ListSnapshotOutputs, self.list_snapshot_outputs),
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
        async with self._changing(client.peer.uid, request.session) as session:
            warnings: list[str] = []
            if session.state in _RECORDING:
                warnings += await self.finish(session)
            session.step("destroy")
            warnings += await self._host.settle(session)
            self._host.registry.remove(session)
            self._host.discard(session)
            return Done(warnings=list(dict.fromkeys(warnings)))

    async def start(self, client: Client, request: StartSession) -> Message:
        async with self._changing(client.peer.uid, request.session) as session:
            return Done(warnings=await self._begin(session))

    async def _begin(self, session: Session) -> list[str]:
        _check_channels(session)
        session.step("start")
        self._host.recording(session).set_paused(False)
        return await self._host.settle(session)

    async def act(self, uid: int, action: TriggerAction) -> None:
        """Carry out what a trigger of a user wants done to a session.

        Raises
        ------
        CommandError
            There is no such session of the user, or it is not in a state for that.
        """
        if action.kind == "snapshot":
            # Without the lock: it may take as long as the disk does, and changes nothing.
            session = self._session(uid, action.session)
            await self._host.snapshots.take(session, action.output or SnapshotOutput())
            return
        async with self._changing(uid, action.session) as session:
            if action.kind == "stop":
                await self.finish(session)
                return
            _check_channels(session)
            recording = self._host.recording(session)
            if recording.lease is None and not session.snapshot and session.state != "active":
                await self._host.start_consumer(recording, Program(session.consumer_kind))
            await self._begin(session)

    async def pause(self, client: Client, request: PauseSession) -> Message:
        async with self._changing(client.peer.uid, request.session) as session:
            session.step("pause")
            self._host.recording(session).set_paused(True)
            return Done(warnings=await self._host.settle(session))

    async def stop(self, client: Client, request: StopSession) -> Message:
        async with self._changing(client.peer.uid, request.session) as session:
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
            sessions = [self._session(client.peer.uid, request.session)]
        else:
            sessions = [s for s in self._host.registry if self._may_manage(client.peer.uid, s)]
        return Sessions(
            sessions=[self._host.recording(s).info(self._host.slow(s)) for s in sessions]
        )

    # -- channels, events, contexts --------------------------------------------------

    async def enable_channel(self, client: Client, request: EnableChannel) -> Message:
        check_channel_name(request.channel)
        check_options(request.options)
        async with self._changing(client.peer.uid, request.session) as session:
            session.add_channel(request.channel, request.options)
            return Done()

    async def enable_event(self, client: Client, request: EnableEvent) -> Message:
        check_event(request.event)
        async with self._changing(client.peer.uid, request.session) as session:
            channel = session.pick_channel(request.channel)
            session.add_rule(channel, request.event)
            # Applications know of active sessions only.
            active = session.state == "active"
            return Done(warnings=await self._host.settle(session) if active else [])

    async def add_context(self, client: Client, request: AddContext) -> Message:
        for name in request.contexts:
            if name not in CONTEXTS:
                raise UsageError(f"unknown context {name!r}: use one of {', '.join(CONTEXTS)}")
        async with self._changing(client.peer.uid, request.session) as session:
            session.add_contexts(request.channel, request.contexts)
            return Done()

    # -- consumers -----------------------------------------------------------------

    async def attach(self, client: Client, request: Attach) -> Message | None:
        session = self._session(client.peer.uid, request.session)
        recording = self._host.recording(session)
        if request.consume:
            _check_consumed(session)
        if client.subscription is not None:
            raise CommandError("this connection is attached already: make another one", "busy")
        if request.consume and recording.lease is not None:
            holder = recording.lease
            raise CommandError(
                f"session {session.name} has a {holder.kind} consumer (pid {holder.peer.pid})",
                "busy",
            )
        access = self._host.access
        subscription = Subscription(
            client.peer,
            request.kind[:64],
            request.consume,
            client.send,
            lambda uid: access.may_map(client.peer.uid, uid),
        )
        client.attach(recording, subscription)
        attached = Attached(
            seq=request.seq,
            session=session.name,
            id=session.id,
            output=session.output,
            streams=recording.stream_count(),
            destination=session.destination,
            created=int(session.created.timestamp()),
            turn=recording.turns,
        )
        # Who reads the pipe takes the consumer's wake-ups: it is not for observers.
        client.send(attached, (recording.pipe.read_end,) if request.consume else ())
        recording.attach(subscription)
        return None

    async def spawn_consumer(self, client: Client, request: SpawnConsumer) -> Message:
        session = self._session(client.peer.uid, request.session)
        kind = request.kind or session.consumer_kind
        if kind not in _CONSUMERS:
            raise UsageError(f"unknown kind of consumer {kind!r}: use {' or '.join(_CONSUMERS)}")
        if not 0 <= request.workers <= _MAX_WORKERS:
            raise UsageError(f"{request.workers} workers: 1 to {_MAX_WORKERS}")
        if request.direct and kind != "disk":
            raise UsageError(
                f"a {kind} consumer does not write past the page cache: leave out --direct"
            )
        _check_consumed(session)
        _check_place(session, kind)
        recording = self._host.recording(session)
        if recording.lease is None:
            await self._host.start_consumer(
                recording, Program(kind, request.workers, request.direct)
            )
        return Done()

    async def describe(self, client: Client, request: Describe) -> Message:
        recording = self._host.recording(self._session(client.peer.uid, request.session))
        return Description(traces=recording.descriptions())

    # -- snapshots -------------------------------------------------------------------

    async def prepare_snapshot(self, client: Client, request: PrepareSnapshot) -> Message:
        async with self._changing(client.peer.uid, request.session) as session:
            return await self._host.snapshots.prepare(session, request.output, request.switch)

    async def add_snapshot_output(self, client: Client, request: AddSnapshotOutput) -> Message:
        async with self._changing(client.peer.uid, request.session) as session:
            outputs = self._host.snapshots.outputs(session)
            return SnapshotOutputs(outputs=[outputs.add(request.output)])

    async def del_snapshot_output(self, client: Client, request: DelSnapshotOutput) -> Message:
        async with self._changing(client.peer.uid, request.session) as session:
            self._host.snapshots.outputs(session).remove(request.output)
            return Done()

    async def list_snapshot_outputs(self, client: Client, request: ListSnapshotOutputs) -> Message:
        session = self._session(client.peer.uid, request.session)
        return SnapshotOutputs(outputs=self._host.snapshots.outputs(session).list())

    # -- the rest ------------------------------------------------------------------

    async def list_applications(self, client: Client, request: ListApplications) -> Message:
        uid = client.peer.uid
        access = self._host.access
        everything = access.is_tracer(uid)
        host = self._host
        children = await unregistered(host.registry, host.recording, host.applications)
        return Applications(
            applications=[
                app
                for app in (*host.applications(), *children)
                if everything or access.may_see(uid, app.uid)
            ]
        )

    async def shutdown(self, client: Client, request: Shutdown) -> Message:
        if not self._host.access.may_end(client.peer.uid):
            raise CommandError("only root and its own user may end the registry", "permission")
        self._host.shutdown()
        return Done()

    def _may_manage(self, uid: int, session: Session) -> bool:
        return self._host.access.may_manage(uid, session.uid)

    def _session(self, uid: int, name: str) -> Session:
        """Return a session by name or id; another user's is as if it were not there."""
        named = self._host.registry.named(name, uid)
        found = [session for session in named if self._may_manage(uid, session)]
        if not found:
            raise _not_found(name)
        if len(found) > 1:
            uids = ", ".join(str(session.uid) for session in found)
            raise CommandError(
                f"several users (uids {uids}) have a session {name}: give its id instead, "
                "`drtrace --json list` shows it"
            )
        return found[0]

    @contextlib.asynccontextmanager
    async def _changing(self, uid: int, name: str) -> AsyncIterator[Session]:
        """Give the session to one verb at a time."""
        session = self._session(uid, name)
        async with self._host.recording(session).lock:
            # Another may have destroyed it while we waited.
            if session.state == "destroyed":
                raise _not_found(name)
            yield session


def _check_channels(session: Session) -> None:
    if not session.channels:
        raise CommandError(
            f"session {session.name} has no channel: enable an event or a channel first"
        )


def _check_consumed(session: Session) -> None:
    if session.snapshot:
        raise CommandError(
            f"session {session.name} is in snapshot mode: it has no consumer, "
            "`drtrace snapshot record` writes what is in its buffers"
        )


def _check_place(session: Session, kind: str) -> None:
    if kind == "network" and not session.destination.url:
        raise UsageError(f"session {session.name} has no relay: `drtrace create --set-url` says it")
    if kind == "disk" and not session.output:
        raise UsageError(f"session {session.name} has no directory, only a relay")


def _not_found(name: str) -> CommandError:
    return CommandError(f"session {name!r} not found", "no-such-session")
