# SPDX-License-Identifier: MIT
"""Starting a registry: its home, its environment, what it says, how it fails."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from ustconsumer.client import launch
from ustconsumer.client.launch import Lines, PrivateRegistry, ensure
from ustconsumer.errors import CommandError


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand a shell script in for the registry; its arguments are the registry's."""
    script = tmp_path / "registry"
    script.touch(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setenv("LTTNG_UST_CTL_PATH", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "runtime").mkdir()
    monkeypatch.setattr(launch, "_MAX_HOME", 4096)  # no sockets here
    return script


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo noise >&2; echo 'ltt-sessiond: a reason' >&2; exit 1", "a reason"),
        ("exit 3", "it exited with status 3"),
    ],
)
def test_a_registry_that_fails_says_why(body: str, message: str, program: Path) -> None:
    program.write_text(f"#!/bin/sh\n{body}\n")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(CommandError) as caught:
        ensure()
    assert str(caught.value) == message
    with pytest.raises(CommandError):
        PrivateRegistry()
    assert list((program.parent / "runtime").iterdir()) == []
    assert os.listdir("/proc/self/fd") == before


def test_a_python_that_cannot_be_started(program: Path) -> None:
    program.chmod(0o644)
    with pytest.raises(CommandError, match=r"cannot start the session registry with .*denied"):
        PrivateRegistry()
    assert list((program.parent / "runtime").iterdir()) == []


def test_a_directory_named_sessiond_is_not_the_registry(program: Path) -> None:
    """The one thing that keeps Python from looking where the user stands is -P."""
    program.write_text('#!/bin/sh\necho "$@" >&2; exit 1\n')
    with pytest.raises(CommandError, match=r"^-P -m sessiond "):
        PrivateRegistry()
    with pytest.raises(CommandError, match=r"^-P -m sessiond .* --daemonize --group tracers$"):
        ensure(group="tracers")


def test_a_registry_that_hangs_is_stopped(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = program.parent / "pid"
    program.write_text(f"#!/bin/sh\necho $$ > {pid}\nexec sleep 1000\n")
    monkeypatch.setattr(launch, "_READY_SECONDS", 0.5)
    with pytest.raises(CommandError, match="was not ready"):
        PrivateRegistry()
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
    assert list((program.parent / "runtime").iterdir()) == []


def test_a_home_is_private_and_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # tmp_path may be too long itself.
    with tempfile.TemporaryDirectory(prefix="ust-", dir="/tmp") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        home = launch._private_home()
        assert str(home.parent) == short
        assert home.stat().st_mode & 0o777 == 0o700
    # sockaddr_un has 108 bytes, with the NUL, for HOME/.lttng/lttng-ust-sock-8.
    long = tmp_path / ("x" * 60) / ("y" * 30)
    long.mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    home = launch._private_home()
    assert len(f"{home}/.lttng/lttng-ust-sock-8") < 108
    home.rmdir()


def test_a_registry_is_not_its_own_application() -> None:
    clean = launch._without_tracer
    assert clean({"LD_PRELOAD": "/usr/lib/liblttng-ust-fork.so.1", "A": "b"}) == {"A": "b"}
    kept = clean({"LD_PRELOAD": "/a.so:liblttng-ust-fork.so /b.so"})
    assert kept == {"LD_PRELOAD": "/a.so:/b.so"}
    # Nor does it speak for the service that a program of ours is.
    of_service = ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    assert clean({**dict.fromkeys(of_service, "1"), "A": "b"}) == {"A": "b"}
    assert clean({}) == {}


def test_lines_are_whole() -> None:
    reading, writing = os.pipe()
    lines = Lines(reading)
    assert lines.read() == ([], True)
    os.write(writing, b"first\nsec")
    assert lines.read() == (["first"], True)
    os.write(writing, b"ond\n\xffthird")
    assert lines.read() == (["second"], True)
    os.close(writing)
    assert lines.read() == (["\N{REPLACEMENT CHARACTER}third"], False)
    lines.close()
