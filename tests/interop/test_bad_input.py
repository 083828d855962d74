# SPDX-License-Identifier: MIT
"""What cannot be done is said in one line, and nothing is changed or left behind."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers.apps import Apps
from helpers.drtrace import end_registry
from helpers.processes import end
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers")


def refused(result: Any, status: int, *words: str) -> None:
    """Check one line on standard error, none on standard output."""
    assert result.returncode == status, result
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    for word in words:
        assert word in result.stderr


def contents(directory: Path) -> list[Path]:
    """Return everything below a directory."""
    return sorted(path for path in directory.rglob("*"))


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["-o", "used"], 125, ["used is not empty", "-o"]),
        (["-o", "used/file"], 125, ["cannot write", "Not a directory"]),
        (["-o", "locked/below"], 125, ["cannot write", "Permission denied"]),
        (["-o", "locked"], 125, ["cannot write", "Permission denied"]),
        (["-o", "new", "-c", "nonsense"], 125, ["unknown context 'nonsense'"]),
        (["-o", "new", "--subbuf-size", "64G", "--num-subbuf", "64"], 125, ["half of this"]),
        (["-o", "new", "-e", "x" * 256], 125, ["event pattern"]),
    ],
)
def test_record_refuses_before_the_program_runs(
    options: list[str], status: int, words: list[str], user_rundir: Rundir
) -> None:
    home = user_rundir.home
    script = "mkdir used locked; touch used/file; chmod 0500 locked"
    assert user_rundir.run(["sh", "-c", script]).returncode == 0
    before = contents(home)
    result = user_rundir.drtrace("record", *options, "touch", home / "ran")
    refused(result, status, *words)
    assert contents(home) == before


@pytest.mark.parametrize(
    ("command", "status"), [("./nowhere", 127), ("nowhere-in-path", 127), ("./file", 126)]
)
def test_record_without_a_program(command: str, status: int, user_rundir: Rundir) -> None:
    (user_rundir.home / "file").touch(0o644)
    before = contents(user_rundir.home)
    refused(user_rundir.drtrace("record", command), status, command.removeprefix("./"))
    assert contents(user_rundir.home) == before


def test_record_of_a_script_without_interpreter(user_rundir: Rundir) -> None:
    """Only exec can tell, when all is set up: as clean an end."""
    script = user_rundir.home / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    before = contents(user_rundir.home)
    refused(user_rundir.drtrace("record", "-o", "new", script), 127, "interpreter")
    assert contents(user_rundir.home) == before


def test_record_of_a_program_that_does_not_register(rundir: Rundir) -> None:
    """Its exit status stays the program's, and the summary comes last all the same."""
    source = rundir.home / "still.c"
    source.write_text("int main(void) { return 5; }\n")
    subprocess.run(["gcc", "-static", "-o", rundir.home / "still", source], check=True)
    result = rundir.drtrace("record", rundir.home / "still")
    assert result.returncode == 5
    assert result.stderr.count("\n") == 1
    assert "no program registered: still is statically linked" in result.stderr
    summary, directory = result.stdout.splitlines()
    assert summary.startswith("0 events recorded, 0 discarded, 0 processes")
    assert Path(directory).is_dir()


def test_record_of_a_program_without_a_matching_event(apps: Apps, rundir: Rundir) -> None:
    result = rundir.drtrace("record", "-e", "nothing:*", apps.flood, "5")
    assert result.returncode == 0
    assert result.stderr.count("\n") == 1
    assert "no event matched nothing:*" in result.stderr


def test_unknown_session_and_names(user_rundir: Rundir) -> None:
    drtrace = user_rundir.drtrace
    created = drtrace("create", "known")
    assert created.returncode == 0, created.stderr
    try:
        for verb in (
            ["start", "unknown"],
            ["stop", "unknown"],
            ["destroy", "unknown"],
            ["list", "unknown"],
            ["status", "-s", "unknown"],
            ["enable-event", "-s", "unknown", "a:b"],
            ["enable-channel", "-s", "unknown", "c"],
            ["add-context", "-s", "unknown", "-t", "vpid"],
        ):
            refused(drtrace(*verb), 1, "'unknown' not found")
        refused(drtrace("create", "known"), 1, "known exists already")
        refused(drtrace("create", "a/b"), 1, "slash")
        refused(drtrace("enable-event", "-c", "none", "a:b"), 1, "no channel none")
        refused(drtrace("enable-event", "a:b", "-x", "a:c"), 1, "has no *")
        refused(drtrace("start"), 1, "has no channel")
        # A warning, as with lttng.
        stopped = drtrace("stop")
        assert (stopped.returncode, "already stopped" in stopped.stderr) == (4, True)
        # Statuses as of lttng.
        refused(drtrace("add-context", "-t", "perf:cpu"), 3, "perf:thread:COUNTER")
        refused(drtrace("add-context", "-t", "nonsense"), 3, "unknown context 'nonsense'")
    finally:
        destroyed = drtrace("destroy", "-a")
        assert (destroyed.returncode, destroyed.stderr) == (0, "")
        end_registry(user_rundir)


@pytest.mark.peers("lttng", "lttng-sessiond")
def test_a_foreign_daemon_is_named_and_left_alone(user_rundir: Rundir) -> None:
    """Its sockets, its lock and its answer to its own clients stay as they are."""
    daemon = user_rundir.start(
        ["lttng-sessiond", "--no-kernel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait = f"until [ -S {user_rundir.path}/client-lttng-sessiond ]; do sleep 0.01; done"
    user_rundir.run(["sh", "-c", wait])
    user_rundir.run(["lttng", "--no-sessiond", "create", "theirs", "--no-output"])
    before = contents(user_rundir.path)
    refused(user_rundir.drtrace("create"), 1, "lttng-sessiond", str(daemon.pid), "--rundir")
    assert contents(user_rundir.path) == before
    listed = user_rundir.run(["lttng", "--no-sessiond", "list"])
    assert "theirs" in listed.stdout
    end(daemon.pid)
    daemon.wait()


def test_a_stale_socket_is_no_daemon(user_rundir: Rundir) -> None:
    user_rundir.path.mkdir(mode=0o700)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(user_rundir.path / "drtrace.sock"))
    stale.close()
    result = user_rundir.drtrace("-n", "list")
    (user_rundir.path / "drtrace.sock").unlink()
    refused(result, 1, "No session daemon is available")
