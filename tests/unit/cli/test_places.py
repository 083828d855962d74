# SPDX-License-Identifier: MIT
"""Directories and relays where a snapshot can go."""

from __future__ import annotations

from pathlib import Path

import pytest

from ustconsumer.cli.places import shown_output, snapshot_place
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import SnapshotOutput


def test_places_of_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert snapshot_place(None, None, None) == (None, "")
    assert snapshot_place("snaps", None, None) == (str(tmp_path / "snaps"), "")
    assert snapshot_place("file:///d", None, None) == ("/d", "")
    assert snapshot_place("net://h:1:2/p", None, None) == ("net://h:1:2/p", "")
    assert snapshot_place(None, "tcp://h:1/p", "tcp://h:2") == ("net://h:1:2/p", "")
    assert snapshot_place(None, "tcp://h:1", "tcp://i:2") == ("net://h:1:2", "tcp://i:2")


@pytest.mark.parametrize(
    ("place", "control", "data"),
    [
        ("tcp://h", None, None),
        ("net://h:1:2:3", None, None),
        ("net+bogus://h", None, None),
        ("", None, None),
        ("/d", "tcp://h", "tcp://h"),
        (None, "tcp://h", None),
        (None, None, "tcp://h"),
    ],
)
def test_no_places(place: str | None, control: str | None, data: str | None) -> None:
    with pytest.raises(UsageError) as refused:
        snapshot_place(place, control, data)
    assert "\n" not in str(refused.value)


# As `lttng snapshot list-output` 2.13.
@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (SnapshotOutput(id=1, name="a", path="/d", max_size=5), "[1] a: /d (max size: 5 bytes)"),
        (
            SnapshotOutput(id=2, name="snapshot-2", path="net://127.0.0.1:6000:6001"),
            "[2] snapshot-2: tcp4://127.0.0.1:6000/",
        ),
    ],
)
def test_shown(output: SnapshotOutput, shown: str) -> None:
    assert shown_output(output) == shown
