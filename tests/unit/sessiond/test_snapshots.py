# SPDX-License-Identifier: MIT
"""Where snapshots go, and those that the registry has taken."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any, cast

import pytest

from sessiond.outputs import SnapshotOutputs
from sessiond.recording import Recording
from sessiond.registry import Session
from sessiond.snapshots import Snapshots
from sessiond.sockets import Peer
from sessiond.spawner import Program
from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.control import Destination, SnapshotOutput

NAME = re.compile(r"(?P<name>.+)-\d{8}-\d{6}-(?P<number>\d+)(?P<again>-\d+)?")


def session(output: str = "/out", snapshot: bool = True) -> Session:
    return Session("mine", os.geteuid(), os.getegid(), output, snapshot=snapshot)


def named(path: str) -> tuple[str, str, int]:
    directory, name = os.path.split(path)
    match = NAME.fullmatch(name)
    assert match is not None, path
    return directory, match["name"], int(match["number"])


def test_a_session_in_snapshot_mode_has_its_output() -> None:
    outputs = SnapshotOutputs(session())
    assert outputs.list() == [SnapshotOutput(id=1, name="snapshot-1", path="/out")]
    assert SnapshotOutputs(session("")).list() == []
    assert SnapshotOutputs(session(snapshot=False)).list() == []


def test_one_output_at_a_time() -> None:
    outputs = SnapshotOutputs(session())
    with pytest.raises(CommandError, match="already"):
        outputs.add(SnapshotOutput(path="/other"))
    outputs.remove("snapshot-1")
    added = outputs.add(SnapshotOutput(path="/other", max_size=5))
    # Numbers do not come again, as with lttng.
    assert added == SnapshotOutput(id=2, name="snapshot-2", path="/other", max_size=5)
    with pytest.raises(CommandError, match="no snapshot output 1"):
        outputs.remove("1")
    outputs.remove("2")
    assert outputs.list() == []


@pytest.mark.parametrize(
    "output",
    [
        SnapshotOutput(path="relative"),
        SnapshotOutput(),
        SnapshotOutput(path="/x", name="a/b"),
        SnapshotOutput(path="/x", name=".."),
        SnapshotOutput(path="/x", name="a\0"),
        SnapshotOutput(path="/x", max_size=-1),
        SnapshotOutput(path="net://h:1:2:3"),
        SnapshotOutput(path="net://h", data_url="net://h"),
        SnapshotOutput(path="/x", data_url="tcp://h"),
        SnapshotOutput(path="tcp://h"),
    ],
)
def test_outputs_that_cannot_be(output: SnapshotOutput) -> None:
    with pytest.raises(UsageError):
        SnapshotOutputs(session("")).add(output)


def test_names_of_snapshots() -> None:
    outputs = SnapshotOutputs(session())
    outputs.remove("1")
    outputs.add(SnapshotOutput(path="/out", name="mine", max_size=7))
    place = outputs.place(SnapshotOutput())
    assert (named(place.path), place.max_size) == (("/out", "mine", 0), 7)
    place = outputs.place(SnapshotOutput(name="other", max_size=9))
    assert (named(place.path), place.max_size) == (("/out", "other", 1), 9)
    assert named(outputs.place(SnapshotOutput(path="/x")).path) == ("/x", "snapshot-0", 2)


def test_no_name_is_given_twice(tmp_path: Path) -> None:
    first, second = SnapshotOutputs(session(str(tmp_path))), SnapshotOutputs(session(str(tmp_path)))
    for _ in range(3):
        path = first.place(SnapshotOutput()).path
        Path(path).mkdir()
        assert second.place(SnapshotOutput()).path != path


def test_a_session_without_a_place() -> None:
    outputs = SnapshotOutputs(session())
    outputs.remove("1")
    with pytest.raises(CommandError, match="no snapshot output"):
        outputs.place(SnapshotOutput())
    consumed = SnapshotOutputs(session(snapshot=False))
    assert named(consumed.place(SnapshotOutput()).path) == ("/out", "snapshot-0", 0)


URL = "net://127.0.0.1:1:2"


def test_a_relay_gets_snapshots() -> None:
    destination = Destination(url=URL, data_url="tcp://127.0.0.2:3")
    elsewhere = Session("mine", 1, 1, "", destination, snapshot=True)
    outputs = SnapshotOutputs(elsewhere)
    (output,) = outputs.list()
    assert output == SnapshotOutput(id=1, name="snapshot-1", path=URL, data_url="tcp://127.0.0.2:3")
    place = outputs.place(SnapshotOutput(name="other", max_size=9))
    assert (place.path, place.url, place.data_url) == ("", URL, "tcp://127.0.0.2:3")
    assert (named(f"/{place.name}"), place.max_size) == (("/", "other", 0), 9)
    # Where somebody says so, and there is no other place.
    place = SnapshotOutputs(session()).place(SnapshotOutput(path="net://h"))
    assert (place.path, place.url, place.data_url) == ("", "net://h", "")
    assert place.name.startswith("snapshot-0-")
    streaming = SnapshotOutputs(Session("mine", 1, 1, "", destination))
    assert streaming.list() == []
    assert streaming.place(SnapshotOutput()).url == URL
    # A directory is nearer.
    both = SnapshotOutputs(Session("mine", 1, 1, "/out", destination))
    assert named(both.place(SnapshotOutput()).path) == ("/out", "snapshot-0", 0)


class Spawner:
    """Runs programs: notes them, and says how they ended."""

    def __init__(self) -> None:
        self.status = 0
        self.programs: list[Program] = []

    async def run(self, recording: Recording, program: Program) -> int:
        self.programs.append(program)
        return self.status


class Lease:
    peer = Peer(77, 1, 1)

    def __init__(self) -> None:
        self.drained: list[bool] = []
        self.answer = True

    async def drain(self, final: bool, seconds: float) -> bool:
        self.drained.append(final)
        return self.answer


def test_snapshots_that_the_registry_takes() -> None:
    async def scenario() -> None:
        mine = session()
        recording = Recording(mine)
        spawner = Spawner()
        snapshots = Snapshots(lambda _: recording, spawner.run)
        with pytest.raises(CommandError, match="never started"):
            await snapshots.prepare(mine, SnapshotOutput())
        mine.started = True
        path = await snapshots.take(mine, SnapshotOutput(name="n", max_size=8))
        assert named(path) == ("/out", "n", 0)
        assert spawner.programs[0].argv("mine") == [
            *("snapshot", "mine", "--output", path, "--max-size", "8")
        ]
        name = await snapshots.take(mine, SnapshotOutput(path=URL))
        assert spawner.programs[1].argv("mine") == [
            *("snapshot", "mine", f"--to={URL}", "--data-url=", f"--name={name}")
        ]
        spawner.status = 1
        with pytest.raises(CommandError, match="failed"):
            await snapshots.take(mine, SnapshotOutput())
        lease = Lease()
        recording.lease = cast("Any", lease)
        await snapshots.prepare(mine, SnapshotOutput(), switch=False)
        assert lease.drained == []
        await snapshots.prepare(mine, SnapshotOutput(), switch=True)
        assert lease.drained == [True]
        lease.answer = False
        with pytest.raises(CommandError, match=r"\(pid 77\) .* did not close"):
            await snapshots.prepare(mine, SnapshotOutput(), switch=True)
        recording.lease = None
        recording.close()

    asyncio.run(scenario())
