# SPDX-License-Identifier: MIT
"""What another user tries with a registry, with programs and with `drtrace`: real processes.

Which right is attacked where: the table in docs/registry.md.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers.apps import Apps
from helpers.machine import Machine, own_machine
from helpers.registry import running_registry, until
from helpers.rundir import Rundir
from helpers.users import User

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can be several users")

#: Neither root nor any of the tests' ordinary users; needs no passwd entry.
STRANGER = 42399
#: Where the stranger can reach it; it needs nothing of ours.
_PYTHON = "/usr/bin/python3"

#: Listens at a path as another user; says of each connection how many bytes it was told.
_LISTEN = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
os.setgroups([])
os.setresgid(*[int(sys.argv[2])] * 3)
os.setresuid(*[int(sys.argv[2])] * 3)
sock.listen()
print("listens", flush=True)
while True:
    peer, _ = sock.accept()
    peer.settimeout(30)
    print(len(peer.recv(4096)), flush=True)
    peer.close()
"""

_TRACED = """
import sys
from ustconsumer.tracer import Provider, u32
order = Provider("shop").tracepoint("order", number=u32)
sys.stdin.read()
"""

#: Registers as somebody else; prints whether the registry took it.
_REGISTER = """
import os, socket, struct, sys
path, pid, uid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
numbers = (0xC57C57C5, 9, 0, pid, 1, uid, uid, 64, 8, 8, 8, 8, 8)
socks = [socket.socket(socket.AF_UNIX) for kind in (0, 1)]
answers = []
for kind, sock in enumerate(socks):
    sock.settimeout(30)
    try:
        sock.connect(path)
        sock.sendall(struct.pack("<14I16s64x", *numbers, kind, b"false"))
    except OSError:
        pass
try:
    answers.append(len(socks[0].recv(4096)))
except ConnectionError:
    answers.append(0)
print(os.getuid(), *answers, flush=True)
sys.stdin.read()
"""

#: Speaks to a control socket, whoever listens; prints what each request came to.
_ASK = """
import json, socket, sys
from ustconsumer.client.connection import Connection
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import Attach, Shutdown
from ustconsumer.protocol.sessionverbs import DestroySession, StopSession

path, session = sys.argv[1:]
requests = {
    "consume": Attach(session=session, consume=True, kind="disk"),
    "observe": Attach(session=session, consume=False, kind="observer"),
    "stop": StopSession(session=session),
    "destroy": DestroySession(session=session),
    "shutdown": Shutdown(),
}
told = {}
for name, request in requests.items():
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    try:
        sock.connect(path)
        connection = Connection(sock, "observer")
        reply, fds = connection.exchange(request)
        told[name] = f"done, {len(fds)} descriptors"
        connection.close()
    except CommandError as error:
        told[name] = error.kind
    except OSError as error:
        told[name] = type(error).__name__
print(json.dumps(told))
"""


def stranger() -> User:
    ids = (f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups")
    return User(STRANGER, STRANGER, ["setpriv", *ids])


def by_stranger(*arguments: str) -> str:
    """Run a script with the package as the stranger; return what it says."""
    user = stranger()
    done = subprocess.run(
        user.python("-c", *arguments),
        env={**os.environ, **user.environment()},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def impostor(rundir: Rundir, name: str) -> Iterator[subprocess.Popen[Any]]:
    """Have the stranger listen where the registry of the user would."""
    rundir.path.mkdir(mode=0o755, exist_ok=True)
    os.chown(rundir.path, rundir.user.uid, rundir.user.gid)
    path = rundir.path / name
    process = subprocess.Popen(
        [_PYTHON, "-c", _LISTEN, str(path), str(STRANGER)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        assert process.stdout.readline() == "listens\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        path.unlink()


def test_who_listens_in_the_registrys_place_is_told_nothing(user_rundir: Rundir) -> None:
    """S1 of the other side: `drtrace` says who it is, and not to him what it was asked."""
    with impostor(user_rundir, "drtrace.sock") as process:
        done = user_rundir.drtrace("-n", "--rundir", user_rundir.path, "list")
        assert process.stdout
        assert process.stdout.readline() == "0\n"
    assert done.returncode == 1
    assert f"uid {STRANGER} listens there, neither root nor you" in done.stderr
    assert done.stderr.count("\n") == 1


def test_who_takes_registrations_in_the_registrys_place_gets_none(user_rundir: Rundir) -> None:
    """S1 of the other side: a traced Python program obeys, and names itself to, nobody else."""
    with impostor(user_rundir, "lttng-ust-sock-8") as process:
        program = user_rundir.start_python("-c", _TRACED, stdin=subprocess.PIPE)
        assert process.stdout
        assert process.stdout.readline() == "0\n"
        assert program.stdin
        program.stdin.close()
        assert program.wait() == 0


def test_the_control_socket_is_its_users(user_rundir: Rundir) -> None:
    """S6, and S1 where somebody has opened the directory to all."""
    with running_registry(user_rundir) as registry:
        registry.client.create("mine", user_rundir.home / "trace")
        path = user_rundir.path / "drtrace.sock"
        assert path.stat().st_mode & 0o777 == 0o600
        assert user_rundir.path.stat().st_mode & 0o777 == 0o700
        verbs = ("consume", "observe", "stop", "destroy", "shutdown")
        told = json.loads(by_stranger(_ASK, str(path), "mine"))
        assert told == dict.fromkeys(verbs, "PermissionError")
        for opened, mode in ((user_rundir.home, 0o755), (user_rundir.path, 0o755), (path, 0o666)):
            opened.chmod(mode)
        told = json.loads(by_stranger(_ASK, str(path), "mine"))
        assert told == dict.fromkeys(verbs, "permission")
        assert [info.name for info in registry.client.sessions()] == ["mine"]


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_nobody_registers_as_somebody_else(user_rundir: Rundir, apps: Apps) -> None:
    """S1, S3: pid and uid are the kernel's word, not the message's."""
    with running_registry(user_rundir) as registry:
        victim = user_rundir.start([apps.sleeper, "1"])
        until(lambda: victim.pid in registry.applications(), "it is registered")
        socket = user_rundir.path / "lttng-ust-sock-8"
        for path, mode in ((user_rundir.home, 0o755), (user_rundir.path, 0o755), (socket, 0o666)):
            path.chmod(mode)
        uid = user_rundir.user.uid
        attacker = subprocess.Popen(
            stranger().argv([_PYTHON, "-c", _REGISTER, socket, str(victim.pid), str(uid)]),
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with attacker:
            assert attacker.stdout
            # Not a byte of a command came.
            assert attacker.stdout.readline() == f"{STRANGER} 0\n"
            told = registry.applications()
        assert (told[victim.pid].name, told[victim.pid].uid) == ("sleeper", uid)
        refused = told[attacker.pid]
        assert (refused.uid, refused.name) == (STRANGER, "false")
        assert refused.reason.startswith(f"it is of uid {STRANGER}")
        victim.terminate()
        assert victim.wait() == 0


@pytest.fixture
def machine(rundir: Rundir) -> Iterator[Machine]:
    with own_machine(rundir) as made:
        yield made


def test_a_member_of_the_group_has_nothing_of_another_member(machine: Machine) -> None:
    """S4, S5, S6, S9: neither buffers nor verbs, nor the other one's share of sessions."""
    one = machine.account("one", tracing=True)
    two = machine.account("two", tracing=True)
    with machine.registry(machine.root, "--max-sessions", "1"):
        machine.do(one, "create", "ones", "-o", str(one.home / "trace"))
        machine.do(one, "enable-event", "--all")
        machine.do(one, "start")
        attack = machine.start_python(
            two, "-c", _ASK, "/run/lttng/drtrace.sock", "ones", stdout=subprocess.PIPE, text=True
        )
        told = json.loads(attack.communicate()[0])
        shutdown = told.pop("shutdown")
        assert shutdown == "permission"
        assert told == dict.fromkeys(("consume", "observe", "stop", "destroy"), "no-such-session")
        # The share of one is used up; that of two is not.
        refused = machine.drtrace(one, "create", "more", "-o", str(one.home / "more"))
        assert refused.returncode == 1
        assert f"uid {one.uid}" in refused.stderr
        assert refused.stderr.count("\n") == 1
        machine.do(two, "create", "twos", "-o", str(two.home / "trace"))
        assert [each["name"] for each in json.loads(machine.do(one, "--json", "list"))] == ["ones"]
        assert [each["name"] for each in json.loads(machine.do(two, "--json", "list"))] == ["twos"]
        assert not Path(one.home / "more").exists()
        machine.do(two, "destroy")
        machine.do(one, "destroy")


#: Fills the waiting room of the registry: silent connections, garbage, another version.
_CROWD = """
import socket, struct, sys
def connect():
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(sys.argv[1])
    return sock
silent = []
for _ in range(400):
    try:
        silent.append(connect())
    except OSError:
        break
garbage = connect()
garbage.sendall(b"x" * 4096)
old = connect()
old.sendall(struct.pack("<14I16s64x", 0xC57C57C5, 1, 0, 1, 1, 0, 0, 64, 8, 8, 8, 8, 8, 0, b"old"))
ends = []
for sock in (garbage, old):
    try:
        ends.append(len(sock.recv(4096)))
    except ConnectionError:
        ends.append(0)
print(len(silent) > 256, *ends, flush=True)
sys.stdin.read()
"""


def test_a_crowd_of_one_user_keeps_nobody_out(machine: Machine, apps: Apps) -> None:
    """S2, S9: who says nothing, or nothing sensible, is let go; others are served meanwhile."""
    mallory, one = machine.account("mallory"), machine.account("one")
    with machine.registry(machine.root):
        machine.do(machine.root, "create", "all", "--snapshot", "-o", str(one.home / "no"))
        machine.do(machine.root, "enable-event", "--all")
        machine.do(machine.root, "start")
        crowd = machine.start_python(
            mallory,
            *("-c", _CROWD, "/run/lttng/lttng-ust-sock-8"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert crowd.stdout
        # Not a byte of a command came to those that were refused.
        assert crowd.stdout.readline() == "True 0 0\n"
        program = machine.start(one, [apps.sleeper, "1"])
        until(
            lambda: machine.applications(machine.root).get(program.pid, {}).get("sessions"),
            "it is recorded",
        )
        assert machine.applications(machine.root)[program.pid]["sessions"] == ["all"]
        program.kill()
        program.wait()
        crowd.communicate()
        machine.do(machine.root, "destroy", "all")


def test_programs_of_one_user_leave_room_for_others(machine: Machine, apps: Apps) -> None:
    """S9: who has as many as a user may have is told; somebody else is not concerned."""
    mallory, one = machine.account("mallory"), machine.account("one")
    with machine.registry(machine.root, "--max-applications", "2"):
        many = [machine.start(mallory, [apps.sleeper, "1"]) for _ in range(4)]
        pids = {each.pid for each in many}
        until(lambda: pids <= machine.applications(machine.root).keys(), "all are known")
        told = machine.applications(machine.root)
        refused = [told[pid]["reason"] for pid in pids if told[pid]["state"] == "refused"]
        assert len(refused) == 2
        assert all(f"uid {mallory.uid}" in reason for reason in refused)
        program = machine.start(one, [apps.sleeper, "1"])
        until(lambda: program.pid in machine.applications(machine.root), "it is registered")
        assert machine.applications(machine.root)[program.pid]["state"] != "refused"
        for each in (*many, program):
            each.kill()
            each.wait()
