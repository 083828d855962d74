# SPDX-License-Identifier: MIT
"""The manual pages: every verb and option is there, as the programs have them."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import consumerd.__main__
import consumerd.relay
import sessiond.__main__
from ustconsumer.cli.run import parser_of
from ustconsumer.cli.verbs import VERBS

ROOT = Path(__file__).resolve().parents[3]
PAGES = ROOT / "docs" / "man"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", PAGES / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parsers() -> dict[str, list[argparse.ArgumentParser]]:
    found = {f"drtrace-{verb.replace(' ', '-')}.1": [parser_of(verb)] for verb in VERBS}
    found["ltt-sessiond.8"] = [sessiond.__main__.make_parser()]
    found["ust-relayd.8"] = [consumerd.relay.make_parser()]
    (kinds,) = consumerd.__main__.make_parser()._subparsers._group_actions
    found["ust-consumerd.8"] = list(kinds.choices.values())
    return found


def test_they_are_those_of_this_release() -> None:
    """If not: python docs/man/generate.py."""
    there = {path.name: path.read_text() for path in PAGES.glob("*.[18]")}
    assert there == generator().pages()


@pytest.mark.parametrize("page", sorted(parsers()))
def test_every_option_is_in_its_page(page: str) -> None:
    text = (PAGES / page).read_text().replace("\\-", "-")
    for parser in parsers()[page]:
        for action in parser._actions:
            for flag in action.option_strings if action.help != argparse.SUPPRESS else ():
                assert f"\\fB{flag}\\fR" in text


def test_drtrace_itself_names_every_verb() -> None:
    text = (PAGES / "drtrace.1").read_text().replace("\\-", "-")
    for verb in VERBS:
        assert f"\\fB{verb}\\fR (see \\fBdrtrace-{verb.replace(' ', '-')}\\fR(1))" in text


def test_they_are_installed() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    for section in "18":
        patterns = data[f"share/man/man{section}"]
        assert {path for each in patterns for path in ROOT.glob(each)} == set(
            PAGES.glob(f"*.{section}")
        )


def test_they_are_good_roff() -> None:
    if shutil.which("groff") is None:
        pytest.skip("no groff here")
    for page in PAGES.glob("*.[18]"):
        command = ["groff", "-man", "-ww", "-Tutf8", page]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert result.stderr == ""
