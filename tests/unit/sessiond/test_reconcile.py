# SPDX-License-Identifier: MIT
"""What an application is sent, in which order; the application is the test."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import pytest

from sessiond import reconcile
from sessiond.applications import Application
from sessiond.links import CommandRefusedError
from sessiond.notify import answer
from sessiond.reconcile import Reconciler
from sessiond.recording import Recording
from sessiond.registry import Registry, Session
from sessiond.sockets import Peer
from sessiond.subscription import Subscription
from sessiond.traces import Trace
from ustconsumer.client.filter import compile_filter
from ustconsumer.ctf.metalog import MetadataLogReader
from ustconsumer.ctf.types import Field, Integer
from ustconsumer.paths import possible_cpus
from ustconsumer.protocol.application import (
    ChannelRequest,
    Command,
    EventRequest,
    Registration,
    Reply,
)
from ustconsumer.protocol.control import (
    ChannelOptions,
    EventInfo,
    Message,
    StreamAdded,
    StreamReady,
)

UID = os.geteuid()
STREAMS = ["STREAM"] * possible_cpus()
I32 = Integer(32, True)


class Link:
    """Answers every command; handles count up. Keeps what comes with CHANNEL open."""

    def __init__(self, tracer: bytes, order: list[tuple[Link, str]]) -> None:
        self._order = order
        self.names: list[str] = []
        self.commands: list[Command] = []
        self.wakeups: list[int] = []
        #: the program's main runs
        self.done = asyncio.Event()
        #: command that is not answered
        self.stopped_at = ""
        self._tracer = tracer

    async def run(self, command: Command) -> Reply:
        self.commands.append(command)
        self.names.append(command.name)
        self._order.append((self, command.name))
        # As with a socket, others go on meanwhile.
        await asyncio.sleep(0)
        if command.name == "CHANNEL":
            # As a descriptor that was sent: the same open file description.
            self.wakeups.append(os.dup(command.steps[-1].fds[-1]))
        if command.name == self.stopped_at:
            await asyncio.Future()
        if command.name == "REGISTER_DONE":
            self.done.set()
        payload = self._tracer if command.name == "TRACER_VERSION" else b""
        return Reply(command.handle, command.number, 0, len(self.commands), payload)


class World:
    """A registry with one session, and applications it serves."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.session = Session(name="s", uid=UID, gid=os.getegid(), output="")
        channel = self.session.add_channel("c", ChannelOptions(subbuf_size=4096, num_subbuf=2))
        self.session.add_contexts("c", ["vpid"])
        self.session.add_rule(channel, EventInfo(pattern="p:*"))
        self.registry.add(self.session)
        self.recording = Recording(self.session)
        self.closed = False
        self.links: list[Link] = []
        #: commands of all programs
        self.order: list[tuple[Link, str]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._apps: list[Application] = []
        self._reconciler = Reconciler(
            self.registry,
            lambda session: self.recording,
            lambda app, session: not session.untracked(app.program),
        )

    def register(self) -> tuple[Application, Link]:
        number = 1000 + len(self._apps)
        claims = Registration(9, 0, number, 1, UID, 0, 64, {"long": 8}, 0, "app")
        app = Application(Peer(number, UID, 0), claims, -1)
        # Three u32, major, minor, patch level (facts, application protocol 4).
        link = Link(
            b"".join(part.to_bytes(4, "little") for part in (2, 13, 5)).ljust(288, b"\0"),
            self.order,
        )
        app.command = link  # type: ignore[assignment]
        self._apps.append(app)
        self.links.append(link)
        self._tasks.append(asyncio.ensure_future(self._reconciler.serve(app)))
        return app, link

    async def verb(self, verb: str) -> None:
        """Change the session and wait until every application has followed."""
        self.session.step(verb)
        await self.settled()

    async def settled(self) -> None:
        revision = self.registry.changed()
        for app in self._apps:
            app.wake.set()
        await asyncio.wait_for(
            asyncio.gather(*(app.wait_settled(revision) for app in self._apps)), 60
        )

    async def leave(self) -> None:
        """Have the last program end."""
        app, task = self._apps.pop(), self._tasks.pop()
        app.leave()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for link in self.links:
            for fd in link.wakeups:
                os.close(fd)
        if not self.closed:
            self.recording.close()


Scenario = Callable[[World], Coroutine[Any, Any, None]]


@pytest.fixture
def play() -> Iterator[Callable[[Scenario], None]]:
    """Run a scenario on a loop; no descriptor of it may be left."""

    async def run(scenario: Scenario) -> None:
        world = World()
        try:
            await scenario(world)
        finally:
            await world.end()

    gc.collect()  # what other tests of this process left
    before = len(os.listdir("/proc/self/fd"))
    yield lambda scenario: asyncio.run(run(scenario))
    assert len(os.listdir("/proc/self/fd")) <= before


def test_one_life(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        app, link = world.register()

        def new() -> list[str]:
            names, link.names = link.names, []
            return names

        await world.settled()
        assert new() == ["TRACER_VERSION", "REGISTER_DONE"]
        # Contexts and events after all streams; the session last, then every probe has ended
        # that did not see it: what `start` returned to is recorded.
        await world.verb("start")
        assert new() == [
            *("SESSION", "CHANNEL", *STREAMS, "CONTEXT", "EVENT", "ENABLE", "ENABLE"),
            "WAIT_QUIESCENT",
        ]
        handles = {command.name: command.handle for command in link.commands}
        assert handles["ENABLE"] == app.sessions[world.session.id].handle
        # A probe that had begun before DISABLE would write behind the final switch.
        await world.verb("stop")
        assert new() == ["DISABLE", "WAIT_QUIESCENT"]
        await world.verb("start")
        assert new() == ["ENABLE", "WAIT_QUIESCENT"]
        await world.verb("stop")
        new()
        # Events before channels before the session (facts, application protocol 4).
        assert world.recording.info([]).problems == []
        await world.verb("destroy")
        assert new() == ["RELEASE", "RELEASE", "RELEASE", "WAIT_QUIESCENT"]
        assert app.sessions == {}

    play(scenario)


def test_a_rule_is_enabled_with_its_filter_or_not_at_all(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(world: World) -> None:
        event = EventInfo(pattern="f:*", filter="n == 3", exclusions=["f:x*"])
        world.session.add_rule(world.session.channels[0], event)
        _, link = world.register()
        _, other = world.register()
        answers = other.run

        async def refusing(command: Command) -> Reply:
            reply = await answers(command)
            if command.name == "FILTER":
                raise CommandRefusedError(command, -1027)
            return reply

        other.run = refusing  # type: ignore[method-assign]
        await world.verb("start")
        at = link.names.index("FILTER")
        # As lttng-sessiond; a rule is born disabled, so nothing passes meanwhile.
        assert link.names[at - 1 : at + 4] == ["EVENT", "FILTER", "EXCLUSION", "ENABLE", "ENABLE"]
        program = compile_filter("n == 3")
        filtered = link.commands[at]
        assert program.code in [step.data for step in filtered.steps]
        # What it is a filter of, and what is enabled then: the event that was made last.
        assert filtered.handle == link.commands[at + 2].handle == at
        enabled = [command.handle for command in other.commands if command.name == "ENABLE"]
        assert other.names.index("FILTER") not in enabled
        assert len(enabled) == 2

    play(scenario)


def test_a_program_that_comes_later_is_set_up_before_its_main(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(world: World) -> None:
        await world.verb("start")
        _, link = world.register()
        await world.settled()
        assert link.names[-2:] == ["WAIT_QUIESCENT", "REGISTER_DONE"]

    play(scenario)


def test_main_does_not_wait_for_slow_buffers(
    play: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would give up on us after 3 s; what is missing follows behind the running program."""
    monkeypatch.setattr(reconcile, "_SETUP_SECONDS", 0.0)

    async def scenario(world: World) -> None:
        allocated = asyncio.Event()
        trace_for = world.recording.trace_for

        async def slow(*arguments: Any) -> Trace:
            await allocated.wait()
            return await trace_for(*arguments)

        monkeypatch.setattr(world.recording, "trace_for", slow)
        world.session.step("start")
        _, link = world.register()
        await asyncio.wait_for(link.done.wait(), 60)
        assert link.names == ["TRACER_VERSION", "REGISTER_DONE"]
        allocated.set()
        await world.settled()
        assert link.names[-2:] == ["ENABLE", "WAIT_QUIESCENT"]
        # No counter knows of the events before that.
        (line,) = world.recording.info([]).problems
        assert line.startswith("1 program ran or ended before")
        assert line.endswith("(last of application 'app' (pid 1000))")

    play(scenario)


def test_a_program_that_ended_before_it_had_buffers_is_missed(
    play: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(world: World) -> None:
        asked = asyncio.Event()

        async def never(*arguments: Any) -> Trace:
            asked.set()
            return await asyncio.Future()

        world.session.step("start")
        with monkeypatch.context() as patch:
            patch.setattr(world.recording, "trace_for", never)
            _, gone = world.register()
            await asyncio.wait_for(asked.wait(), 60)
            await world.leave()
        assert "REGISTER_DONE" not in gone.names
        world.register()
        await world.settled()
        (line,) = world.recording.incomplete()
        assert line.startswith("1 program ran or ended before")

    play(scenario)


def test_programs_that_start_together_are_set_up_in_turn(
    play: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once would be ready at one time, and that may be too late for all."""
    monkeypatch.setattr(reconcile, "_TURNS", 1)
    monkeypatch.setattr(reconcile, "_TURN_SECONDS", 60.0)

    async def scenario(world: World) -> None:
        world.session.step("start")
        links = [world.register()[1] for _ in range(3)]
        await world.settled()
        # From the first to the last command of one program's set-up nobody else has any.
        order = [link for link, name in world.order if name in ("SESSION", "EVENT", "ENABLE")]
        assert order == [link for link in links for _ in range(4)]

    play(scenario)


def test_a_program_that_does_not_answer_gives_its_turn_away(
    play: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "_TURNS", 1)
    monkeypatch.setattr(reconcile, "_TURN_SECONDS", 0.01)

    async def scenario(world: World) -> None:
        world.session.step("start")
        _, stopped = world.register()
        stopped.stopped_at = "CHANNEL"
        _, link = world.register()
        await asyncio.wait_for(link.done.wait(), 60)
        assert stopped.names[-1] == "CHANNEL"
        # It had one turn to give away, not two: a third waits as it should.
        await world.leave()
        _, third = world.register()
        await asyncio.wait_for(third.done.wait(), 60)

    play(scenario)


def test_each_program_has_a_wake_up_pipe_of_its_own(play: Callable[[Scenario], None]) -> None:
    """One that makes its end blocking must not stop the writers of the others."""

    async def scenario(world: World) -> None:
        _, first = world.register()
        _, second = world.register()
        await world.verb("start")
        (mine,), (other,) = first.wakeups, second.wakeups
        os.set_blocking(mine, True)
        assert not os.get_blocking(other)
        assert fcntl.fcntl(other, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        os.write(other, b"x")
        assert os.read(world.recording.pipe.read_end, 10) == b"x"

    play(scenario)


def test_buffers_come_to_the_program_after_the_consumer(play: Callable[[Scenario], None]) -> None:
    """No event is written that nobody reads: the stream is mapped before anybody writes."""

    async def scenario(world: World) -> None:
        announced = asyncio.Queue[Message]()
        consumer = Subscription(
            Peer(1, UID, 0), "disk", True, lambda m, fds: announced.put_nowait(m), lambda uid: True
        )
        world.recording.attach(consumer)
        _, link = world.register()
        starting = asyncio.ensure_future(world.verb("start"))
        streams = []
        while len(streams) < len(STREAMS):
            message = await asyncio.wait_for(announced.get(), 60)
            if isinstance(message, StreamAdded):
                streams.append(message.stream)
        for stream in streams:
            for _ in range(10):
                await asyncio.sleep(0)
            assert "SESSION" not in link.names
            consumer.ready(StreamReady(stream=stream))
        await starting
        assert "STREAM" in link.names

    play(scenario)


def test_what_is_answered_is_in_the_metadata(play: Callable[[Scenario], None]) -> None:
    """With the answer the program may write; a reader of its events must find their names."""

    async def scenario(world: World) -> None:
        app, _ = world.register()
        await world.verb("start")
        entry = app.sessions[world.session.id]
        channel = entry.channels[0]
        reader = MetadataLogReader(entry.trace.metadata.reopen_read_only())
        reader.read()
        fields = (Field("vpid", I32),)
        answer(app, ChannelRequest(entry.handle, channel.handle, fields))
        assert b"stream {" in reader.read()
        answer(app, EventRequest(entry.handle, channel.handle, "p:e", 13, "int, a", fields, ""))
        assert b'name = "p:e"' in reader.read()
        reader.header.close()
        reader.close()

    play(scenario)


def test_streams_of_a_program_that_never_asked_are_declared(
    play: Callable[[Scenario], None],
) -> None:
    """It died between its buffers and its first request: the consumer has their files."""

    async def scenario(world: World) -> None:
        app, _ = world.register()
        await world.verb("start")
        metadata = app.sessions[world.session.id].trace.metadata
        reader = MetadataLogReader(metadata.reopen_read_only())
        assert b"stream {" not in reader.read()
        world.recording.close()
        world.closed = True
        assert b"stream {\n\tid = 0;" in reader.read()
        reader.header.close()
        reader.close()

    play(scenario)


def test_each_program_records_its_state_again_once(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        _, link = world.register()
        await world.verb("start")
        world.session.statedumps += 1
        await world.settled()
        # Who comes now records it by itself: when its session is enabled.
        _, late = world.register()
        await world.settled()
        await world.verb("stop")
        await world.verb("start")
        assert link.names.count("SESSION_STATEDUMP") == 1
        at = link.names.index("SESSION_STATEDUMP")
        session = link.names.index("SESSION") + 1
        assert link.commands[at].handle == session
        assert "SESSION_STATEDUMP" not in late.names

    play(scenario)


def test_programs_of_a_buffer_record_the_same_contexts_or_nothing(
    play: Callable[[Scenario], None],
) -> None:
    """One that cannot have a context is not recorded in that channel, in the others it is.

    As liblttng-ust: at its first ENABLE a session asks for each of its channels, with the
    contexts that it has; a refusal is the end of the ENABLE.
    """

    def ask(world: World, app: Application, link: Link, refused: str) -> None:
        answers = link.run
        contexts: dict[int, list[str]] = {}
        asked: set[int] = set()

        async def run(command: Command) -> Reply:
            reply = await answers(command)
            if command.name == "CHANNEL":
                contexts[reply.ret_val] = []
            if command.name == "CONTEXT":
                name = world.session.channels[0].contexts[len(contexts[command.handle])]
                if name == refused:
                    raise CommandRefusedError(command, -1024)
                contexts[command.handle].append(name)
            entry = app.sessions.get(world.session.id)
            if command.name == "ENABLE" and entry and command.handle == entry.handle:
                for channel in (each.handle for each in entry.channels.values()):
                    if channel in asked:
                        continue
                    fields = tuple(Field(name, I32) for name in contexts[channel])
                    raw = answer(app, ChannelRequest(entry.handle, channel, fields))
                    # u32 command, i32 return code (facts, application protocol 5.2).
                    if int.from_bytes(raw[4:8], "little", signed=True):
                        raise CommandRefusedError(command, -1027)
                    asked.add(channel)
            return reply

        link.run = run  # type: ignore[method-assign]

    async def scenario(world: World) -> None:
        options = ChannelOptions(subbuf_size=4096, num_subbuf=2)
        world.session.add_channel("d", options)
        first, link = world.register()
        ask(world, first, link, "")
        await world.verb("start")
        # Later programs: with, and without the context that the first one has.
        same, link = world.register()
        ask(world, same, link, "")
        other, link = world.register()
        ask(world, other, link, "vpid")
        await world.settled()
        for app in (first, same):
            entry = app.sessions[world.session.id]
            assert (sorted(entry.channels), entry.active) == ([0, 1], True)
            assert app.remarks_on(world.session) == []
        entry = other.sessions[world.session.id]
        assert (list(entry.channels), entry.active, entry.problem) == ([1], True, "")
        remarks = other.remarks_on(world.session)
        assert any("channel c: not recorded" in line and "lacks vpid" in line for line in remarks)
        # It has let go of what it had at first, in order, and of nothing twice.
        released = [command.handle for command in link.commands if command.name == "RELEASE"]
        assert len(released) == len(set(released)) == 4
        (line,) = world.recording.info([]).problems
        assert line.startswith("1 program is recorded without context vpid of channel c: ")
        await world.verb("stop")
        await world.verb("destroy")
        assert other.unfit == {}

    play(scenario)


def test_a_disabled_channel_is_so_before_its_session_records(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(world: World) -> None:
        _, link = world.register()
        await world.verb("start")
        world.session.channels[0].enabled = False
        await world.settled()
        assert link.names[-1] == "DISABLE"
        channel = link.names.index("CHANNEL") + 1
        assert link.commands[-1].handle == channel
        # A program that comes now has it disabled before it could record.
        _, late = world.register()
        await world.settled()
        session, channel = late.names.index("SESSION") + 1, late.names.index("CHANNEL") + 1
        order = [(each.name, each.handle) for each in late.commands]
        assert order.index(("DISABLE", channel)) < order.index(("ENABLE", session))
        world.session.channels[0].enabled = True
        await world.settled()
        assert [each.names[-1] for each in (link, late)] == ["ENABLE", "ENABLE"]

    play(scenario)


def test_who_is_not_tracked_keeps_what_it_has_and_records_nothing(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(world: World) -> None:
        app, link = world.register()
        other, _ = world.register()
        await world.verb("start")
        tracker = world.session.trackers["vpid"]
        before = len(link.names)
        tracker.add(str(other.registration.pid))
        await world.settled()
        # What had begun has ended when the verb returns.
        assert link.names[before:] == ["DISABLE", "WAIT_QUIESCENT"]
        entry = app.sessions[world.session.id]
        assert (link.commands[before].handle, entry.active) == (entry.handle, False)
        assert other.sessions[world.session.id].active
        # One that comes now is given nothing at all.
        late, new = world.register()
        await world.settled()
        assert new.names == ["TRACER_VERSION", "REGISTER_DONE"]
        # What changed meanwhile comes before it records again.
        world.session.channels[0].rules[0].info.enabled = False
        await world.settled()
        before = len(link.names)
        tracker.add("")
        await world.settled()
        assert link.names[before:] == ["DISABLE", "ENABLE", "WAIT_QUIESCENT"]
        assert "STREAM" in new.names
        assert late.sessions[world.session.id].active
        # Left out between a stop and a start, it is not started.
        await world.verb("stop")
        tracker.remove("")
        before = len(link.names)
        await world.verb("start")
        assert link.names[before:] == []
        await world.verb("destroy")
        assert app.sessions == late.sessions == {}

    play(scenario)


def test_a_program_that_stood_still_follows_every_change_when_it_goes_on(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(world: World) -> None:
        app, link = world.register()
        await world.verb("start")
        go_on = asyncio.Event()
        answers = link.run

        async def run(command: Command) -> Reply:
            await go_on.wait()
            return await answers(command)

        link.run = run  # type: ignore[method-assign]
        before = len(link.names)
        channel = world.session.channels[0]
        rule = channel.rules[0]
        rule.info.enabled = False
        changing = asyncio.ensure_future(world.settled())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not changing.done()
        # As its link says after a while: nobody waits any longer.
        app.slow(True)
        await changing
        for enabled in (True, False):
            rule.info.enabled = enabled
            await world.settled()
        world.session.add_rule(channel, EventInfo(pattern="q:*"))
        world.session.trackers["vuid"].remove("")
        await world.settled()
        assert len(link.names) == before
        go_on.set()
        app.slow(False)
        await world.settled()
        # It heard of the first change; for the rest only how it is counts.
        assert link.names[before:] == ["DISABLE", "DISABLE", "WAIT_QUIESCENT"]
        assert not app.sessions[world.session.id].active
        world.session.trackers["vuid"].add("")
        await world.settled()
        assert link.names[-4:] == ["EVENT", "ENABLE", "ENABLE", "WAIT_QUIESCENT"]

    play(scenario)
