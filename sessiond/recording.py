# SPDX-License-Identifier: MIT
"""The live side of a session: its buffers, its wake-up pipe, and who reads it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Iterator

from sessiond.endings import Endings
from sessiond.kept import AllKept, KeptTraces
from sessiond.lacks import Lacks
from sessiond.monitor import Monitor
from sessiond.outputs import SnapshotOutputs
from sessiond.owners import Owner
from sessiond.past import PastTraces
from sessiond.quota import Quotas
from sessiond.registry import Channel, Session
from sessiond.rotations import Rotations
from sessiond.shmpath import SessionFiles
from sessiond.subscription import Subscription
from sessiond.switcher import Switcher
from sessiond.traces import DescriptorsError, Stream, Trace, WakePipe
from ustconsumer.errors import RingBufferError
from ustconsumer.protocol.control import (
    MAX_COUNT,
    ConsumerInfo,
    SessionInfo,
    TraceClosed,
    TraceDescription,
)

__all__ = ["Recording"]

_log = logging.getLogger("sessiond")


class Recording:
    """What a session needs beyond its description, as long as it exists.

    Attributes
    ----------
    lease : Subscription or None
        The one consumer; by message or by death its end is the end of the lease.
    lock : asyncio.Lock
        Held by a verb that changes the session.
    """

    def __init__(
        self, session: Session, quotas: Quotas | None = None, all_kept: AllKept | None = None
    ) -> None:
        self.session = session
        self._files = SessionFiles(session) if session.shm_path else None
        self.snapshot_outputs = SnapshotOutputs(session)
        self._quotas = quotas or Quotas()
        self.pipe = WakePipe()
        self.lock = asyncio.Lock()
        self.lease: Subscription | None = None
        #: consumers that ever held it
        self.turns = 0
        #: by `Owner.key`
        self.traces: dict[tuple[int, int], Trace] = {}
        self._observers: list[Subscription] = []
        self._making: dict[tuple[int, int], asyncio.Task[Trace]] = {}
        self._paths: set[str] = set()
        self._next_stream = 0
        self._past = PastTraces()
        self._all_kept = all_kept or AllKept()
        self._kept = KeptTraces(self._quotas.limits.kept, self._forget, self._all_kept)
        self._switcher = Switcher(
            session, self.traces.values, lambda: self.lease is None and not self._closed
        )
        self._monitor = Monitor(session, self.traces.values)
        self._endings = Endings(lambda: [each.peer.pid for each in self.subscriptions], self._ended)
        self._lease_taken = asyncio.Event()
        self._lease_free = asyncio.Event()
        self._lease_free.set()
        self.rotations = Rotations(session, self)
        self._closed = False
        #: by stream id, see `hold`
        self._held: dict[int, tuple[int, str]] = {}
        #: Of consumers that are gone.
        self._past_problems: list[str] = []
        self.lacks = Lacks()
        #: see `note_early`
        self._early = 0
        self._last_early = ""

    @property
    def subscriptions(self) -> Iterator[Subscription]:
        if self.lease is not None:
            yield self.lease
        yield from tuple(self._observers)

    async def trace_for(self, owner: Owner) -> Trace:
        """Return the trace of a uid or process, made and known to the consumer.

        Raises
        ------
        RingBufferError
            There is not enough memory.
        QuotaError
            The uid has as much of it as it may have.
        """
        made = self.traces.get(owner.key)
        if made is not None:
            return made
        making = self._making.get(owner.key)
        if making is None:
            making = asyncio.ensure_future(self._make(owner))
            self._making[owner.key] = making
            making.add_done_callback(lambda done: self._made(owner, done))
        # Shielded: one application that goes away must not take the others' buffers along.
        return await asyncio.shield(making)

    def _made(self, owner: Owner, done: asyncio.Task[Trace]) -> None:
        self._making.pop(owner.key, None)
        # Looked at here as well: those who waited for it may be gone.
        if not done.cancelled() and done.exception() is not None:
            _log.error("session %s: no buffers: %s", self.session.name, done.exception())

    async def _make(self, owner: Owner) -> Trace:
        trace = self._new_trace(owner)
        self._next_stream += len(self.session.channels) * trace.cpus
        try:
            self._take_memory(owner.uid, trace.size)
        except BaseException:
            self._paths.discard(trace.path)
            trace.close()
            raise
        try:
            await self._allocate(trace)
        except BaseException:
            self._paths.discard(trace.path)
            self._let_go(trace)
            raise
        if self._closed:
            self._let_go(trace)
            return trace
        if self.session.state == "paused":
            trace.set_paused(True)
        self.traces[owner.key] = trace
        self._switcher.start()
        self._monitor.start()
        for subscription in self.subscriptions:
            subscription.push_trace(trace)
        if self.lease is not None:
            await self.lease.wait_ready(trace)
        return trace

    def _new_trace(self, owner: Owner) -> Trace:
        """Return a trace without memory; `OSError`, `RingBufferError` if its files cannot be."""
        if self._files is None:
            return Trace(self.session, owner, self._path(owner), self._next_stream)
        if owner.uid != os.geteuid():
            raise RingBufferError(
                f"its buffers are files, for programs of uid {os.geteuid()} only: files can be cut "
                "off by whoever writes them, and this program is of uid "
                f"{owner.uid}"
            )
        path = self._path(owner)
        try:
            files = self._files.trace(path)
            return Trace(self.session, owner, path, self._next_stream, files)
        except BaseException:
            self._paths.discard(path)
            raise

    def _take_memory(self, uid: int, size: int) -> None:
        """Take memory of a uid's quota; who runs comes before who has ended."""
        lacking = self._quotas.lacking("memory", uid, size)
        if lacking:
            self._all_kept.free_memory(uid, lacking)
        self._quotas.take("memory", uid, size)

    async def _allocate(self, trace: Trace) -> None:
        """Make a trace's buffers; who runs comes before who has ended."""
        while True:
            try:
                await asyncio.to_thread(trace.allocate)
                return
            except DescriptorsError:
                needed = len(self.session.channels) * trace.cpus
                if not self._all_kept.free_descriptors(trace.uid, needed):
                    raise

    def _forget(self, trace: Trace) -> None:
        """Let go of an ended trace; what it lost still counts."""
        self._past.add(trace)
        self._let_go(trace)
        del self.traces[trace.owner.key]

    def _let_go(self, trace: Trace) -> None:
        if not trace.closed:
            trace.close()
            self._quotas.give_back("memory", trace.uid, trace.size)

    def _path(self, owner: Owner) -> str:
        if owner.process is None:
            return f"ust/uid/{owner.uid}/64-bit"
        first = path = f"ust/pid/{owner.process.directory}"
        number = 1
        # A process that registers again within a second, or another of its name and number.
        while path in self._paths:
            number += 1
            path = f"{first}-{number}"
        self._paths.add(path)
        return path

    def process_gone(self, owner: Owner) -> None:
        """Finish the trace of a process that ended, once nobody writes it any more."""
        making = self._making.get(owner.key)
        if making is not None:
            making.add_done_callback(lambda _: self._owner_gone(owner))
        else:
            self._owner_gone(owner)

    def _owner_gone(self, owner: Owner) -> None:
        trace = self.traces.get(owner.key)
        if trace is not None and owner.process is not None:
            self._endings.add(trace)

    def _ended(self, trace: Trace) -> None:
        trace.ended = True
        trace.metadata.complete(trace.channels)
        for subscription in self.subscriptions:
            subscription.push_trace_ended(trace)
        if self.session.snapshot:
            self._kept.add(trace)

    async def clear(self) -> None:
        """Forget what was recorded, in buffers and files.

        Raises
        ------
        CommandError
            The consumer could not.
        """
        self._kept.clear()
        await self.rotations.clear()

    def set_paused(self, paused: bool) -> None:
        """Have the writers of every buffer drop their events, or record them again."""
        for trace in self.traces.values():
            trace.set_paused(paused)

    def set_timers(self, channel: Channel) -> None:
        """Run a channel's timers as they are now, whoever runs them."""
        if self.lease is not None:
            self.lease.push_timers(channel)
        self._switcher.start()
        self._monitor.start()

    async def switch(self) -> None:
        """Close the packets being written for good, unless that is a consumer's business."""
        await self._switcher.switch(final=True)

    def attach(self, subscription: Subscription) -> None:
        """Take a subscription in and tell it what there is."""
        if subscription.consume:
            assert self.lease is None
            self.lease = subscription
            self.turns += 1
            self._lease_taken.set()
            self._lease_free.clear()
        else:
            self._observers.append(subscription)
        for trace in self.traces.values():
            subscription.push_trace(trace)

    def detach(self, subscription: Subscription) -> None:
        """Let a subscription go: released, hung up, or dead."""
        subscription.end()
        if self.lease is subscription:
            self._past_problems += subscription.problems
            self.lease = None
            self._lease_taken.clear()
            self._lease_free.set()
        elif subscription in self._observers:
            self._observers.remove(subscription)

    def trace_closed(self, subscription: Subscription, message: TraceClosed) -> None:
        """Let go of a trace that nobody writes any more: a consumer has finished it."""
        subscription.stats = message.stats
        if subscription is not self.lease or self._closed:
            return
        for trace in tuple(self.traces.values()):
            if trace.id == message.trace and trace.ended:
                self._forget(trace)

    def descriptions(self) -> list[TraceDescription]:
        """Return the layouts of the records of every trace so far."""
        return self._past.descriptions(self.traces.values())

    def hold(self, stream: Stream, position: int, reason: str) -> None:
        """Note why a packet that a killed process left unfinished is not repaired yet."""
        self._held.pop(stream.id, None)
        if reason:
            name = f"{stream.channel.name}_{stream.cpu}"
            line = f"a packet of stream {name} is unfinished: {reason}"
            self._held[stream.id] = position, line

    def note_early(self, program: str) -> None:
        """Note that a program ran, or ended, before it had its buffers."""
        self._early += 1
        self._last_early = program

    def incomplete(self) -> list[str]:
        """Return what was not recorded and stands in no counter, one line each."""
        if not self._early:
            return []
        programs = "1 program" if self._early == 1 else f"{self._early} programs"
        return [
            f"{programs} ran or ended before buffers were ready: events of that time are "
            f"not recorded (last of application {self._last_early})"
        ]

    def _dropped(self) -> list[str]:
        """Return whose buffers are not kept for snapshots any more, a line at most."""
        count = self._kept.dropped
        if not count:
            return []
        programs = "1 ended program" if count == 1 else f"{count} ended programs"
        return [
            f"the buffers of {programs} had to make room for those of others: more are kept "
            "with `ltt-sessiond --max-kept`"
        ]

    def problems(self) -> list[str]:
        """Return what keeps or kept packets from their consumers, one line each."""
        now = [] if self.lease is None else self.lease.problems
        return list(dict.fromkeys([*self._past_problems, *now, *self._still_held()]))

    def _still_held(self) -> list[str]:
        """Return the lines of `hold` for packets that nobody has finished since."""
        lines = []
        for trace in self.traces.values() if self._held else ():
            for stream in trace.streams:
                position, line = self._held.get(stream.id, (0, ""))
                # A living writer finishes it without another word: then it is taken.
                if line and stream.geometry.subbuf_trunc(stream.info("").consumed) == position:
                    lines.append(line)
        return lines

    async def wait_lease(self) -> None:
        """Wait until a consumer holds the lease."""
        await self._lease_taken.wait()

    async def wait_released(self) -> None:
        """Wait until no consumer holds the lease."""
        await self._lease_free.wait()

    def stream_count(self) -> int:
        return sum(1 for trace in self.traces.values() for _ in trace.streams)

    def info(self, slow: Iterable[str]) -> SessionInfo:
        session = self.session
        consumer = None
        if self.lease is not None:
            consumer = ConsumerInfo(
                pid=self.lease.peer.pid, kind=self.lease.kind, stats=self.lease.stats
            )
        streams = [
            stream.info(trace.id) for trace in self.traces.values() for stream in trace.streams
        ]
        lost = {channel.name: self._past.lost(channel.id) for channel in session.channels}
        for stream in streams:
            lost[stream.channel] = min(lost[stream.channel] + stream.lost, MAX_COUNT)
        loads = self._monitor.loads()
        return SessionInfo(
            name=session.name,
            id=session.id,
            uid=session.uid,
            gid=session.gid,
            state=session.state,
            output=session.output,
            destination=session.destination,
            created=session.created.isoformat(),
            channels=[
                channel.info(lost[channel.name], loads.get(channel.name))
                for channel in session.channels
            ],
            streams=streams,
            consumer=consumer,
            processes=list(session.processes),
            snapshot=session.snapshot,
            shm_path="" if self._files is None else self._files.path,
            dropped=self._kept.dropped,
            slow=list(slow),
            trackers=session.trackers.info(),
            rotation=self.rotations.schedule,
            archived=self.rotations.archived,
            problems=[
                *self.problems(),
                *self.incomplete(),
                *self._dropped(),
                *self.lacks.lines(),
                *self.rotations.problems,
            ],
        )

    def close(self) -> None:
        """Say goodbye to the readers and let go of the memory."""
        self._closed = True
        self._switcher.close()
        self._monitor.close()
        self.rotations.close()
        self._endings.close()
        self._kept.close()
        for trace in self.traces.values():
            trace.metadata.complete(trace.channels)
        for subscription in self.subscriptions:
            subscription.push_end()
        for trace in self.traces.values():
            self._let_go(trace)
        if self._files is not None:
            self._files.close()
        self.pipe.close()
