# SPDX-License-Identifier: MIT
"""Run directories that are not ours to use: refused, nothing changed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.rendezvous import Rendezvous
from ustconsumer.errors import UsageError


@pytest.fixture
def directory() -> Iterator[Path]:
    # Short: the path of a socket has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ust-", dir="/tmp") as place:
        yield Path(place)


@pytest.mark.parametrize("name", ["lttng-ust-sock-8", "client-lttng-sessiond", "drtrace.sock"])
def test_whoever_listens_on_one_of_the_sockets_is_a_neighbour(directory: Path, name: str) -> None:
    """An lttng-sessiond that has begun has not bound all of them yet."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(directory / name))
        other.listen()
        with pytest.raises(UsageError, match=rf"\(pid {os.getpid()}\) is alive .*{name}"):
            Rendezvous(directory, "tracing").take()
        assert [path.name for path in directory.iterdir()] == [name]


def test_another_users_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() == 0:
        os.chown(directory, 54321, -1)
    owner = directory.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(UsageError, match=f"belongs to uid {owner}: choose another"):
        Rendezvous(directory, "tracing").take()
    assert list(directory.iterdir()) == []


def test_what_is_in_the_way_and_no_socket_stays(directory: Path) -> None:
    (directory / "drtrace.sock").write_text("mine")
    with pytest.raises(UsageError, match="no socket: move it"):
        Rendezvous(directory, "tracing").take()
    assert [path.name for path in directory.iterdir()] == ["drtrace.sock"]
    with pytest.raises(UsageError, match="is not a directory"):
        Rendezvous(directory / "drtrace.sock", "tracing").take()
    assert (directory / "drtrace.sock").read_text() == "mine"


def test_a_refusal_is_one_line_whatever_the_path() -> None:
    result = subprocess.run(
        [sys.executable, "-P", "-m", "sessiond", "--rundir", "/dev/null/a\nb"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "ltt-sessiond: cannot create /dev/null/a b: Not a directory\n"
