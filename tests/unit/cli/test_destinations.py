# SPDX-License-Identifier: MIT
"""Options that say where packets go: what they mean, what is refused."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import pytest

from ustconsumer.cli import create, main
from ustconsumer.cli.destinations import (
    add_relay_options,
    as_typed,
    relay_urls,
    say_values,
    to_directory,
    to_relay,
)
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Destination


def destination(line: str, url: str = "net://h", live_us: int = 0) -> Destination:
    parser = argparse.ArgumentParser()
    add_relay_options(parser)
    return to_relay(parser.parse_args(say_values(line.split())), url, "", live_us)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {}),
        ("--zstd=19", {"zstd": 19}),
        ("--zstd", {"zstd": 3}),
        ("--spool=/s", {"spool": "/s"}),
        ("--spool /s:4M", {"spool": "/s", "spool_size": 4 << 20}),
        ("--spool=/with:colon", {"spool": "/with:colon"}),
    ],
)
def test_options(line: str, expected: dict[str, Any]) -> None:
    assert destination(line) == Destination(url="net://h", **expected)


def test_files_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("token", "ca", "cert", "key"):
        (tmp_path / name).touch()
    line = "--token-file=token --ca-file=ca --cert-file=cert --key-file=key --spool=s"
    wanted = destination(line, "net+tls://h")
    assert wanted == Destination(
        url="net+tls://h",
        spool=str(tmp_path / "s"),
        token_file=str(tmp_path / "token"),
        ca_file=str(tmp_path / "ca"),
        cert_file=str(tmp_path / "cert"),
        key_file=str(tmp_path / "key"),
    )


def test_a_live_session_has_a_relay() -> None:
    # As `lttng create --live`.
    assert destination("", "", 1000000) == Destination(url="net://127.0.0.1", live_us=1000000)
    assert destination("", "") == Destination()


@pytest.mark.parametrize(
    ("line", "url", "word"),
    [
        ("--spool=/s", "", "--spool: for a relay only"),
        ("--token-file=/dev/null", "", "--token-file: for a relay only"),
        ("--token-file=/nowhere/t", "net://h", "/nowhere/t cannot be read"),
        ("--ca-file=/", "net+tls://h", "cannot be read"),
        ("", "net://", "no URL of a relay"),
        ("", "net://h:1:2:3", "at most two ports"),
    ],
)
def test_refused(line: str, url: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        destination(line, url)


def test_values_may_be_left_out() -> None:
    argv = ["prog", "--zstd", "--live", "--zstd=1", "x=--zstd"]
    said = say_values(argv)
    assert [len(each) for each in said] != [len(each) for each in argv]
    # What follows is no value, and arguments of a program come back as they were.
    assert as_typed(said) == argv
    parser = argparse.ArgumentParser()
    create.configure(parser)
    arguments = parser.parse_args(create.prepare(["--live", "mine", "--zstd"]))
    assert (arguments.live, arguments.session, arguments.zstd) == (1000000, "mine", 3)


def test_a_directory_in_the_place_of_a_relay() -> None:
    assert to_directory(None, "file:///d", "-U") == ("/d", None)
    assert to_directory(None, "/d", "-U") == ("/d", None)
    assert to_directory("/o", "net://h", "-U") == ("/o", "net://h")
    assert to_directory("/o", None, "-U") == ("/o", None)
    with pytest.raises(UsageError, match="use one of them"):
        to_directory("/o", "file:///d", "-U")


def test_one_way_to_say_where_it_is() -> None:
    assert relay_urls("net://h", None, None, option="-U") == ("net://h", "")
    assert relay_urls(None, None, None, option="-U") == ("", "")
    assert relay_urls(None, "tcp://h:1", "tcp://h:2", option="-U") == ("net://h:1:2", "")
    for url, control, data in (
        ("net://h", "tcp://h", None),
        (None, "tcp://h", None),
        (None, None, "tcp://h"),
    ):
        with pytest.raises(UsageError):
            relay_urls(url, control, data, option="-U")


# `lttng create` refuses these, too.
@pytest.mark.parametrize(
    "line",
    [
        "--set-url=tcp://127.0.0.1",
        "--set-url=net://127.0.0.1:1:2:3",
        "--set-url=net://h --ctrl-url=tcp://h --data-url=tcp://h",
        "--ctrl-url=tcp://127.0.0.1:6000",
        "--live --snapshot --set-url=net://127.0.0.1",
        "--live=0 --set-url=net://127.0.0.1",
        "-o /o --set-url=file:///o2",
    ],
)
def test_refused_as_by_lttng(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LTTNG_HOME", str(tmp_path))
    monkeypatch.setenv("LTTNG_UST_CTL_PATH", str(tmp_path / ".lttng"))
    assert main(["create", "s", *line.split()]) == 1
    assert capsys.readouterr().err.startswith("Error: ")
    # Before a session daemon was started.
    assert os.listdir(tmp_path) == []
