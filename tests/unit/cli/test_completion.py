# SPDX-License-Identifier: MIT
"""Completion: the scripts, in the shells that are there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ustconsumer.cli import shells
from ustconsumer.cli.grammar import arguments_of
from ustconsumer.cli.verbs import VERBS


def complete(line: str, place: Path, answers: str = "") -> set[str]:
    """Return what bash offers at the end of a line; ``answers`` is what `drtrace` says."""
    script = place / "drtrace.bash"
    script.write_text(shells.script("bash"))
    # bash splits words as when somebody types.
    words = line.replace("=", " = ").split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    code = f"""
        drtrace() {{ echo "$*" >> calls; printf '%s\\n' {answers}; }}
        source {script}
        COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}
        _drtrace
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    result = subprocess.run(
        ["bash", "--norc", "-uc", code], capture_output=True, text=True, check=True, cwd=place
    )
    assert result.stderr == ""
    return set(result.stdout.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("drtrace destr", {"destroy"}),
        ("drtrace --rundir /x destr", {"destroy"}),
        ("drtrace snapshot ", {"record", "add-output", "list-output", "del-output"}),
        ("drtrace snapshot add", {"add-output"}),
        ("drtrace enable-channel --subb", {"--subbuf-size"}),
        ("drtrace snapshot record --swi", {"--switch"}),
        ("drtrace record --profile ", {"ros2", "dotnet", "cpp"}),
        ("drtrace record --profile=do", {"dotnet"}),
        ("drtrace consume one d", {"disk", "done"}),
        ("drtrace help rota", {"rotate"}),
        ("drtrace start o", {"one"}),
        ("drtrace add-context -s ", {"one", "done"}),
        ("drtrace enable-event --session=o", {"one"}),
        # Its name is to be a new one.
        ("drtrace create ", {""}),
    ],
)
def test_bash(line: str, offered: set[str], tmp_path: Path) -> None:
    assert complete(line, tmp_path, "one done") == offered - {""}


def test_bash_asks_for_names_only_where_some_are_wanted(tmp_path: Path) -> None:
    complete("drtrace rec", tmp_path)
    complete("drtrace create --out", tmp_path)
    assert not (tmp_path / "calls").exists()
    complete("drtrace enable-event -c ", tmp_path)
    assert (tmp_path / "calls").read_text() == "completion --names channel\n"


def test_bash_offers_every_option_of_every_verb(tmp_path: Path) -> None:
    for verb in VERBS:
        flags = {flag for each in arguments_of(verb) for flag in each.flags}
        assert "--help" in flags
        assert complete(f"drtrace {verb} -", tmp_path) == flags, verb


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_shell(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    script = shells.script(shell)
    result = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_scripts_have_every_verb_and_option(shell: str) -> None:
    text = shells.script(shell)
    for verb in VERBS:
        assert verb.split()[-1] in text
        for each in arguments_of(verb):
            for flag in each.flags:
                assert (flag if shell == "zsh" else flag.lstrip("-")) in text


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("drtrace destr", ["destroy"]),
        ("drtrace --rundir /x destr", ["destroy"]),
        ("drtrace snapshot a", ["add-output"]),
        ("drtrace snapshot record --sw", ["--switch"]),
        ("drtrace record --profile d", ["dotnet"]),
        ("drtrace start o", ["one"]),
        ("drtrace create o", []),
    ],
)
def test_fish(line: str, offered: list[str], tmp_path: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("no fish here")
    script = tmp_path / "drtrace.fish"
    script.write_text(shells.script("fish"))
    drtrace = tmp_path / "drtrace"
    drtrace.write_text("#!/bin/sh\necho one\necho done\n")
    drtrace.chmod(0o755)
    code = f"set -gx PATH {tmp_path} $PATH; source {script}; complete -C '{line}'"
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    result = subprocess.run(
        ["fish", "--no-config", "-c", code], capture_output=True, text=True, env=environment
    )
    assert [each.split("\t")[0] for each in result.stdout.splitlines()] == offered
