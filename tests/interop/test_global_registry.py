# SPDX-License-Identifier: MIT
"""The global registry and a user's own, side by side, with programs and people of several uids.

On a machine of its own (`helpers.machine`): the real one's registry is not touched.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.machine import Account, Machine, own_machine
from helpers.registry import until
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

COUNT = 200


@pytest.fixture
def machine(rundir: Rundir) -> Iterator[Machine]:
    with own_machine(rundir) as made:
        yield made


def ticks(directory: Path) -> int:
    return sum(" flood:tick: " in line for line in babeltrace2_text(directory).lines)


def record(machine: Machine, account: Account, name: str) -> Path:
    """Begin a session of a user; return where its trace will be."""
    output = account.home / name
    machine.do(account, "create", name, "-o", str(output))
    machine.do(account, "enable-event", "flood:*")
    machine.do(account, "start")
    return output


def test_a_program_registers_with_both(machine: Machine, apps: Apps) -> None:
    """An outsider has the own registry, the members of the group the global one."""
    outsider = machine.account("outsider")
    member = machine.account("member", tracing=True)
    with machine.registry(machine.root), machine.registry(outsider):
        traces = {
            account: record(machine, account, "same")
            for account in (machine.root, member, outsider)
        }
        go = outsider.home / "go"
        waiting = machine.start(outsider, [apps.flood, str(COUNT), "--wait-start", go])
        # A session of root's is of every program, one of a member's too; an outsider's of own
        # ones. Each sees own sessions only, root all: the registry is root's.
        seen = {machine.root: ["same", "same"], member: ["same"], outsider: ["same"]}
        for account, sessions in seen.items():
            until(
                lambda: machine.applications(account).get(waiting.pid, {}).get("sessions"),  # noqa: B023
                "it is recorded",
            )
            told = machine.applications(account)[waiting.pid]
            assert (told["sessions"], told["reason"]) == (sessions, "")
        go.touch()
        assert waiting.wait() == 0
        mine = machine.start(member, [apps.flood, str(COUNT)])
        assert mine.wait() == 0
        for account in traces:
            machine.do(account, "stop")
            machine.do(account, "destroy")
    assert [ticks(traces[account]) for account in traces] == [2 * COUNT, 2 * COUNT, COUNT]
    for account, output in traces.items():
        owners = {path.stat().st_uid for path in (output, *output.rglob("*"))}
        assert owners == {account.uid}
        places = {path.name for path in (output / "ust" / "uid").iterdir()}
        both = {str(outsider.uid), str(member.uid)}
        assert places == (both if account is not outsider else {str(outsider.uid)})


def test_who_may_what(machine: Machine, apps: Apps) -> None:
    outsider = machine.account("outsider")
    member = machine.account("member", tracing=True)
    with machine.registry(machine.root):
        run = Path(f"/proc/{machine.holder}/root/run/lttng")
        modes = {path.name: path.stat().st_mode & 0o777 for path in (run, *run.iterdir())}
        assert modes["lttng"] == 0o755
        assert modes["lttng-ust-sock-8"] == 0o666
        assert modes["drtrace.sock"] == 0o660
        assert (run / "drtrace.sock").stat().st_gid == machine.group_id
        # Not in the group: as if it were not there, in a line.
        refused = machine.drtrace(outsider, "-n", "create", "s")
        assert refused.returncode == 1
        assert refused.stderr == (
            "Error: No session daemon is available: no session registry at "
            f"{outsider.home}/.lttng/drtrace.sock (No such file or directory): start one with "
            "`drtrace create`\n"
        )
        elsewhere = machine.drtrace(outsider, "--rundir", "/run/lttng", "list")
        assert elsewhere.returncode == 1
        assert "Permission denied" in elsewhere.stderr
        assert elsewhere.stderr.count("\n") == 1
        # A member neither sees nor ends nor changes what is root's.
        output = record(machine, machine.root, "secret")
        program = machine.start(outsider, [apps.sleeper, "1"])
        until(lambda: program.pid in machine.applications(member), "it is registered")
        told = machine.applications(member)[program.pid]
        assert (told["sessions"], told["reason"]) == ([], "")
        assert "secret" not in machine.do(member, "list")
        for verb in ("stop", "destroy"):
            denied = machine.drtrace(member, verb, "secret")
            assert denied.returncode == 1
            assert denied.stderr == "Error: session 'secret' not found\n"
        assert "secret" in machine.do(machine.root, "list")
        # Why one is not recorded is for who may know of the session.
        record(machine, member, "open")
        line = "no event of session {} matches its tracepoints"
        until(
            lambda: machine.applications(member)[program.pid]["reason"] == line.format("open"),
            "the member is told of the own session",
        )
        both = machine.applications(machine.root)[program.pid]["reason"].split("; ")
        assert sorted(both) == [line.format("open"), line.format("secret")]
        machine.do(member, "destroy")
        machine.do(machine.root, "destroy")
        assert output.is_dir()


#: What the owner of a session tries with its consumer; prints what was possible.
ATTACK = """
import ctypes, os, signal, sys
pid = int(sys.argv[1])
try:
    os.kill(pid, signal.SIGSTOP)
    print("signalled")
except PermissionError:
    pass
for name in ("mem", "maps", "fd"):
    try:
        os.listdir(f"/proc/{pid}/fd") if name == "fd" else open(f"/proc/{pid}/{name}", "rb").read(1)
        print("read", name)
    except PermissionError:
        pass
if ctypes.CDLL(None).ptrace(16, pid, 0, 0) == 0:
    print("traced")
print("tried")
"""


def test_a_members_consumer_is_out_of_reach_and_cannot_reach_further(
    machine: Machine, apps: Apps
) -> None:
    """It has other users' memory, and the member's rights on files."""
    outsider = machine.account("outsider")
    member = machine.account("member", tracing=True)
    roots = machine.root.home / "private"
    roots.mkdir(mode=0o755)
    with machine.registry(machine.root):
        output = record(machine, member, "trace")
        listed = json.loads(machine.do(member, "--json", "list"))
        pid = listed[0]["consumer"]["pid"]
        attack = machine.start_python(
            member, "-c", ATTACK, str(pid), stdout=subprocess.PIPE, text=True
        )
        assert attack.communicate()[0] == "tried\n"
        # A way out of the member's directory, laid before the first program is recorded.
        (output / "ust").mkdir(parents=True, exist_ok=True)
        (output / "ust" / "uid").symlink_to(roots)
        os.chown(output / "ust", member.uid, member.uid)
        assert machine.start(outsider, [apps.flood, str(COUNT)]).wait() == 0
        stopped = machine.drtrace(member, "stop")
        assert stopped.returncode == 4
        assert "Permission denied" in stopped.stderr
        assert list(roots.iterdir()) == []
        machine.drtrace(member, "destroy")
