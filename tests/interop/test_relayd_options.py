# SPDX-License-Identifier: MIT
"""``ust-relayd`` as whoever starts it sees it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-P", "-m", "consumerd.relay"]
ANY = [f"-{letter}tcp://127.0.0.1:0" for letter in "CDL"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_when_it_listens_and_ends_when_told(tmp_path: Path, number: int) -> None:
    reading, writing = os.pipe()
    with subprocess.Popen(
        [*PROGRAM, *ANY, "-o", tmp_path, "--ready-fd", str(writing)],
        pass_fds=[writing],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(writing)
        with open(reading, "rb") as ready:
            assert ready.read() == b"\n"
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.fullmatch(r"listening: control (\d+), data (\d+), live (\d+)\n", line)
        assert match
        connections = [
            socket.create_connection(("127.0.0.1", int(port))) for port in match.groups()
        ]
        process.send_signal(number)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0
        for connection in connections:
            connection.close()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = subprocess.run(
            [*PROGRAM, *ANY, f"-Dtcp://127.0.0.1:{port}", "-o", tmp_path],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("ust-relayd: ")
    assert result.stderr.count("\n") == 1
    assert "ddress already in use" in result.stderr


@pytest.mark.parametrize(
    "option", ["-Chttp://127.0.0.1:0", "-Ctcp://127.0.0.1:70000", "--ready-fd=99999"]
)
def test_options_that_make_no_sense(option: str) -> None:
    result = subprocess.run([*PROGRAM, option], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
