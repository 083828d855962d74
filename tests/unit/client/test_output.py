# SPDX-License-Identifier: MIT
"""Directories of traces: claimed before anything runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ustconsumer.client.output import (
    OUTER_HOME,
    claim,
    default_output,
    newest_trace,
    outer_home,
    timestamped,
    unclaim,
)
from ustconsumer.errors import UsageError


def test_names_as_lttng(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert timestamped("app%d", 0.0) == "app%d-19700101-000000"
    monkeypatch.undo()
    time.tzset()


def test_two_runs_in_a_second_have_two_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LTTNG_HOME", str(tmp_path))
    first = default_output("p-1")
    assert first == tmp_path / "lttng-traces" / "p-1"
    first.mkdir(parents=True)
    second = default_output("p-1")
    second.mkdir()
    assert [second.name, default_output("p-1").name] == ["p-1-2", "p-1-3"]


def test_claimed_directories_can_be_given_back(tmp_path: Path) -> None:
    made = claim(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    unclaim(made)
    assert list(tmp_path.iterdir()) == []


def test_giving_back_keeps_what_was_there_and_what_was_written(tmp_path: Path) -> None:
    unclaim(claim(tmp_path))
    assert tmp_path.is_dir()
    made = claim(tmp_path / "a" / "b")
    (tmp_path / "a" / "kept").touch()
    unclaim(made)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept"]


def test_a_used_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is not empty"):
        claim(tmp_path)
    with pytest.raises(UsageError, match=r"cannot write .*Not a directory"):
        claim(tmp_path / "file")
    with pytest.raises(UsageError, match=r"cannot write .*Not a directory"):
        claim(tmp_path / "file" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_parents_may_appear_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run makes ``lttng-traces`` between our look and our mkdir."""
    make = Path.mkdir

    def raced(self: Path, mode: int = 0o777) -> None:
        if self == tmp_path / "a":
            make(self)
        make(self, mode)

    monkeypatch.setattr(Path, "mkdir", raced)
    assert claim(tmp_path / "a" / "b") == [tmp_path / "a" / "b"]
    assert (tmp_path / "a" / "b").is_dir()


def test_newest_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTTNG_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="no trace below"):
        newest_trace()
    traces = tmp_path / "lttng-traces"
    for name, age in (("old", 20), ("new", 10), ("middle", 15)):
        metadata = traces / name / "ust" / "uid" / "0" / "64-bit" / "metadata"
        metadata.parent.mkdir(parents=True)
        metadata.touch()
        os.utime(metadata, (time.time() - age,) * 2)
    (traces / "empty").mkdir()
    assert newest_trace() == traces / "new"


def test_of_snapshots_the_newest_is_the_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share their events: all of them together are no trace."""
    monkeypatch.setenv("LTTNG_HOME", str(tmp_path))
    session = tmp_path / "lttng-traces" / "shop-20261123-080000"
    snapshots = [session / f"{name}-20261123-08010{n}-{n}" for n, name in enumerate("aba")]
    for age, snapshot in zip((30, 10, 20), snapshots, strict=True):
        metadata = snapshot / "ust" / "uid" / "0" / "64-bit" / "metadata"
        metadata.parent.mkdir(parents=True)
        metadata.touch()
        os.utime(metadata, (time.time() - age,) * 2)
    assert newest_trace() == snapshots[1]


def test_within_a_recorded_command_traces_go_to_the_users_home() -> None:
    env = {"LTTNG_HOME": "/run/x", OUTER_HOME: "/run/x:/home/u"}
    assert outer_home(env)["LTTNG_HOME"] == "/home/u"
    # The command chose another home for what it runs.
    chosen = {**env, "LTTNG_HOME": "/mine"}
    assert outer_home(chosen) == chosen
    assert outer_home({"HOME": "/home/u"}) == {"HOME": "/home/u"}
