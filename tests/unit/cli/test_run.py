# SPDX-License-Identifier: MIT
"""Command lines: what is understood, what is refused in one line and with which status."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import ustconsumer
from ustconsumer.cli import main
from ustconsumer.cli import run as module
from ustconsumer.cli.verbs import VERBS
from ustconsumer.errors import BrokenResourceError, CommandError, RemoteProtocolError, UsageError


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No registry, no current session, nothing of this machine's user."""
    monkeypatch.setenv("LTTNG_HOME", str(tmp_path))
    monkeypatch.setenv("LTTNG_UST_CTL_PATH", str(tmp_path / ".lttng"))
    monkeypatch.delenv("DRTRACE_SESSION", raising=False)
    return tmp_path


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on standard error; nothing may be on standard output."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("argv", "status", "text"),
    [
        (["nosuch"], 2, "nosuch is not a drtrace command"),
        (["--rundir", "x", "nosuch", "--help"], 2, "nosuch is not a drtrace command"),
        (["no\nsuch"], 2, "no such is not a drtrace command"),
        (["start", "--bo\ngus"], 2, "unrecognized arguments: --bo gus"),
        (["--bogus"], 2, "unrecognized arguments: --bogus"),
        (["start", "--bogus"], 2, "unrecognized arguments: --bogus"),
        (["enable-event", "a:b", "--probe=x"], 2, "unrecognized arguments: --probe=x"),
        (["enable-event"], 1, "Missing event name(s)"),
        (["enable-event", "a:b", "-a"], 1, "Missing event name(s)"),
        (["enable-event", "a:b", "--loglevel=LOUD"], 1, "unknown log level 'LOUD'"),
        (["enable-channel", "c", "--subbuf-size=5000"], 1, "the nearest is 4096"),
        (["enable-channel", "c", "--num-subbuf=3"], 1, "not a power of two"),
        (["enable-channel", "c", "--switch-timer=1d"], 1, "'1d' is not a time"),
        (["enable-channel", "c", "--read-timer=72m"], 1, "a period of 72m is too long"),
        (["enable-channel", "c", "--overwrite", "--num-subbuf=1"], 1, "needs two sub-buffers"),
        (["enable-channel", "c", "--overwrite", "--blocking-timeout=inf"], 1, "hold no program up"),
        (["add-context"], 1, "Missing context type"),
        (["start"], 1, "No session daemon is available"),
        (["set-session", "s"], 1, "No session daemon is available"),
        (["create", "s", "-o", ""], 1, "empty name of the output directory"),
        (["create", "s", "-o", "/proc/x"], 1, "cannot write to output directory /proc/x"),
        (["enable-event", "-k", "sched_switch"], 1, "only user space can be traced"),
        (["list", "-u"], 1, "`drtrace apps` lists the programs"),
        (["help", "nosuch"], 2, "nosuch is not a drtrace command"),
        (["destroy", "-a", "s"], 1, "all sessions, or one"),
        (["-n", "create", "x"], 1, "No session daemon is available"),
        (["list", "s"], 1, "No session daemon is available"),
        (["view"], 1, "no trace below"),
        (["view", "/nonexistent"], 1, "/nonexistent: no such directory"),
        (["record"], 125, "no command to record"),
        (["record", "--"], 125, "no command to record"),
        (["record", "--bogus", "true"], 125, "unrecognized arguments: --bogus"),
        (["record", "--subbuf-size=100k", "true"], 125, "the nearest is 131072"),
        (["record", "--preload=fork,nosuch", "true"], 125, "unknown library to preload 'nosuch'"),
        (["record", "--preload=cyg", "--preload=cyg-fast", "true"], 125, "preload one of them"),
        (["record", "--profile=nosuch", "true"], 125, "invalid choice: 'nosuch'"),
        (["record", "--workers=0", "true"], 125, "'0' is not a number of threads: use 1 to 64"),
        (["record", "--overwrite", "--blocking-timeout=1s", "true"], 125, "hold no program up"),
        (["record", "/nonexistent/program"], 127, "program not found"),
        (["record", "nonexistent-program"], 127, "program not found (not in PATH)"),
        (["record", "/etc/passwd"], 126, "not executable"),
        (["record", "/etc"], 126, "is a directory"),
    ],
)
def test_refused_in_one_line(
    argv: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str], nowhere: Path
) -> None:
    assert main(argv) == status
    assert text in one_error(capsys)
    assert list(nowhere.iterdir()) == []


def test_view_of_no_trace(capsys: pytest.CaptureFixture[str], nowhere: Path) -> None:
    assert main(["view", str(nowhere)]) == 1
    assert f"{nowhere}: no trace there" in one_error(capsys)


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["-q", "list"], 1),
        (["-q", "nosuch"], 2),
        (["-q", "start", "--bogus"], 2),
        (["-q", "--bogus"], 2),
        (["start", "--bogus", "--quiet"], 2),
        (["-q", "enable-channel", "c", "--subbuf-size=5000"], 1),
        (["record", "-q", "--subbuf-size=5000", "true"], 125),
    ],
)
def test_quiet_means_silent(
    argv: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == status
    assert capsys.readouterr() == ("", "")


def test_quiet_of_the_command_is_not_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "--bogus", "prog", "-q"]) == 125
    assert "unrecognized arguments: --bogus" in one_error(capsys)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("x"), 1),
        (CommandError("x"), 1),
        (BrokenResourceError("x"), 3),
        (RemoteProtocolError("x"), 3),
    ],
)
def test_status_of_errors(
    error: Exception,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(arguments: argparse.Namespace, context: object) -> None:
        raise error

    monkeypatch.setattr(import_module("ustconsumer.cli.stop"), "run", fail)
    assert main(["stop"]) == status
    assert one_error(capsys) == "Error: x\n"


def test_an_error_of_the_system_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: argparse.Namespace, context: object) -> None:
        os.open("/nonexistent/x", os.O_RDONLY)

    monkeypatch.setattr(import_module("ustconsumer.cli.stop"), "run", fail)
    monkeypatch.setattr(module, "_discard_output", lambda: None)
    assert main(["stop"]) == 1
    assert one_error(capfd) == "Error: No such file or directory: /nonexistent/x\n"


def test_an_error_of_several_lines_is_printed_in_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: argparse.Namespace, context: object) -> None:
        raise CommandError("first\n  second")

    monkeypatch.setattr(import_module("ustconsumer.cli.stop"), "run", fail)
    assert main(["stop"]) == 1
    assert one_error(capsys) == "Error: first second\n"


@pytest.mark.parametrize("verb", [[], ["create"]])
def test_help_is_a_word_too(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb, "--help"]) == 0
    expected = capsys.readouterr()
    assert main(["help", *verb]) == 0
    assert capsys.readouterr() == expected


@pytest.mark.parametrize("verb", ["create", "record"])
def test_an_output_relative_to_nowhere(
    verb: str, capsys: pytest.CaptureFixture[str], nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nowhere / "gone").mkdir()
    monkeypatch.chdir(nowhere / "gone")
    (nowhere / "gone").rmdir()
    words = ["true"] if verb == "record" else []
    assert main([verb, "-o", "relative", *words]) == VERBS[verb].failure
    assert "the current directory is gone" in one_error(capsys)


@pytest.mark.parametrize(
    "argv",
    [
        *(["--version"], ["-V"], ["version"], ["version", "-v"], ["version", "-V"]),
        *(["create", "-V"], ["--version", "create"], ["record", "-V"], ["record", "-V", "true"]),
    ],
)
def test_version(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    assert capsys.readouterr().out == f"drtrace version {ustconsumer.__version__}\n"


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, verb in VERBS.items():
        assert f"  {name} ".ljust(10) in out
        assert verb.summary in out


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_verb_has_help_and_takes_general_options(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: drtrace {name} ")
    assert "--rundir DIR" in out


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["record", "-o", "d", "prog", "-o", "x"], ["prog", "-o", "x"]),
        (["record", "-o", "d", "--", "prog", "--", "x"], ["prog", "--", "x"]),
        (["-q", "record", "-o", "d", "prog", "--json"], ["prog", "--json"]),
        (["record", "-o", "d", "--strict", "prog", "record"], ["prog", "record"]),
        (["record", "-o", "d", "-e", "a:*", "-e", "b:*", "prog"], ["prog"]),
    ],
)
def test_everything_from_the_command_on_is_the_command(
    argv: list[str], command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[argparse.Namespace] = []

    def see(arguments: argparse.Namespace, context: object) -> int:
        seen.append(arguments)
        return 7

    monkeypatch.setattr(import_module("ustconsumer.cli.record"), "run", see)
    assert main(argv) == 7
    words = seen[0].command
    assert (words[1:] if words[0] == "--" else words) == command
    assert seen[0].output == "d"
    assert not seen[0].json


def test_a_warning_is_status_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn(arguments: argparse.Namespace, context: module.Context) -> None:
        context.warn("careful")

    monkeypatch.setattr(import_module("ustconsumer.cli.stop"), "run", warn)
    assert main(["stop"]) == 4
    assert one_error(capsys) == "Warning: careful\n"


def test_a_harmless_warning_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn(arguments: argparse.Namespace, context: module.Context) -> None:
        context.warn("careful", harmless=True)

    monkeypatch.setattr(import_module("ustconsumer.cli.stop"), "run", warn)
    assert main(["stop"]) == 0
    assert one_error(capsys) == "Warning: careful\n"


@pytest.mark.parametrize("argv", [["--help"], ["list"], ["start"], ["create", "-n"], ["record"]])
def test_nothing_heavy_is_imported(argv: list[str], nowhere: Path) -> None:
    code = (
        "import sys; from ustconsumer.cli import main; main(sys.argv[1:]);"
        "heavy = {'numpy', 'asyncio', 'uvloop', 'rich', 'zstandard'};"
        "light = {'pathlib', 'shutil', 'subprocess', 'dataclasses'};"
        "verbs = {'--help', 'list', 'start'};"
        "unwanted = heavy | light if sys.argv[1] in verbs else heavy;"
        "print(sorted(unwanted & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", code, *argv],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_leaves_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from ustconsumer.cli import main; sys.exit(main(['--help']))"
    with os.fdopen(write, "wb") as closed:
        result = subprocess.run(
            [sys.executable, "-P", "-c", code], stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert result.stderr == b""
