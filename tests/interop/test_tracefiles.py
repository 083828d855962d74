# SPDX-License-Identifier: MIT
"""``--tracefile-size`` and ``--tracefile-count``: the same files as lttng's, the same events."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text, normal_text
from helpers.drtrace import end_registry
from helpers.lttng import lttng_sessiond
from helpers.registry import running_registry, until
from helpers.relayd import relayd
from helpers.rundir import Rundir

from ustconsumer.protocol.control import ChannelOptions, Destination

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "lttng", "lttng-sessiond", "babeltrace2")

ENTRY = struct.Struct(">9Q")
INDEX_HEADER = 16
CPU = min(os.sched_getaffinity(0))
SMALL = "--subbuf-size=4k --num-subbuf=32"
#: One event fills a packet of 4 KiB (or two one of 8): nothing depends on how long its header is.
EVENTS = ["3000"] * 12
#: Channels of one session; then one with buffers per process.
CHANNELS = {
    "size": f"{SMALL} --tracefile-size=13000",
    "wraps": f"{SMALL} --tracefile-size=12k --tracefile-count=3",
    "one": f"{SMALL} --tracefile-size=20k --tracefile-count=1",
    "unfilled": f"{SMALL} --tracefile-size=12k --tracefile-count=9",
    "packets": f"{SMALL} --tracefile-size=4k --tracefile-count=5",
    "larger": "--subbuf-size=8k --num-subbuf=32 --tracefile-size=20k",
    "rounded": "--subbuf-size=8k --num-subbuf=32 --tracefile-size=1k --tracefile-count=2",
    "without": SMALL,
}
PER_PROCESS = {"pid": f"{SMALL} --buffers-pid --tracefile-size=12k --tracefile-count=2"}


class File(NamedTuple):
    name: str
    size: int
    sequences: list[int]


def pin() -> None:
    """Keep a program and its children, which liblttng-ust's threads are, on one CPU."""
    os.sched_setaffinity(0, {CPU})


def files(output: Path) -> list[File]:
    """Return the data files below a directory, with what their indexes say."""
    found = []
    for path in output.rglob("*_*"):
        if path.parent.name == "index" or not path.is_file():
            continue
        index = path.parent / "index" / f"{path.name}.idx"
        entries = list(ENTRY.iter_unpack(index.read_bytes()[INDEX_HEADER:]))
        # Each packet is where its entry says, and the file ends behind the last one.
        end = 0
        for entry in entries:
            assert entry[0] == end, path
            end += entry[1] // 8
        assert end == path.stat().st_size, path
        name = re.sub(r"uid/\d+|sized-\d+-\d+-\d+", "WHOSE", str(path.relative_to(output)))
        found.append(File(name, end, [entry[8] for entry in entries]))
    indexes = sum(1 for path in output.rglob("*.idx"))
    assert indexes == len(found)
    return sorted(found)


def events(output: Path) -> list[str]:
    """Return the text of the events, sorted; ``drtrace view`` prints the same."""
    return sorted(normal_text(babeltrace2_text(output).lines))


@pytest.mark.parametrize("channels", [CHANNELS, PER_PROCESS], ids=["uid", "pid"])
def test_the_same_files_and_events_as_lttng(
    channels: dict[str, str], apps: Apps, user_rundir: Rundir
) -> None:
    def drtrace(*words: str | Path) -> str:
        result = user_rundir.drtrace("--rundir", user_rundir.path, *words)
        assert result.returncode == 0, (words, result.stderr)
        return str(result.stdout)

    def record(command: Callable[..., str], rundir: Rundir) -> Path:
        output = rundir.home / "trace"
        command("create", "recorded", "-o", output)
        for name, options in channels.items():
            command("enable-channel", "-u", *options.split(), name)
            command("enable-event", "-u", "-c", name, "sized:*")
        command("start")
        assert rundir.run([apps.sized, *EVENTS], preexec_fn=pin).returncode == 0
        command("stop")
        command("destroy")
        return output

    try:
        ours = record(drtrace, user_rundir)
    finally:
        drtrace("destroy", "-a")
        end_registry(user_rundir)
    with lttng_sessiond() as lttng:
        theirs = record(lttng, lttng.rundir)
        assert files(ours) == files(theirs)
        assert events(ours) == events(theirs)
    names = {Path(file.name).name for file in files(ours)}
    assert {f"{name}_{CPU}_0" for name in channels if name != "without"} < names


def test_the_same_words_as_lttng(user_rundir: Rundir) -> None:
    lines = ["--tracefile-size=4k one", "--tracefile-count=3 two", "--tracefile-size=512k three"]
    try:
        user_rundir.drtrace("--rundir", user_rundir.path, "create", "words")
        with lttng_sessiond() as lttng:
            lttng("create", "words")
            for line in lines:
                command = ("enable-channel", "-u", "-s", "words", *line.split())
                theirs = lttng.rundir.run(["lttng", "--no-sessiond", *command])
                ours = user_rundir.drtrace("--rundir", user_rundir.path, *command)
                assert ours.stderr == theirs.stderr
                assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    finally:
        user_rundir.drtrace("--rundir", user_rundir.path, "destroy", "-a")
        end_registry(user_rundir)


@pytest.mark.parametrize("kind", ["ours", "lttng"])
def test_a_relay_is_told(apps: Apps, rundir: Rundir, tmp_path: Path, kind: str) -> None:
    """Files of three packets, as many as it takes, and the newest two."""
    with relayd(kind, tmp_path / "relay") as relay, running_registry(rundir) as registry:
        session = registry.client.create("s", "", destination=Destination(url=relay.url))
        for name, count in (("all", 0), ("newest", 2)):
            options = ChannelOptions(
                subbuf_size=4096, num_subbuf=32, tracefile_size=3 * 4096, tracefile_count=count
            )
            session.enable_channel(name, options)
            session.enable_event("sized:*", name)
        session.start()
        assert rundir.run([apps.sized, *EVENTS[:11]], preexec_fn=pin).returncode == 0
        session.stop()
        session.destroy()
        until(lambda: len(list(relay.output.rglob(f"newest_{CPU}_*"))) == 4, "its files are there")
    found = {
        Path(file.name).name: file.sequences
        for file in files(relay.output)
        if f"_{CPU}_" in file.name
    }
    assert found == {
        **{
            f"all_{CPU}_{number}": [*range(3 * number, min(3 * number + 3, 11))]
            for number in range(4)
        },
        f"newest_{CPU}_0": [6, 7, 8],
        f"newest_{CPU}_1": [9, 10],
    }
    # Of the second channel the first two files are gone.
    assert len(events(relay.output)) == 11 + 5


@pytest.mark.parametrize("zstd", [False, True], ids=["plain", "zstd"])
def test_a_relay_that_comes_back_goes_on_in_the_newest_file(
    apps: Apps, rundir: Rundir, tmp_path: Path, zstd: bool
) -> None:
    options = ["--zstd"] if zstd else []
    with (
        relayd("ours", tmp_path / "relay", *options) as relay,
        running_registry(rundir) as registry,
    ):
        session = registry.client.create("s", "", destination=Destination(url=relay.url))
        for name, count in (("all", 0), ("newest", 2)):
            channel = ChannelOptions(
                subbuf_size=4096, num_subbuf=32, tracefile_size=2 * 4096, tracefile_count=count
            )
            session.enable_channel(name, channel)
            session.enable_event("sized:*", name)
        session.start()
        for _ in range(3):
            assert rundir.run([apps.sized, *EVENTS[:6]], preexec_fn=pin).returncode == 0
            until(
                lambda: all(
                    stream.consumed == stream.produced // 4096 * 4096
                    for stream in session.info().streams
                ),
                "all full packets are there",
            )
            relay.kill()
            relay.start()
        session.stop()
        session.destroy()
        until(lambda: len(list(relay.output.rglob(f"newest_{CPU}_*"))) == 4, "its files are there")
    directory = next(relay.output.rglob("metadata*")).parent.parent.parent.parent
    if zstd:
        assert rundir.drtrace("unpack", "--in-place", directory).returncode == 0
    found = {
        Path(file.name).name: file.sequences for file in files(directory) if f"_{CPU}_" in file.name
    }
    numbers = range(9)
    assert found == {
        **{f"all_{CPU}_{number}": [2 * number, 2 * number + 1] for number in numbers},
        f"newest_{CPU}_0": [16, 17],
        f"newest_{CPU}_1": [14, 15],
    }


def test_snapshots_as_lttngs(apps: Apps, user_rundir: Rundir) -> None:
    """The newest packets are kept, as many as the count allows."""
    channels = {
        "size": f"{SMALL} --tracefile-size=12k",
        "newest": f"{SMALL} --tracefile-size=12k --tracefile-count=2",
    }

    def drtrace(*words: str | Path) -> str:
        result = user_rundir.drtrace("--rundir", user_rundir.path, *words)
        assert result.returncode == 0, (words, result.stderr)
        return str(result.stdout)

    def take(command: Callable[..., str], rundir: Rundir) -> list[dict[str, int]]:
        output = rundir.home / "trace"
        command("create", "recorded", "--snapshot", "-o", output)
        for name, options in channels.items():
            command("enable-channel", "-u", *options.split(), name)
            command("enable-event", "-u", "-c", name, "sized:*")
        command("start")
        for _ in range(2):
            assert rundir.run([apps.sized, *EVENTS[:7]], preexec_fn=pin).returncode == 0
            command("snapshot", "record")
        command("destroy")
        return [
            {
                path.name: path.stat().st_size
                for path in snapshot.rglob(f"*_{CPU}_?")
                if path.parent.name != "index"
            }
            for snapshot in sorted(output.iterdir())
        ]

    try:
        ours = take(drtrace, user_rundir)
        ours_read = [events(each) for each in sorted((user_rundir.home / "trace").iterdir())]
    finally:
        drtrace("destroy", "-a")
        end_registry(user_rundir)
    with lttng_sessiond() as lttng:
        theirs = take(lttng, lttng.rundir)
        assert ours[0] == theirs[0]
        # LTTng goes on counting where its snapshot before ended.
        assert sorted(ours[1].values()) == sorted(theirs[1].values())
        theirs_read = [events(each) for each in sorted((lttng.rundir.home / "trace").iterdir())]
    assert ours_read == theirs_read
    assert [len(files) for files in ours] == [5, 7]
