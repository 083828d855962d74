# SPDX-License-Identifier: MIT
"""What tracing was proposed for in 2011: programs, people and registries of several uids.

On a machine of its own (`helpers.machine`), so as root only. What of this a single user can
do is tested as whoever runs the tests: `test_registration`, `test_lasting_registry`,
`test_hostile_client`, `test_snapshot_live`, `test_flight`, `test_kept_buffers`. The global
registry beside a user's own is in `test_global_registry`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import processes
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.machine import Account, Machine, own_machine
from helpers.registry import until
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

COUNT = 300


@pytest.fixture
def machine(rundir: Rundir) -> Iterator[Machine]:
    with own_machine(rundir) as made:
        yield made


@pytest.fixture
def operator(machine: Machine) -> Account:
    return machine.account("operator", tracing=True)


@pytest.fixture
def alice(machine: Machine) -> Account:
    return machine.account("alice")


@pytest.fixture
def bob(machine: Machine) -> Account:
    return machine.account("bob")


def events(directory: Path) -> Counter[str]:
    """Return how often each event is in a trace."""
    lines = babeltrace2_text(directory).lines
    return Counter(line.split(": ", 1)[0].rpartition(" ")[2] for line in lines)


def session(machine: Machine, account: Account, name: str) -> dict[str, Any]:
    listed = json.loads(machine.do(account, "--json", "list"))
    (found,) = (each for each in listed if each["name"] == name)
    return dict(found)


def sequence(directory: Path) -> list[int]:
    """Return the numbers of the events of `flood`, in their order."""
    lines = babeltrace2_text(directory).lines
    return [int(line.partition(" seq = ")[2].partition(",")[0]) for line in lines]


def flood(machine: Machine, account: Account, apps: Apps, go: Path) -> subprocess.Popen[Any]:
    """Start a program that runs, and emits when ``go`` is there."""
    ready = account.home / f"{go.name}-ready"
    options = ["--ready", str(ready), "--wait-start", str(go)]
    program = machine.start(account, [apps.flood, str(COUNT), *options])
    until(ready.exists, "the program runs")
    return program


def touch(path: Path) -> None:
    path.touch()
    path.chmod(0o644)


def begin(machine: Machine, account: Account, name: str, *events: str, create: str = "") -> Path:
    """Begin a session; return where its trace will be."""
    output = account.home / name
    machine.verbs(
        account,
        f"create {name} -o {output} {create}",
        *(f"enable-event -u -s {name} {each}" for each in events),
        f"start {name}",
    )
    return output


def finish(machine: Machine, account: Account, name: str) -> None:
    machine.verbs(account, f"stop {name}", f"destroy {name}")


def test_the_program_does_not_run_yet(
    machine: Machine, operator: Account, alice: Account, apps: Apps
) -> None:
    """It is recorded from its first event on."""
    with machine.registry(machine.root):
        output = begin(machine, operator, "early", "'flood:*'")
        assert machine.start(alice, [apps.flood, str(COUNT)]).wait() == 0
        finish(machine, operator, "early")
    assert sequence(output) == list(range(COUNT))


def test_programs_run_already_of_the_own_user_and_of_others(
    machine: Machine, operator: Account, alice: Account, bob: Account, apps: Apps
) -> None:
    go = operator.home / "go"
    with machine.registry(machine.root):
        programs = [flood(machine, account, apps, go) for account in (operator, alice, bob)]
        output = begin(machine, operator, "late", "'flood:*'")
        touch(go)
        assert [program.wait() for program in programs] == [0, 0, 0]
        finish(machine, operator, "late")
    assert events(output) == {"flood:tick": 3 * COUNT}
    uids = {str(account.uid) for account in (operator, alice, bob)}
    assert {path.name for path in (output / "ust" / "uid").iterdir()} == uids
    assert {path.stat().st_uid for path in output.rglob("*")} == {operator.uid}


def test_two_users_two_sessions_two_consumers_one_program(
    machine: Machine, operator: Account, alice: Account, apps: Apps
) -> None:
    second = machine.account("second", tracing=True)
    with machine.registry(machine.root):
        program = machine.start(
            alice, [apps.steps], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        outputs = {
            operator: begin(machine, operator, "same", "steps:tick"),
            second: begin(machine, second, "same", "steps:tock"),
        }
        consumers = [session(machine, each, "same")["consumer"]["pid"] for each in outputs]
        assert len(set(consumers)) == 2
        assert all(map(processes.alive, consumers))
        steps(program, COUNT)
        # One ends; the other one notices nothing.
        finish(machine, operator, "same")
        steps(program, COUNT)
        finish(machine, second, "same")
        program.stdin.close()
        assert program.wait() == 0
    assert events(outputs[operator]) == {"steps:tick": COUNT}
    assert events(outputs[second]) == {"steps:tock": 2 * COUNT}


def steps(program: subprocess.Popen[Any], count: int) -> None:
    program.stdin.write("step\n" * count)
    program.stdin.flush()
    for _ in range(count):
        program.stdout.readline()


def test_a_user_outside_the_group_has_a_registry_of_the_own(
    machine: Machine, operator: Account, alice: Account, bob: Account, apps: Apps
) -> None:
    """Its sessions are of own programs; those of others are the global registry's alone."""
    with machine.registry(machine.root):
        everybody = begin(machine, operator, "everybody", "'flood:*'")
        # There is none of the own yet: `create` starts it.
        output = begin(machine, alice, "mine", "'flood:*'")
        for account in (alice, bob):
            assert machine.start(account, [apps.flood, str(COUNT)]).wait() == 0
        assert "everybody" not in machine.do(alice, "list")
        assert "mine" not in machine.do(operator, "list")
        finish(machine, alice, "mine")
        finish(machine, operator, "everybody")
        assert machine.start_python(alice, "-c", _END).wait() == 0
        until(lambda: not list((alice.home / ".lttng").glob("*sock*")), "it has ended")
    assert sequence(output) == list(range(COUNT))
    assert events(everybody) == {"flood:tick": 2 * COUNT}


_END = """
from ustconsumer.client.registry import connect
connect().shutdown()
"""

_START_WITHOUT = """
import sys
from ustconsumer.client.registry import connect
with connect() as registry:
    session = registry.create("s", sys.argv[1])
    session.enable_event("flood:*")
    assert session.start(consumer=None) == []
    assert session.info().consumer is None
"""


def test_the_consumer_is_missing_and_comes(
    machine: Machine, operator: Account, alice: Account, apps: Apps
) -> None:
    """What was recorded meanwhile is in the buffers; and one that is there is used."""
    output = operator.home / "s"
    with machine.registry(machine.root):
        assert machine.start_python(operator, "-c", _START_WITHOUT, str(output)).wait() == 0
        assert machine.start(alice, [apps.flood, str(COUNT)]).wait() == 0
        machine.verbs(operator, "consume s disk")
        first = session(machine, operator, "s")["consumer"]["pid"]
        # Another start finds it there.
        machine.verbs(operator, "stop s", "start s")
        assert session(machine, operator, "s")["consumer"]["pid"] == first
        options = ["--from", str(COUNT)]
        assert machine.start(alice, [apps.flood, str(COUNT), *options]).wait() == 0
        # Killed, it has a successor.
        os.kill(first, signal.SIGKILL)
        until(
            lambda: (session(machine, operator, "s")["consumer"] or {"pid": first})["pid"] != first,
            "another consumer takes over",
        )
        options = ["--from", str(2 * COUNT)]
        assert machine.start(alice, [apps.flood, str(COUNT), *options]).wait() == 0
        finish(machine, operator, "s")
    assert sequence(output) == list(range(3 * COUNT))


def test_a_snapshot_by_a_second_consumer(
    machine: Machine, operator: Account, alice: Account, apps: Apps
) -> None:
    """While the first one goes on: what is in the buffers is in both traces."""
    with machine.registry(machine.root):
        output = begin(machine, operator, "live", "'flood:*'")
        go = alice.home / "go"
        program = flood(machine, alice, apps, go)
        consumer = session(machine, operator, "live")["consumer"]["pid"]
        touch(go)
        assert program.wait() == 0
        place = operator.home / "snapshots"
        machine.verbs(operator, f"snapshot record -s live {place}")
        assert session(machine, operator, "live")["consumer"]["pid"] == consumer
        options = ["--from", str(COUNT)]
        assert machine.start(alice, [apps.flood, str(COUNT), *options]).wait() == 0
        finish(machine, operator, "live")
    (taken,) = place.iterdir()
    assert sequence(taken) == list(range(COUNT))
    assert sequence(output) == list(range(2 * COUNT))
    assert {path.stat().st_uid for path in taken.rglob("*")} == {operator.uid}


def test_the_registry_appears_late(
    machine: Machine, operator: Account, alice: Account, apps: Apps
) -> None:
    """Programs that were there before it notice it."""
    go = alice.home / "go"
    program = flood(machine, alice, apps, go)
    with machine.registry(machine.root):
        output = begin(machine, operator, "late", "'flood:*'")
        until(
            lambda: machine.applications(operator).get(program.pid, {}).get("sessions"),
            "it is recorded",
        )
        touch(go)
        assert program.wait() == 0
        finish(machine, operator, "late")
    assert sequence(output) == list(range(COUNT))


def test_all_programs_of_a_user_share_buffers(
    machine: Machine, operator: Account, alice: Account, bob: Account, apps: Apps
) -> None:
    go = operator.home / "go"
    with machine.registry(machine.root):
        programs = [flood(machine, account, apps, go) for account in (alice, alice, bob)]
        output = operator.home / "shared"
        machine.verbs(
            operator,
            f"create shared -o {output}",
            "enable-channel -u c",
            "enable-event -u -c c 'flood:*'",
            "add-context -u -t vpid -t vuid",
            "start",
        )
        streams = session(machine, operator, "shared")["streams"]
        touch(go)
        assert [program.wait() for program in programs] == [0, 0, 0]
        finish(machine, operator, "shared")
    # For each CPU one of each user, however many programs there are.
    cpus = len(streams) // 2
    assert len(streams) == 2 * cpus
    of = {}
    for account in (alice, bob):
        place = output / "ust" / "uid" / str(account.uid) / "64-bit"
        assert len(list(place.glob("c_[0-9]*"))) <= cpus
        found = Counter(
            line.partition("vpid = ")[2].partition(",")[0]
            for line in babeltrace2_text(place).lines
            if f"vuid = {account.uid} " in line
        )
        of[account] = found
    assert of[alice] == {str(program.pid): COUNT for program in programs[:2]}
    assert of[bob] == {str(programs[2].pid): COUNT}


def test_a_flight_recorder_is_read_after_the_end_of_the_program(
    machine: Machine, operator: Account, alice: Account, apps: Apps
) -> None:
    """Nobody reads; the newest events of a program that ended, also of one that was killed."""
    with machine.registry(machine.root):
        output = operator.home / "flight"
        machine.verbs(
            operator,
            f"create flight --snapshot -o {output}",
            "enable-channel -u --overwrite --subbuf-size=4K --num-subbuf=4 c",
            "enable-event -u -c c 'flood:*'",
            "start",
        )
        assert session(machine, operator, "flight")["consumer"] is None
        pinned = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
        many = 100 * COUNT
        assert machine.start(alice, [*pinned, apps.flood, str(many)]).wait() == 0
        until(lambda: not machine.applications(operator), "it has ended")
        machine.verbs(operator, "snapshot record", "stop", "destroy")
    (taken,) = output.iterdir()
    numbers = sequence(taken)
    assert numbers == list(range(numbers[0], many))
    # Four sub-buffers of 4096 bytes; an event has 20 and more.
    assert 3 * 4096 // 40 < len(numbers) < 4 * 4096 // 16
