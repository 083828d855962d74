# SPDX-License-Identifier: MIT
"""A registry under a service manager: its sockets, its readiness, the units for it."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.registry import until
from helpers.rundir import Rundir

import sessiond
from sessiond.__main__ import main
from ustconsumer.client.registry import connect

UNITS = Path(sessiond.__file__).parent / "systemd"
#: What systemd does for a service with two socket units: sd_listen_fds(3).
SERVICE = """
import os, socket, sys

names, command = [], sys.argv[3:]
for number, path in enumerate(sys.argv[1:3], 3):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    os.dup2(sock.fileno(), 100 + number)
for number in (3, 4):
    os.dup2(100 + number, number)
os.closerange(5, 200)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="apps:control")
os.write(1, b"listens\\n")
sys.stdin.read()
os.execv(command[0], command)
"""


@pytest.mark.peers("gcc", "lttng-ust-headers")
@pytest.mark.parametrize("abstract", [False, True])
def test_what_came_before_it_was_there_is_served(
    rundir: Rundir, apps: Apps, abstract: bool
) -> None:
    rundir.path.mkdir()
    places = [str(rundir.path / name) for name in ("lttng-ust-sock-8", "drtrace.sock")]
    pid_file = rundir.home / "registry.pid"
    with (
        open(rundir.home / "log", "wb") as log,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard,
    ):
        address = f"@{rundir.home}/n" if abstract else f"{rundir.tmp}/n"
        heard.bind(address.replace("@", "\0"))
        service = rundir.start_python(
            *("-c", SERVICE, *places),
            *rundir.user.python("-m", "sessiond", "--rundir", rundir.path, "--private"),
            *("--pidfile", "registry.pid"),
            env={"NOTIFY_SOCKET": address},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        assert service.stdout.readline() == b"listens\n"
        # It registers and waits in its constructor, the client for an answer.
        program = rundir.start([apps.sleeper, "1"], env={"LTTNG_UST_REGISTER_TIMEOUT": "-1"})
        client = rundir.start_drtrace("--rundir", rundir.path, "list", stdout=subprocess.DEVNULL)
        service.stdin.close()
        said = heard.recv(4096).split(b"\n")
        assert {b"READY=1", b"MAINPID=%d" % service.pid} <= set(said)
        # Written before it said so.
        assert pid_file.read_text() == f"{service.pid}\n"
        with connect(rundir.path) as registry:
            assert registry.connection.welcome.pid == service.pid
            until(
                lambda: [app.pid for app in registry.applications()] == [program.pid],
                "the program is registered",
            )
        assert client.wait() == 0
        service.send_signal(signal.SIGTERM)
        assert b"STOPPING=1" in heard.recv(4096)
        assert service.wait() == 0
    assert (rundir.home / "log").read_text() == ""
    # The service manager's, which removes them itself; nothing of ours.
    assert sorted(str(path) for path in rundir.path.iterdir()) == sorted(places)
    assert not pid_file.exists()
    for path in (*places, f"{rundir.tmp}/n"):
        Path(path).unlink(missing_ok=True)


def test_sockets_of_another_directory_are_refused_in_a_line(rundir: Rundir) -> None:
    other = rundir.home / "other"
    other.mkdir()
    places = [str(other / name) for name in ("lttng-ust-sock-8", "drtrace.sock")]
    result = rundir.run_python(
        *("-c", SERVICE, *places),
        *rundir.user.python("-m", "sessiond", "--rundir", rundir.path, "--private"),
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("ltt-sessiond: descriptor 3 (apps) of the service manager listens at ")
    assert line.endswith(f": give --rundir {other}")
    for path in places:
        Path(path).unlink()


def test_started_by_systemds_own_program(rundir: Rundir) -> None:
    if shutil.which("systemd-socket-activate") is None:
        pytest.skip("not installed: systemd-socket-activate")
    rundir.path.mkdir()
    control = rundir.path / "drtrace.sock"
    listener = rundir.start(
        [
            *("systemd-socket-activate", "-l", control, "--fdname=control"),
            *(f"--setenv={name}={value}" for name, value in rundir.env.items()),
            *rundir.user.python("-m", "sessiond", "--rundir", rundir.path, "--private"),
        ],
        stderr=subprocess.DEVNULL,
    )
    until(control.exists, "it listens")
    assert rundir.drtrace("--rundir", rundir.path, "apps").stdout == "No registered program\n"
    with connect(rundir.path) as registry:
        assert registry.connection.welcome.pid == listener.pid
        # The other socket is its own.
        assert (rundir.path / "lttng-ust-sock-8").exists()
        registry.shutdown()
    assert listener.wait() == 0
    assert [path.name for path in rundir.path.iterdir()] == ["drtrace.sock"]
    control.unlink()


@pytest.mark.parametrize("option", ["--daemonize", "--background", "-b"])
def test_in_the_background_with_a_pid_file(rundir: Rundir, option: str) -> None:
    pid_file = rundir.home / "registry.pid"
    arguments = ["-m", "sessiond", "--rundir", str(rundir.path), "--private", option]
    with open(rundir.home / "log", "wb") as log:
        result = rundir.run_python(
            *arguments, *("-p", "registry.pid", "-v"), stdout=subprocess.DEVNULL, stderr=log
        )
    assert result.returncode == 0
    with connect(rundir.path) as registry:
        pid = registry.connection.welcome.pid
        assert pid_file.read_text() == f"{pid}\n"
        # Only one of the two keeps what it was given.
        kept = Path(f"/proc/{pid}/fd/2").resolve() == rundir.home / "log"
        assert kept is (option != "--daemonize")
        registry.shutdown()
    until(lambda: not pid_file.exists(), "it is gone")
    # What cannot be is said by the one that waits.
    (rundir.home / "registry.pid").write_text("not a pid\n")
    failed = rundir.run_python(*arguments, "-p", "registry.pid")
    assert failed.returncode == 1
    assert failed.stderr == (f"ltt-sessiond: {pid_file} is no pid file: choose another --pidfile\n")
    assert list(rundir.path.iterdir()) == []


# -- the units ---------------------------------------------------------------------------


def units() -> Iterator[tuple[Path, configparser.RawConfigParser]]:
    for path in sorted(UNITS.glob("*/*")):
        parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",))
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read(path)
        yield path, parser


def test_the_units_run_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    services = [(path, unit) for path, unit in units() if path.suffix == ".service"]
    assert [path.parent.name for path, _ in services] == ["system", "user"]
    with pytest.raises(SystemExit):
        main(["--help"])
    known = capsys.readouterr().out.replace(",", " ").split()
    for path, unit in services:
        program, *arguments = shlex.split(unit["Service"]["ExecStart"])
        assert program.endswith("/ltt-sessiond")
        assert {word for word in arguments if word.startswith("-")} <= set(known)
        # It stays in the foreground and says itself when it is ready.
        assert unit["Service"]["Type"] == "notify"
        rundir = arguments[arguments.index("--rundir") + 1]
        sockets = {
            other["Socket"]["FileDescriptorName"]: other["Socket"]
            for name, other in units()
            if name.suffix == ".socket" and name.parent == path.parent
        }
        listen = {name: each["ListenStream"] for name, each in sockets.items()}
        assert listen == {
            "apps": f"{rundir}/lttng-ust-sock-8",
            "control": f"{rundir}/drtrace.sock",
        }
        assert {each["Service"] for each in sockets.values()} == {path.name}
        # As the registry makes them itself.
        assert sockets["apps"]["SocketMode"] == "0666"
        everybody = path.parent.name == "system"
        assert sockets["control"]["SocketMode"] == ("0660" if everybody else "0600")
        assert sockets["control"]["DirectoryMode"] == ("0755" if everybody else "0700")


@pytest.mark.parametrize("manager", ["system", "user"])
def test_systemd_finds_no_fault_in_them(rundir: Rundir, manager: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("not installed: systemd-analyze")
    places = []
    for path in sorted((UNITS / manager).iterdir()):
        place = rundir.home / path.name
        # The one thing that depends on the installation.
        command = f"ExecStart={sys.executable}"
        place.write_text(re.sub("^ExecStart=.*$", command, path.read_text(), flags=re.M))
        places.append(place)
    result = rundir.run(
        ["systemd-analyze", "verify", f"--{manager}", "--man=no", *places],
        env={"XDG_RUNTIME_DIR": str(rundir.home)},
    )
    assert (result.returncode, result.stderr) == (0, "")
