# SPDX-License-Identifier: MIT
"""Whatever the standard streams are: no traceback, and nothing of ours takes their numbers."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import ustconsumer
from ustconsumer.cli.terminal import HelpFormatter

VERSION = f"drtrace version {ustconsumer.__version__}\n"
OPEN = """
import os, sys
from ustconsumer.cli.terminal import open_standard_streams
open_standard_streams()
assert os.open("/", os.O_RDONLY) > 2
print("said")
print("said", file=sys.stderr)
"""


def shell(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the streams a shell gives it."""
    command = ["sh", "-c", f'exec "$0" -P "$@" {redirection}', sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="surrogateescape")


def drtrace(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return shell(redirection, "-m", "ustconsumer.cli", *arguments)


@pytest.mark.parametrize("redirection", ["0<&-", ">&-", "2>&-", "0<&- >&- 2>&-"])
def test_closed_streams_are_replaced(redirection: str) -> None:
    result = shell(redirection, "-c", OPEN)
    assert result.returncode == 0
    assert result.stdout == ("" if " >" in f" {redirection}" else "said\n")
    assert result.stderr == ("" if "2>" in redirection else "said\n")


def test_a_verb_with_closed_output_does_its_work() -> None:
    result = drtrace(">&-", "version")
    assert (result.returncode, result.stderr) == (0, "")


def test_output_on_a_full_disk_is_one_line() -> None:
    result = drtrace(">/dev/full", "version")
    assert result.returncode == 1
    assert result.stderr == "Error: No space left on device\n"


def test_a_name_in_another_encoding_is_refused_in_one_line(tmp_path: Path) -> None:
    # What the locale cannot print either.
    result = drtrace("", "--rundir", str(tmp_path), "list", "a\udcff")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    result = drtrace("", "a\udcff")
    assert result.returncode == 2
    assert result.stderr == "drtrace: a\\udcff is not a drtrace command. See `drtrace --help`.\n"


@pytest.mark.parametrize(("columns", "width"), [("40", 40), ("", 80), ("0", 80), ("wide", 80)])
def test_help_is_as_wide_as_the_terminal(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("os.get_terminal_size", lambda fd: os.terminal_size((0, 0)))
    expected = argparse.HelpFormatter("x", width=width - 2)
    found = HelpFormatter("x")
    for formatter in (expected, found):
        formatter.add_text("word " * 100)
    assert found.format_help() == expected.format_help()


def test_ctrl_c_ends_a_waiting_verb_silently() -> None:
    with (
        # Not tmp_path: it may be too long for a socket.
        tempfile.TemporaryDirectory(prefix="ust-", dir="/tmp") as rundir,
        socket.socket(socket.AF_UNIX) as mute,
    ):
        mute.bind(f"{rundir}/drtrace.sock")
        mute.listen()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ustconsumer.cli", "--rundir", rundir, "list"],
            stderr=subprocess.PIPE,
        )
        connection, _ = mute.accept()
        process.send_signal(signal.SIGINT)
        assert process.communicate() == (None, b"")
        connection.close()
    # By the signal itself, so that a shell's loop ends too.
    assert process.returncode == -signal.SIGINT
