# SPDX-License-Identifier: MIT
"""Limits of one uid: refused in a line, and nothing else is touched."""

from __future__ import annotations

import pytest
from helpers.apps import Apps
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

from ustconsumer.errors import CommandError
from ustconsumer.paths import possible_cpus
from ustconsumer.protocol.control import ChannelOptions


def test_one_session_more_than_allowed_is_refused(rundir: Rundir) -> None:
    with running_registry(rundir, "--max-sessions", "2") as registry:
        for name in ("one", "two"):
            registry.client.create(name, str(rundir.home / name))
        with pytest.raises(CommandError, match="2 sessions and may have 2"):
            registry.client.create("three", str(rundir.home / "three"))
        assert {each.name for each in registry.client.sessions()} == {"one", "two"}
        registry.client.session("one").destroy()
        registry.client.create("three", str(rundir.home / "three"))


def test_one_application_more_than_allowed_is_refused_and_named(rundir: Rundir, apps: Apps) -> None:
    stop = rundir.home / "stop"
    with running_registry(rundir, "--max-applications", "1") as registry:
        first = rundir.start([apps.flood, "1", "--wait-start", str(stop)])
        until(lambda: registry.applications(), "the first registers")
        second = rundir.start([apps.flood, "1", "--wait-start", str(stop)])
        until(lambda: second.pid in registry.applications(), "the second is refused")
        known = registry.applications()
        assert known[first.pid].state in ("registering", "registered")
        assert known[second.pid].state == "refused"
        assert "1 applications and may have 1" in known[second.pid].reason
        stop.touch()
        assert (first.wait(), second.wait()) == (0, 0)
        until(lambda: not registry.applications(), "both are gone")
        third = rundir.start([apps.sleeper, "1"])
        until(lambda: third.pid in registry.applications(), "the third registers")
        assert registry.applications()[third.pid].state != "refused"


def test_buffers_beyond_the_limit_are_refused_with_the_reason(rundir: Rundir, apps: Apps) -> None:
    stop = rundir.home / "stop"
    with running_registry(rundir, "--max-memory", "1M") as registry:
        session = registry.client.create("big", str(rundir.home / "big"))
        session.enable_channel("channel0", ChannelOptions(subbuf_size=1 << 20, num_subbuf=4))
        session.enable_event("*")
        session.start()
        program = rundir.start([apps.flood, "1", "--wait-start", str(stop)])
        until(
            lambda: (app := registry.applications().get(program.pid)) and app.reason,
            "the reason is shown",
        )
        app = registry.applications()[program.pid]
        assert "bytes of buffers and may have 1048576" in app.reason
        session.destroy()
        assert registry.applications()[program.pid].reason == ""
        small = registry.client.create("small", str(rundir.home / "small"))
        small.enable_channel("channel0", ChannelOptions(subbuf_size=4096, num_subbuf=2))
        small.enable_event("flood:*")
        assert small.start() == []
        stop.touch()
        assert program.wait() == 0
        small.destroy()


def limit_for_one() -> str:
    """Return a limit that has room for `OPTIONS` once, not twice."""
    return str(3 * OPTIONS.subbuf_size * OPTIONS.num_subbuf * possible_cpus() // 2)


OPTIONS = ChannelOptions(subbuf_size=1 << 18, num_subbuf=4, buffers="pid")


def test_what_one_session_gives_back_another_gets(rundir: Rundir, apps: Apps) -> None:
    """Also what was refused before, and nobody asks for again."""
    with running_registry(rundir, "--max-memory", limit_for_one()) as registry:
        program = rundir.start([apps.sleeper, "1"])
        until(lambda: program.pid in registry.applications(), "the program registers")
        for name in ("first", "second"):
            session = registry.client.create(name, str(rundir.home / name))
            session.enable_channel("channel0", OPTIONS)
            session.enable_event("*")
            session.start(consumer=None)
        known = registry.applications()[program.pid]
        assert known.sessions == ["first"]
        assert "session second: " in known.reason
        registry.client.session("first").destroy()
        until(
            lambda: registry.applications()[program.pid].sessions == ["second"],
            "there is room for the second one now",
        )
        assert registry.applications()[program.pid].reason == ""


def test_what_a_program_had_another_gets(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir, "--max-memory", limit_for_one()) as registry:
        session = registry.client.create("s", str(rundir.home / "trace"))
        session.enable_channel("channel0", OPTIONS)
        session.enable_event("*")
        session.start()
        programs = [rundir.start([apps.sleeper, "1"]) for _ in range(2)]
        until(
            lambda: (
                sorted(bool(app.sessions) for app in registry.applications().values())
                == [False, True]
            ),
            "one is recorded",
        )
        until(
            lambda: any(app.reason for app in registry.applications().values()),
            "the other is told why not",
        )
        (recorded,) = (app.pid for app in registry.applications().values() if app.sessions)
        first, other = sorted(programs, key=lambda program: program.pid != recorded)
        first.kill()
        until(
            lambda: registry.applications()[other.pid].sessions == ["s"],
            "once its trace is complete, the other one is recorded",
        )
        session.destroy()
