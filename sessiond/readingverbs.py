# SPDX-License-Identifier: MIT
"""The verbs of those who read buffers: consumers, observers, snapshots."""

from __future__ import annotations

from sessiond.clients import Client, Handler
from sessiond.host import Host, Sessions
from sessiond.registry import Session
from sessiond.requests import typed
from sessiond.spawner import Program
from sessiond.subscription import Subscription
from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.control import (
    AddSnapshotOutput,
    Attach,
    Attached,
    DelSnapshotOutput,
    Describe,
    Description,
    Done,
    ListSnapshotOutputs,
    Message,
    PrepareSnapshot,
    SnapshotOutputs,
    SpawnConsumer,
)

_CONSUMERS = ("disk", "network")
_MAX_WORKERS = 64

__all__ = ["ReadingVerbs"]


class ReadingVerbs:
    """Carries out requests about who reads a session's buffers.

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
            Describe: typed(Describe, self.describe),
            SpawnConsumer: typed(SpawnConsumer, self.spawn_consumer),
            Attach: typed(Attach, self.attach),
            PrepareSnapshot: typed(PrepareSnapshot, self.prepare_snapshot),
            AddSnapshotOutput: typed(AddSnapshotOutput, self.add_snapshot_output),
            DelSnapshotOutput: typed(DelSnapshotOutput, self.del_snapshot_output),
            ListSnapshotOutputs: typed(ListSnapshotOutputs, self.list_snapshot_outputs),
        }

    async def attach(self, client: Client, request: Attach) -> Message | None:
        session = self._sessions.find(client.peer.uid, request.session)
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
        following = recording.rotations.under_way
        attached = Attached(
            seq=request.seq,
            session=session.name,
            id=session.id,
            output=session.output,
            streams=recording.stream_count(),
            destination=session.destination,
            created=int(session.created.timestamp()),
            turn=recording.turns,
            chunk=recording.rotations.chunk.directory,
            chunk_number=recording.rotations.chunk.number,
            chunk_began=int(recording.rotations.chunk.began.timestamp()),
            following=following.directory if following else "",
            following_began=int(following.began.timestamp()) if following else 0,
        )
        # Who reads the pipe takes the consumer's wake-ups: it is not for observers.
        client.send(attached, (recording.pipe.read_end,) if request.consume else ())
        recording.attach(subscription)
        return None

    async def spawn_consumer(self, client: Client, request: SpawnConsumer) -> Message:
        session = self._sessions.find(client.peer.uid, request.session)
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
        recording = self._host.recording(self._sessions.find(client.peer.uid, request.session))
        return Description(traces=recording.descriptions())

    async def prepare_snapshot(self, client: Client, request: PrepareSnapshot) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            return await self._host.snapshots.prepare(session, request.output, request.switch)

    async def add_snapshot_output(self, client: Client, request: AddSnapshotOutput) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            outputs = self._host.snapshots.outputs(session)
            return SnapshotOutputs(outputs=[outputs.add(request.output)])

    async def del_snapshot_output(self, client: Client, request: DelSnapshotOutput) -> Message:
        async with self._sessions.changing(client.peer.uid, request.session) as session:
            self._host.snapshots.outputs(session).remove(request.output)
            return Done()

    async def list_snapshot_outputs(self, client: Client, request: ListSnapshotOutputs) -> Message:
        session = self._sessions.find(client.peer.uid, request.session)
        return SnapshotOutputs(outputs=self._host.snapshots.outputs(session).list())


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
