# SPDX-License-Identifier: MIT
"""Sub-buffers that a killed process left unfinished: found, judged by the registry, repaired."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ustconsumer._native.ring import Ring
from ustconsumer.consumer.mapping import MappedStream
from ustconsumer.consumer.subscription import Subscription
from ustconsumer.ctf.skip import records
from ustconsumer.errors import RingBufferError, UsageError
from ustconsumer.mappers import writers_of_files
from ustconsumer.protocol.control import HoleVerdict, TraceDescription
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.memory import StreamMemory
from ustconsumer.ringbuffer.repair import repair
from ustconsumer.ringbuffer.salvage import RecordReader

__all__ = ["Holes"]

#: Seconds between two looks at every ring; looking takes a hundredth of the time at most.
_LOOK = 0.05
_SHARE = 100
#: Seconds for which a packet is unfinished before that is no writer's haste.
_STUCK = 0.1
#: Seconds until the registry is asked again about a process that may still write.
_ASK_AGAIN = 0.25
_ASK_AGAIN_MOST = 2.0


@dataclass
class _Suspect:
    """A sub-buffer at the reading position that is not committed, although writers left it."""

    position: int
    due: float
    patience: float = _ASK_AGAIN
    asked: bool = False


class Holes:
    """Looks for sub-buffers that stay uncommitted and has them repaired.

    A hole holds up its own ring only. Writers do not enter an unfinished sub-buffer, nor
    push the reading position past it: it is always found where reading stops.

    Parameters
    ----------
    subscription : Subscription
    live : callable
        Returns the streams that are read.
    problem : callable
        Told what was lost, one line each.
    report : callable
        Told what is going on.

    Attributes
    ----------
    repaired : int
        Packets repaired so far.
    """

    def __init__(
        self,
        subscription: Subscription,
        live: Callable[[], Iterable[MappedStream]],
        problem: Callable[[str], None],
        report: Callable[[str], None],
    ) -> None:
        self._subscription = subscription
        self._live = live
        self._problem = problem
        self._report = report
        self._suspects: dict[Ring, _Suspect] = {}
        #: Rings whose counters contradict each other: there is nothing to repair.
        self._hopeless: set[Ring] = set()
        self._next = 0.0
        self._said: set[str] = set()
        self.repaired = 0

    @property
    def wait_s(self) -> float:
        """How long the consumer may sleep before the next look."""
        return _LOOK if self._suspects else math.inf

    def look(self) -> None:
        """Look for holes now and then; carry out what the registry answered."""
        subscription = self._subscription
        if subscription.verdicts:
            verdicts, subscription.verdicts = subscription.verdicts, []
            self._carry_out(verdicts)
        now = time.monotonic()
        if now < self._next:
            return
        found = {}
        for mapped in self._live():
            suspect = self._suspect(mapped, now)
            if suspect is not None:
                found[mapped.ring] = suspect
                if now >= suspect.due and (not suspect.asked or subscription.orphaned):
                    self._ask(mapped, suspect)
        self._suspects = found
        self._hopeless.intersection_update(subscription.streams)
        end = time.monotonic()
        self._next = end + max(_LOOK, _SHARE * (end - now))

    def _suspect(self, mapped: MappedStream, now: float) -> _Suspect | None:
        ring, geometry = mapped.ring, mapped.stream.geometry
        consumed, produced = ring.positions()
        position = geometry.subbuf_trunc(consumed)
        if produced - position < geometry.subbuf_size or ring.readable() or ring in self._hopeless:
            return None
        known = self._suspects.get(ring)
        if known is not None and known.position == position:
            return known
        return _Suspect(position, now + _STUCK)

    def _ask(self, mapped: MappedStream, suspect: _Suspect) -> None:
        """Have it found out whether somebody may still commit."""
        # Whoever answers the registry from now on has no reservation below this.
        produced = mapped.ring.positions()[1]
        subscription = self._subscription
        suspect.asked = True
        if not subscription.orphaned:
            subscription.hole_found(mapped.stream.id, suspect.position, produced)
            return
        # Nobody can be asked: whoever has the memory may be in the middle of a write.
        writers = writers_of_files([mapped.file]).get(mapped.file, set()) - {os.getpid()}
        if writers:
            self._later(suspect)
        else:
            self._say_repaired(self._repair(mapped, produced, None))

    def _carry_out(self, verdicts: list[HoleVerdict]) -> None:
        by_id = {mapped.stream.id: mapped for mapped in self._live()}
        packets = 0
        for verdict in verdicts:
            mapped = by_id.get(verdict.stream)
            suspect = None if mapped is None else self._suspects.get(mapped.ring)
            if mapped is None or suspect is None or suspect.position != verdict.position:
                continue
            suspect.asked = False
            self._later(suspect)
            if not verdict.reason:
                packets += self._repair(mapped, verdict.produced, verdict.description)
                continue
            stream = mapped.stream
            self._say(f"stream {stream.trace.path}/{stream.name} waits: {verdict.reason}")
        self._say_repaired(packets)

    @staticmethod
    def _later(suspect: _Suspect) -> None:
        suspect.due = time.monotonic() + suspect.patience
        suspect.patience = min(2 * suspect.patience, _ASK_AGAIN_MOST)

    def _repair(
        self, mapped: MappedStream, produced: int, description: TraceDescription | None
    ) -> int:
        """Repair a ring; return how many packets."""
        stream = mapped.stream
        name = f"stream {stream.trace.path}/{stream.name}"
        memory = StreamMemory(mapped.memory, stream.geometry)
        # No wake-up: who would be woken is at work here.
        producer = Producer(memory, stream.trace.uuid, stream.channel_id, stream.cpu)
        try:
            done = repair(producer, produced, _reader(stream.channel_id, description))
        except RingBufferError as error:
            self._hopeless.add(mapped.ring)
            self._problem(f"{name} cannot be repaired: {error}")
            return 0
        finally:
            memory.release()
        self.repaired += done.packets
        if done.lost:
            self._problem(
                f"{name}: {done.lost} bytes of events were behind what a killed process "
                "left unfinished and could not be told from it"
            )
        return done.packets

    def _say_repaired(self, packets: int) -> None:
        if packets:
            what = "packet" if packets == 1 else "packets"
            self._report(f"repaired {packets} {what} that a killed process left unfinished")

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._report(line)


def _reader(stream_class: int, description: TraceDescription | None) -> RecordReader | None:
    if description is None:
        return None
    contexts = {stream_class: description.contexts.get(stream_class, [])}
    try:
        known = records(contexts, {stream_class: description.events.get(stream_class, {})})
    except UsageError:
        return None
    return RecordReader(known[stream_class])
