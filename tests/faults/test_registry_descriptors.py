# SPDX-License-Identifier: MIT
"""A registry that has no descriptors left serves whom it knows, and names the others."""

from __future__ import annotations

import resource
import socket
import subprocess
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir

from ustconsumer.client.registry import connect

LIMIT = 256
#: More than there are descriptors for: each takes three.
PROGRAMS = LIMIT // 5


def limit(registry: RunningRegistry, descriptors: int) -> None:
    """Let a running registry have so many and no more."""
    hard = resource.prlimit(registry.process.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(registry.process.pid, resource.RLIMIT_NOFILE, (descriptors, hard))


def drtrace(rundir: Rundir, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a verb over a connection of its own."""
    result: subprocess.CompletedProcess[str] = rundir.drtrace("--rundir", rundir.path, *arguments)
    assert result.returncode == 0, result
    return result


@pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")
def test_programs_beyond_it_are_named_and_verbs_go_on(rundir: Rundir, apps: Apps) -> None:
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        limit(registry, LIMIT)
        ready = [rundir.home / f"ready-{number}" for number in range(PROGRAMS)]
        programs = [rundir.start([apps.sleeper, "5", "--ready", path]) for path in ready]
        until(
            lambda: {each.pid for each in programs} <= registry.applications().keys(),
            "every program is taken or refused",
        )
        until(lambda: all(path.exists() for path in ready), "every program runs")
        states = registry.applications()
        refused = {pid for pid, app in states.items() if app.state == "refused"}
        taken = {each.pid for each in programs} - refused
        assert refused
        assert taken
        reasons = {states[pid].reason for pid in refused}
        assert reasons == {"the registry has no file descriptors left: raise its limit (ulimit -n)"}
        # Each is said once.
        assert len(registry.log()) == len(refused)

        drtrace(rundir, "create", "s", "-o", str(output))
        drtrace(rundir, "enable-event", "*")
        assert drtrace(rundir, "start").stderr == ""
        assert "s [active]" in drtrace(rundir, "list").stdout
        states = registry.applications()
        assert {pid for pid, app in states.items() if app.sessions == ["s"]} == taken

        # Their descriptors are free again: whoever comes then is taken.
        # Those that were refused go first: they come again every few seconds, and one that
        # found room would be ended while it is set up, which `stop` says.
        for each in sorted(programs, key=lambda program: program.pid not in refused):
            each.terminate()
            assert each.wait() == 0
        until(lambda: not registry.applications(), "they are gone")
        assert rundir.run([apps.flood, "1000"]).returncode == 0
        assert drtrace(rundir, "stop").stderr == ""
        drtrace(rundir, "destroy")
    lines = babeltrace2_text(output).lines
    assert sum("flood:tick" in line for line in lines) == 1000


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_buffers_that_cannot_be_made_are_a_reason_until_they_can(
    rundir: Rundir, apps: Apps
) -> None:
    with running_registry(rundir) as registry:
        program = rundir.start([apps.sleeper, "1"])
        until(lambda: program.pid in registry.applications(), "it registers")
        limit(registry, 128)
        # A stream for each CPU and channel: more than there are descriptors for.
        many = registry.client.create("many", rundir.home / "many")
        for number in range(100):
            many.enable_channel(f"c{number}")
        (warning,) = many.start(consumer=None)
        reason = "session many: no file descriptors left for buffers"
        assert warning.endswith(reason)
        assert registry.applications()[program.pid].reason == reason
        few = registry.client.create("few", rundir.home / "few")
        few.enable_event("*")
        assert few.start(consumer=None) == []
        # Given back: none of its streams is kept.
        assert len(list(Path(f"/proc/{registry.process.pid}/fd").iterdir())) < 64
        many.destroy()
        assert registry.applications()[program.pid].reason == ""
        assert registry.applications()[program.pid].sessions == ["few"]


def test_without_any_left_the_known_are_served_and_the_others_wait(rundir: Rundir) -> None:
    with running_registry(rundir) as registry:
        registry.client.create("s", rundir.home / "trace")
        before = len(list(Path(f"/proc/{registry.process.pid}/fd").iterdir()))
        limit(registry, before + 3)
        crowd = []
        try:
            for _ in range(8):
                crowd.append(socket.socket(socket.AF_UNIX))
                crowd[-1].connect(str(rundir.path / "drtrace.sock"))
            until(lambda: registry.log(), "it says that it cannot accept")
            assert [each.name for each in registry.client.sessions()] == ["s"]
            waiting = rundir.start_drtrace(
                "--rundir", rundir.path, "list", stdout=subprocess.PIPE, text=True
            )
        finally:
            for sock in crowd:
                sock.close()
        said, _ = waiting.communicate()
        assert "s [inactive]" in said
        with connect(rundir.path) as another:
            assert [each.name for each in another.sessions()] == ["s"]
        assert len([line for line in registry.log() if "cannot accept" in line]) == 1


def test_a_recorded_program_has_the_limit_of_who_starts_it(rundir: Rundir) -> None:
    """The daemons that record it have more, for themselves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    mine = min(soft, hard - 1, 321)
    program = ["sh", "-c", "ulimit -Sn; ulimit -Hn"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (mine, hard))
    try:
        result = rundir.drtrace("record", "-o", rundir.home / "trace", "--", *program)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert result.returncode == 0, result
    assert result.stdout.splitlines()[:2] == [str(mine), str(hard)]


def test_consumers_have_as_many_as_the_system_allows(rundir: Rundir) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        with running_registry(rundir) as registry:
            session = registry.client.create("s", rundir.home / "trace")
            session.enable_event("*")
            session.start()
            consumer = session.info().consumer
            assert consumer is not None
            limits = resource.prlimit(consumer.pid, resource.RLIMIT_NOFILE)
            session.stop()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert limits == (hard, hard)
