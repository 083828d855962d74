# SPDX-License-Identifier: MIT
"""What loggers of Python say, in programs with LTTng's own agent, as under LTTng."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.babeltrace import babeltrace2_text
from helpers.lttng import lttng_sessiond
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir, private_rundir
from helpers.users import User

PROGRAM = Path(__file__).resolve().parent.parent / "apps" / "logs.py"
PYTHON = "/usr/bin/python3"
pytestmark = pytest.mark.peers("lttng", "lttng-sessiond", "babeltrace2", "python3-lttngust")


class Side:
    """LTTng's side, or ours."""

    def __init__(self, rundir: Rundir, run: Callable[..., subprocess.CompletedProcess[str]]):
        self.rundir = rundir
        self.run = run

    def do(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.returncode == 0, (arguments, result.stdout, result.stderr)
        return result.stdout

    def start(self) -> subprocess.Popen[str]:
        """Start the program; it has registered when this returns."""
        source = self.rundir.home / "logs.py"
        source.write_bytes(PROGRAM.read_bytes())
        source.chmod(0o644)
        pipe = subprocess.PIPE
        program = self.rundir.start(
            [PYTHON, source],
            # Milliseconds until it looks for a registry again.
            env={"LTTNG_UST_PYTHON_REGISTER_RETRY_DELAY": "100"},
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        assert program.stdout
        assert program.stdout.readline() == "ready\n"
        return program

    def events(self, session: str = "s") -> list[str]:
        """Return what was recorded, without what differs from run to run."""
        output = self.rundir.home / session
        if not list(output.rglob("metadata*")):
            return []
        lines = babeltrace2_text(output).lines
        return [
            re.sub(r".*?(lttng_python:event).*?msg = (.*), thread = .*", r"\1 \2", each)
            for each in lines
        ]


def say(program: subprocess.Popen[str]) -> None:
    """Have it say everything once."""
    assert program.stdin
    assert program.stdout
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "said\n"


def end(program: subprocess.Popen[str]) -> None:
    program.communicate()
    assert program.returncode == 0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def our_side(user: User) -> Iterator[tuple[Side, RunningRegistry]]:
    with (
        private_rundir(user) as rundir,
        running_registry(rundir, f"--agent-tcp-port={free_port()}") as registry,
    ):
        yield Side(rundir, rundir.drtrace), registry


def sides(user: User) -> Iterator[Side]:
    with lttng_sessiond() as lttng:

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return lttng.rundir.run(["lttng", "--no-sessiond", *arguments])

        yield Side(lttng.rundir, run)
    with our_side(user) as (side, _):
        yield side


#: Options of ``enable-event``, each list a rule.
RULES: dict[str, list[list[str]]] = {
    "name": [["shop"]],
    "names": [["shop.till,store"]],
    "pattern": [["shop*"]],
    "all": [["-a"]],
    "loglevel": [["-a", "--loglevel=WARNING"]],
    "loglevel_only": [["shop", "--loglevel-only=ERROR"]],
    "filter": [["-a", "--filter", 'msg == "item*" && lineno > 1']],
    "filter_and_level": [["store", "--loglevel=PYTHON_INFO", "--filter", 'msg == "*left"']],
    "two": [["shop", "--loglevel-only=DEBUG"], ["store", "--loglevel=CRITICAL"]],
    "none": [["nobody"]],
}


def test_same_events_as_lttng(user: User) -> None:
    """Of a program that was there before; one session for each case, all at a time."""
    found = []
    for side in sides(user):
        program = side.start()
        for name, rules in RULES.items():
            side.do("create", name, f"--output={side.rundir.home / name}")
            for rule in rules:
                side.do("enable-event", "-s", name, "--python", *rule)
            side.do("start", name)
        say(program)
        for name in RULES:
            side.do("stop", name)
        say(program)
        end(program)
        found.append({name: side.events(name) for name in RULES})
        for name in RULES:
            side.do("destroy", name)
    theirs, ours = found
    assert ours == theirs
    assert len(theirs["all"]) == 15
    assert not theirs["none"]


def test_while_it_runs(user: User) -> None:
    found = []
    for side in sides(user):
        side.do("create", "s", f"--output={side.rundir.home / 's'}")
        side.do("enable-event", "-p", "shop", "-s", "s")
        side.do("start", "s")
        # Comes later.
        program = side.start()
        say(program)
        side.do("enable-event", "-p", "store", "-s", "s")
        say(program)
        side.do("disable-event", "-p", "shop", "-s", "s")
        say(program)
        side.do("disable-event", "-p", "-a", "-s", "s")
        say(program)
        side.do("stop", "s")
        listed = side.do("list", "--python").splitlines()
        shown = side.do("list", "s").partition("=== Domain: Python logging ===")[2]
        end(program)
        found.append((side.events(), listed[:3] + listed[4:], shown.split("\n\n")[1].strip()))
        side.do("destroy", "s")
    theirs, ours = found
    assert ours[0] == theirs[0]
    assert [line.rstrip() for line in ours[1] if line] == [x.rstrip() for x in theirs[1] if x]
    assert sorted(ours[2].splitlines()) == sorted(theirs[2].splitlines())


def test_saved_by_lttng_and_loaded(user: User) -> None:
    with lttng_sessiond() as lttng:
        saved = lttng.rundir.home / "saved"
        saved.mkdir()
        saved.chmod(0o777)
        lttng("create", "s", f"--output={lttng.rundir.home}/trace")
        lttng("enable-event", "-p", "shop", "--loglevel=INFO", "--filter", 'msg == "item*"')
        lttng("enable-event", "-p", "store")
        lttng("save", "s", f"--output-path={saved}")
        theirs = (saved / "s.lttng").read_bytes()
    with our_side(user) as (side, _):
        file = side.rundir.home / "theirs.lttng"
        file.write_bytes(theirs)
        file.chmod(0o644)
        side.do("load", "s", f"--input-path={file}", f"--override-url={side.rundir.home / 's'}")
        side.do("start", "s")
        program = side.start()
        say(program)
        end(program)
        side.do("stop", "s")
        assert len(side.events()) == 1 + 5
        side.do("save", "s", f"--output-path={side.rundir.home}")
        ours = (side.rundir.home / "s.lttng").read_bytes()
        side.do("destroy", "s")
    with lttng_sessiond() as lttng:
        file = lttng.rundir.home / "ours.lttng"
        file.write_bytes(ours)
        file.chmod(0o644)
        lttng("load", "s", f"--input-path={file}")
        listed = lttng("list", "s")
        assert "- shop [enabled] (loglevel <= PYTHON_INFO) [filter: " in listed
        assert 'msg == "item*"' in listed
        assert "- store [enabled] [filter: " in listed
        lttng("destroy", "s")


def test_a_registry_that_comes_back(user: User) -> None:
    """The agent tries again every 3 s; what it was told before counts no more."""
    with private_rundir(user) as rundir:
        option = f"--agent-tcp-port={free_port()}"
        side = Side(rundir, rundir.drtrace)
        port_file = rundir.path / "agent.port"
        with running_registry(rundir, option, private=False):
            assert port_file.read_text() == option.partition("=")[2] + "\n"
            program = side.start()
        assert not port_file.exists()
        with running_registry(rundir, option, private=False) as registry:
            until(registry.client.loggers, "its agent registers again")
            side.do("create", "s", f"--output={rundir.home / 's'}")
            side.do("enable-event", "-p", "shop")
            until(registry.client.applications, "it registers again")
            side.do("start", "s")
            say(program)
            side.do("stop", "s")
            assert len(side.events()) == 5
            side.do("destroy", "s")
        end(program)


#: Agents that none should be like; the end of this says that the registry let go of two.
LIAR = """
import socket, struct, sys, time
connect = lambda: socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60)
silent = [connect() for _ in range(20)]
java = connect()
java.sendall(struct.pack(">IIII", 3, 1, 2, 0))
assert java.recv(1) == b""
chatty = connect()
try:
    chatty.sendall(struct.pack(">IIII", 5, 1, 2, 0) + b"unasked" * 100)
    while chatty.recv(4096):
        pass
except OSError:
    pass
print("done", flush=True)
time.sleep(600)
"""


def test_agents_that_lie(user: User) -> None:
    """Nothing one of them says keeps the others or the session from anything."""
    with our_side(user) as (side, registry):
        port = int((side.rundir.path / "agent.port").read_text())
        pipe = subprocess.PIPE
        liar = side.rundir.start([PYTHON, "-c", LIAR, str(port)], stdout=pipe, text=True)
        assert liar.stdout
        assert liar.stdout.readline() == "done\n"
        program = side.start()
        side.do("create", "s", f"--output={side.rundir.home / 's'}")
        side.do("enable-event", "-p", "shop")
        side.do("start", "s")
        say(program)
        side.do("stop", "s")
        assert len(side.events()) == 5
        assert [each.pid for each in registry.client.loggers()] == [program.pid]
        end(program)
        liar.kill()
        assert liar.wait() == -signal.SIGKILL
        side.do("destroy", "s")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_somebody_elses_agent_is_not_answered(user: User) -> None:
    with our_side(user) as (side, registry):
        port = int((side.rundir.path / "agent.port").read_text())
        code = (
            "import socket, struct, sys\n"
            f"sock = socket.create_connection(('127.0.0.1', {port}), timeout=60)\n"
            "try:\n"
            "    sock.sendall(struct.pack('>IIII', 5, 1, 2, 0))\n"
            "    print(sock.recv(1))\n"
            "except OSError:\n"
            "    print(b'')\n"
        )
        other = subprocess.run(
            ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", PYTHON, "-c", code],
            capture_output=True,
            text=True,
            check=True,
        )
        assert other.stdout == "b''\n"
        assert registry.client.loggers() == []
        assert "ltt-sessiond: an agent of uid 54321 is not answered" in registry.log()


def test_other_domains_are_said_to_be_for_later(user: User) -> None:
    with our_side(user) as (side, _):
        side.do("create", "s", f"--output={side.rundir.home / 's'}")
        for option, words in (
            ("-j", "not spoken to yet"),
            ("-l", "yet"),
            ("-k", "only user space"),
        ):
            result = side.run("enable-event", option, "x")
            assert (result.returncode, words in result.stderr) == (1, True), result.stderr
        refused = side.run("enable-event", "-p", "x", "-x", "y")
        assert "exclusions are not yet implemented for python events" in refused.stderr
        side.do("destroy", "s")
