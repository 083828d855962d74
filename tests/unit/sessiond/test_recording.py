# SPDX-License-Identifier: MIT
"""Traces of processes: where they are, when they end, what is left of them."""

from __future__ import annotations

import asyncio
import datetime
import gc
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest

from sessiond import endings
from sessiond.kept import AllKept
from sessiond.owners import Owner, Process
from sessiond.quota import Limits, QuotaError, Quotas
from sessiond.recording import Recording
from sessiond.registry import Session
from sessiond.sockets import Peer
from sessiond.subscription import Subscription
from sessiond.traces import DescriptorsError, Trace
from ustconsumer.errors import RingBufferError
from ustconsumer.paths import possible_cpus
from ustconsumer.protocol.control import (
    ChannelOptions,
    ConsumerStats,
    Message,
    StreamAdded,
    StreamReady,
    TraceAdded,
    TraceClosed,
    TraceEnded,
)

UID = os.geteuid()
WHEN = datetime.datetime(2026, 11, 22, 20, 3, 38, tzinfo=datetime.UTC)
#: Maps the memory it inherited until its input ends.
MAPPER = """
import mmap, sys
memory = mmap.mmap(int(sys.argv[1]), 4096)
print("mapped", flush=True)
sys.stdin.read()
"""


def owner(number: int, pid: int = 1000, name: str = "prog") -> Owner:
    return Owner(UID, "ust-9-x86_64", "2.13.5", Process(pid, name, number, WHEN))


class Consumer:
    """A consumer that maps at once and keeps what it was told."""

    def __init__(self, pid: int = 1) -> None:
        self.told: list[Message] = []
        self.subscription = Subscription(
            Peer(pid, UID, 0), "test", True, self._push, lambda uid: True
        )

    def _push(self, message: Message, fds: Sequence[int]) -> None:
        self.told.append(message)
        if isinstance(message, StreamAdded):
            self.subscription.ready(StreamReady(stream=message.stream))

    def ended(self) -> list[str]:
        return [message.trace for message in self.told if isinstance(message, TraceEnded)]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 (it is the kernel's, or shared memory)
            await asyncio.sleep(0.005)


Scenario = Callable[[Recording], Coroutine[Any, Any, None]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Run a scenario with a session of one small channel; no descriptor may be left."""
    monkeypatch.setattr(endings, "_LOOK_SECONDS", 0.02)

    async def run(scenario: Scenario, options: dict[str, Any]) -> None:
        session = Session(name="s", uid=UID, gid=os.getegid(), output="")
        channel = ChannelOptions(subbuf_size=4096, num_subbuf=2, buffers="pid", **options)
        session.add_channel("c", channel)
        session.add_channel("d", ChannelOptions(subbuf_size=4096, num_subbuf=2, buffers="pid"))
        session.step("start")
        recording = Recording(session)
        try:
            await scenario(recording)
        finally:
            recording.close()

    gc.collect()  # what other tests of this process left
    before = len(os.listdir("/proc/self/fd"))
    yield lambda scenario, **options: asyncio.run(run(scenario, options))
    assert len(os.listdir("/proc/self/fd")) <= before


def lose(trace: Trace, events: int) -> None:
    """Have a stream say that it lost events."""
    stream = next(trace.streams)
    at = stream.geometry.places()["lost_full"]
    with mmap.mmap(stream.fd, 4096) as control:
        control[at : at + 8] = events.to_bytes(8, "little")


def test_directories_of_processes(play: Callable[..., None]) -> None:
    """As LTTng calls them (facts, ctf layout 1); never two traces in one."""

    async def scenario(recording: Recording) -> None:
        first = await recording.trace_for(owner(1, 77))
        again = await recording.trace_for(owner(2, 77))
        other = await recording.trace_for(owner(3, 78, "a/../b"))
        assert await recording.trace_for(owner(1, 77)) is first
        assert [trace.path for trace in (first, again, other)] == [
            "ust/pid/prog-77-20261122-200338",
            "ust/pid/prog-77-20261122-200338-2",
            "ust/pid/a_.._b-78-20261122-200338",
        ]
        uid = await recording.trace_for(Owner(UID, "ust-9-x86_64", "2.13.5"))
        assert uid.path == f"ust/uid/{UID}/64-bit"
        ids = [stream.id for each in (first, again, other, uid) for stream in each.streams]
        assert ids == list(range(4 * 2 * possible_cpus()))

    play(scenario)


def test_a_directory_that_was_not_used_is_free(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was no memory, and at the next change of the session there is."""

    async def scenario(recording: Recording) -> None:
        def fail(trace: Trace) -> None:
            raise RingBufferError("no memory")

        with monkeypatch.context() as patch:
            patch.setattr(Trace, "allocate", fail)
            with pytest.raises(RingBufferError):
                await recording.trace_for(owner(1))
        trace = await recording.trace_for(owner(1))
        assert trace.path == "ust/pid/prog-1000-20261122-200338"

    play(scenario)


def test_a_trace_ends_with_its_process_and_leaves_its_losses(play: Callable[..., None]) -> None:
    async def scenario(recording: Recording) -> None:
        consumer = Consumer()
        recording.attach(consumer.subscription)
        traces = [await recording.trace_for(owner(number)) for number in (1, 2)]
        assert [m.pid for m in consumer.told if isinstance(m, TraceAdded)] == [1000, 1000]
        lose(traces[0], 5)
        recording.process_gone(owner(1))
        recording.process_gone(owner(99))
        await until(consumer.ended)
        assert consumer.ended() == [traces[0].id]
        # The consumer reads it still.
        assert len(recording.info([]).streams) == 4 * possible_cpus()
        closed = TraceClosed(trace=traces[0].id, stats=ConsumerStats(packets=7))
        recording.trace_closed(consumer.subscription, closed)
        info = recording.info([])
        assert {stream.trace for stream in info.streams} == {traces[1].id}
        lose(traces[1], 3)
        assert [channel.discarded for channel in recording.info([]).channels] == [8, 0]
        assert info.consumer
        assert info.consumer.stats.packets == 7
        # As at its own end: both have the declarations of two channels.
        traces[1].metadata.complete(traces[1].channels)
        # Equal layouts once, those of processes that are gone among them.
        (description,) = recording.descriptions()
        assert [description.path, *description.also] == [trace.path for trace in traces]

    play(scenario)


def test_only_an_ended_trace_can_be_closed(play: Callable[..., None]) -> None:
    """What a consumer says is checked: a living process keeps its memory."""

    async def scenario(recording: Recording) -> None:
        consumer = Consumer()
        recording.attach(consumer.subscription)
        trace = await recording.trace_for(owner(1))
        closed = TraceClosed(trace=trace.id, stats=ConsumerStats())
        recording.trace_closed(consumer.subscription, closed)
        assert recording.traces
        recording.process_gone(owner(1))
        await until(consumer.ended)
        recording.trace_closed(Consumer().subscription, closed)
        assert recording.traces
        recording.trace_closed(consumer.subscription, closed)
        assert not recording.traces

    play(scenario)


def test_without_a_consumer_an_ended_trace_waits(play: Callable[..., None]) -> None:
    async def scenario(recording: Recording) -> None:
        trace = await recording.trace_for(owner(1))
        recording.process_gone(owner(1))
        await until(lambda: trace.ended)
        assert recording.traces
        consumer = Consumer()
        recording.attach(consumer.subscription)
        assert consumer.ended() == [trace.id]

    play(scenario)


def test_whoever_maps_the_memory_may_write(play: Callable[..., None]) -> None:
    """A forked child goes on; a reader does not count."""

    async def scenario(recording: Recording) -> None:
        trace = await recording.trace_for(owner(1))
        read = await recording.trace_for(owner(2))
        children = [mapper(trace), mapper(read)]
        consumer = Consumer(pid=children[1].pid)
        recording.attach(consumer.subscription)
        try:
            recording.process_gone(owner(1))
            recording.process_gone(owner(2))
            await until(lambda: read.ended)
            assert not trace.ended
        finally:
            for child in children:
                child.communicate()
        await until(lambda: trace.ended)
        assert consumer.ended() == [read.id, trace.id]

    play(scenario)


def mapper(trace: Trace) -> subprocess.Popen[bytes]:
    fd = next(trace.streams).fd
    child = subprocess.Popen(
        [sys.executable, "-c", MAPPER, str(fd)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[fd],
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"mapped\n"
    return child


def produced(recording: Recording) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for stream in recording.info([]).streams:
        found.setdefault(stream.channel, set()).add(stream.produced)
    return found


def test_switch_timers_run_while_nobody_reads(play: Callable[..., None]) -> None:
    async def scenario(recording: Recording) -> None:
        # Open from the beginning: a packet with nothing but its header of 84 bytes.
        await recording.trace_for(owner(1))
        await until(lambda: produced(recording) == {"c": {4096}, "d": {84}})
        # The final switch is everybody's.
        await recording.switch()
        assert produced(recording) == {"c": {8192}, "d": {4096}}

    play(scenario, switch_timer_us=1)


def test_a_consumer_switches_by_itself(play: Callable[..., None]) -> None:
    async def scenario(recording: Recording) -> None:
        recording.attach(Consumer().subscription)
        await recording.trace_for(owner(1))
        await recording.switch()
        await asyncio.sleep(0.05)  # five periods
        assert produced(recording) == {"c": {84}, "d": {84}}

    play(scenario, switch_timer_us=1)


def test_memory_in_use_outlives_its_trace(play: Callable[..., None]) -> None:
    """A thread that works on a descriptor must not find another file behind it."""

    async def scenario(recording: Recording) -> None:
        trace = await recording.trace_for(owner(1))
        inode = os.fstat(next(trace.streams).fd).st_ino
        with trace.kept():
            recording.close()
            assert trace.closed
            assert os.fstat(next(trace.streams).fd).st_ino == inode
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(next(trace.streams).fd)

    play(scenario)


def kept_session(all_kept: AllKept, quotas: Quotas, channels: int = 1) -> Recording:
    session = Session(name="s", uid=UID, gid=os.getegid(), output="", snapshot=True)
    for number in range(channels):
        session.add_channel(
            f"c{number}", ChannelOptions(subbuf_size=4096, num_subbuf=2, buffers="pid")
        )
    session.step("start")
    return Recording(session, quotas, all_kept)


async def ended(recording: Recording, number: int) -> Trace:
    trace = await recording.trace_for(owner(number))
    recording.process_gone(owner(number))
    await until(lambda: trace.ended)
    return trace


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "_LOOK_SECONDS", 0.02)


@pytest.mark.usefixtures("looking")
def test_a_program_gets_the_memory_of_those_that_ended_in_other_sessions() -> None:
    async def scenario() -> None:
        everywhere = AllKept()
        quotas = Quotas()
        probe = kept_session(everywhere, quotas)
        size = (await probe.trace_for(owner(1))).size
        probe.close()
        quotas = Quotas(Limits(memory=3 * size))
        one, two = (kept_session(everywhere, quotas) for _ in range(2))
        old = [await ended(one, number) for number in range(2)]
        await two.trace_for(owner(2))
        assert [trace.closed for trace in old] == [False, False]
        await two.trace_for(owner(3))
        assert [trace.closed for trace in old] == [True, False]
        # One that cannot have enough takes nothing from anybody.
        large = kept_session(everywhere, quotas, channels=3)
        with pytest.raises(QuotaError):
            await large.trace_for(owner(4))
        assert [trace.closed for trace in old] == [True, False]
        assert quotas.taken("memory", UID) == 3 * size
        for each in (one, two, large):
            each.close()

    asyncio.run(scenario())


@pytest.mark.usefixtures("looking")
def test_a_program_gets_the_descriptors_of_those_that_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        everywhere = AllKept()
        one, two = (kept_session(everywhere, Quotas()) for _ in range(2))
        old = [await ended(one, number) for number in range(3)]
        allocate = Trace.allocate

        def scarce(trace: Trace) -> None:
            if not old[1].closed:
                raise DescriptorsError("no file descriptors left for buffers")
            allocate(trace)

        monkeypatch.setattr(Trace, "allocate", scarce)
        made = await two.trace_for(owner(7))
        assert list(made.streams)
        assert [trace.closed for trace in old] == [True, True, False]
        # Where nobody has any, that is the reason.
        monkeypatch.setattr(old[1], "closed", False)
        with pytest.raises(DescriptorsError):
            await two.trace_for(owner(8))
        monkeypatch.undo()
        old[1].closed = True
        for each in (one, two):
            each.close()

    asyncio.run(scenario())
