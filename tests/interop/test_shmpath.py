# SPDX-License-Identifier: MIT
"""Sessions with buffers in files: recorded, snapshot and paused as others; gone at the end."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from helpers import processes
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

from ustconsumer.client.session import Session
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import ChannelOptions
from ustconsumer.recover import recover

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")


def _seqs(directory: Path) -> Counter[int]:
    text = "\n".join(babeltrace2_text(directory).lines)
    return Counter(int(number) for number in re.findall(r" seq = (\d+)", text))


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.mark.parametrize("buffers", ["uid", "pid"])
def test_recorded_as_others(rundir: Rundir, apps: Apps, buffers: str) -> None:
    shm, output = rundir.home / "shm", rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = registry.client.create("s", output, shm_path=shm)
        (directory,) = shm.iterdir()
        assert session.info().shm_path == str(directory)
        session.enable_channel("chan", ChannelOptions(buffers=buffers))
        session.enable_event("flood:*")
        session.start()
        assert rundir.run([apps.flood, "5000"]).returncode == 0
        if buffers == "pid":
            # With the process, once the consumer has all of it.
            until(lambda: not _files(shm), "the files of the process are gone")
        else:
            assert _files(shm)
        assert session.stop() == []
        assert _seqs(output) == Counter(range(5000))
        session.destroy()
        # As LTTng: what the user named stays.
        assert list(shm.iterdir()) == []


def test_snapshots_of_files(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        session = registry.client.create(
            "s", rundir.home / "trace", snapshot=True, shm_path=rundir.home / "shm"
        )
        session.enable_event("flood:*")
        session.start()
        assert rundir.run([apps.flood, "300"]).returncode == 0
        session.snapshot(rundir.home / "snapshot")
        assert _seqs(rundir.home / "snapshot") == Counter(range(300))
        done = recover(rundir.home / "shm", rundir.home / "recovered")
        assert _seqs(rundir.home / "recovered") == Counter(range(300))
        # The registry has them mapped only now and then.
        assert done.problems == []
        session.destroy()


def test_recover_while_programs_write(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        session: Session = registry.client.create(
            "s", rundir.home / "trace", shm_path=rundir.home / "shm"
        )
        options = ChannelOptions(subbuf_size=16384, mode="overwrite")
        session.enable_channel("chan", options)
        session.enable_event("flood:*")
        session.start()
        program = rundir.start([apps.flood, "-1", "2"])
        until(lambda: any(each.produced > 1 << 20 for each in session.info().streams), "events")
        for number in range(20):
            out = rundir.home / f"out{number}"
            done = recover(rundir.home / "shm", out)
            assert program.pid in done.writers
            assert done.problems == []
            assert len(babeltrace2_text(out).lines) == done.events
        processes.end(program.pid)
        program.wait()
        session.destroy()


def test_a_directory_that_cannot_be_is_told_at_once(rundir: Rundir) -> None:
    (rundir.home / "file").write_text("")
    with running_registry(rundir) as registry:
        with pytest.raises(CommandError, match="Not a directory"):
            registry.client.create("s", rundir.home, shm_path=rundir.home / "file" / "below")
        assert registry.client.sessions() == []
        # The name is free.
        registry.client.create("s", rundir.home / "trace").destroy()


def test_a_file_that_is_cut_off_does_not_end_the_registry(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        session = registry.client.create(
            "s", rundir.home / "trace", snapshot=True, shm_path=rundir.home / "shm"
        )
        session.enable_event("flood:*")
        session.start()
        assert rundir.run([apps.flood, "300"]).returncode == 0
        for path in (rundir.home / "shm").rglob("*_[0-9]*"):
            if path.is_file():
                os.truncate(path, 4096)
        assert {each.produced for each in session.info().streams} == {0}
        # Whoever attaches now is told, and lives.
        snapshot = session.snapshot(rundir.home / "snapshot")
        assert any("bytes" in line for line in snapshot.problems)
        session.stop()
        session.destroy()
        assert registry.client.sessions() == []
