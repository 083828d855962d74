# SPDX-License-Identifier: MIT
"""``drtrace recover`` beside ``lttng-crash``: both read LTTng's files and ours, after SIGKILL."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import processes, users
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.lttng import lttng_sessiond
from helpers.registry import running_registry, until
from helpers.rundir import MARK, Rundir
from helpers.viewing import babeltrace2

from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2", "lttng-crash")

_KINDS = [(buffers, mode) for buffers in ("uid", "pid") for mode in ("discard", "overwrite")]
_LOSS = re.compile(r"WARNING: Tracer (may have )?discarded (\d+ )?(events?|packets?) ")
_RECOVERED = re.compile(r"(\d+) events recovered, (\d+) packets")


def _flood(rundir: Rundir, apps: Apps) -> subprocess.Popen[bytes]:
    return rundir.start([apps.flood, "-1", "2"])


def _pause() -> None:
    """Let some time pass, every time another: what is killed is somewhere else."""
    time.sleep(0.2 + os.urandom(1)[0] / 1000)


def _remove_sockets(directory: Path) -> None:
    """Remove what those who were killed left."""
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()


@contextlib.contextmanager
def _killed_lttng(apps: Apps, directory: Path, buffers: str, mode: str) -> Iterator[Path]:
    """Give what LTTng leaves when program and consumer are killed at full speed."""
    with lttng_sessiond() as lttng:
        home = lttng.rundir.home
        lttng("create", "crash", "-o", home / "trace", f"--shm-path={home / 'shm'}")
        sizes = ("--subbuf-size=16384", "--num-subbuf=4")
        lttng("enable-channel", "-u", f"--buffers-{buffers}", f"--{mode}", *sizes, "chan")
        lttng("enable-event", "-u", "-c", "chan", "--all")
        lttng("add-context", "-u", "-c", "chan", "-t", "vpid", "-t", "procname")
        lttng("start")
        program = _flood(lttng.rundir, apps)
        until(lambda: list((home / "shm").glob("*/ust/*/*/**/chan_0")), "it has buffers")
        daemon = int((lttng.rundir.path / "lttng-sessiond.pid").read_text())
        _pause()
        # It would tidy up. Its consumer and the program die, whoever comes first.
        os.kill(daemon, signal.SIGSTOP)
        try:
            others = set(processes.marked(MARK, str(home))) - {program.pid, daemon}
            doomed = [pid for pid in others if "consumerd" in processes.command_line(pid)]
            assert doomed
            for pid in random.sample([*doomed, program.pid], len(doomed) + 1):
                os.kill(pid, signal.SIGKILL)
            program.wait()
            shutil.copytree(home / "shm", directory / "shm")
        finally:
            os.kill(daemon, signal.SIGCONT)
            _remove_sockets(lttng.rundir.path / "ustconsumerd64")
    yield directory / "shm"


@contextlib.contextmanager
def _killed_registry(apps: Apps, rundir: Rundir, buffers: str, mode: str) -> Iterator[Path]:
    """Give what we leave when program, consumer and registry are killed at full speed."""
    shm = rundir.home / "shm"
    with running_registry(rundir) as registry:
        session = registry.client.create("crash", str(rundir.home / "trace"), shm_path=shm)
        options = ChannelOptions(subbuf_size=16384, num_subbuf=4, mode=mode, buffers=buffers)
        session.enable_channel("chan", options)
        session.add_context(["vpid", "procname"])
        session.enable_event("*")
        session.start()
        program = _flood(rundir, apps)
        until(lambda: session.info().processes, "it has buffers")
        _pause()
        consumer = session.info().consumer
        assert consumer is not None
        for pid in random.sample([program.pid, consumer.pid], 2):
            os.kill(pid, signal.SIGKILL)
        registry.kill()
        program.wait()
        _remove_sockets(rundir.path)
        yield shm


def _events(directory: Path) -> Counter[str]:
    """Return the events that babeltrace2 reads, each as often as it is there."""
    output = babeltrace2("--no-delta", directory)
    assert output.status == 0, output.stderr
    return Counter(output.stdout.decode().splitlines())


def _crash_events(directory: Path) -> Counter[str]:
    """Return the events that ``lttng-crash`` found.

    It leaves the end of a packet open, and takes old packets for newer ones: babeltrace2
    cannot bring such streams into one order. It reads each alone.
    """
    found: Counter[str] = Counter()
    for number, stream in enumerate(sorted(directory.rglob("chan_*"))):
        # The name of the trace is in the events.
        alone = directory.parent / f"alone{number}" / stream.parent.relative_to(directory)
        alone.mkdir(parents=True)
        shutil.copy(stream, alone)
        shutil.copy(stream.with_name("metadata"), alone)
        found += Counter(babeltrace2("--no-delta", alone).stdout.decode().splitlines())
    return found


def _compare(shm: Path, directory: Path) -> tuple[int, int]:
    """Let both read the files; return how many events ``lttng-crash`` and we found."""
    theirs, ours = directory / "theirs", directory / "ours"
    command: list[str | Path] = ["lttng-crash", "-x", theirs, shm]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert _recover(shm, ours) == (0, "")
    crash = _crash_events(theirs)
    reading = babeltrace2_text(ours)
    for line in reading.stderr.splitlines():
        assert _LOSS.match(line), line
    missing = crash - Counter(reading.lines)
    assert not missing, f"{missing.total()} of {crash.total()} events are missing"
    return crash.total(), len(reading.lines)


def _recover(shm: Path, directory: Path) -> tuple[int, str]:
    result = _drtrace("recover", shm, "-o", directory)
    summary, path = result.stdout.splitlines()
    found = _RECOVERED.match(summary)
    assert found
    assert path == str(directory)
    assert int(found[1]) == _events(directory).total()
    return result.returncode, result.stderr


def _drtrace(*arguments: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
    command = users.tester().python("-m", "ustconsumer.cli", *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.peers("lttng", "lttng-sessiond")
@pytest.mark.parametrize(("buffers", "mode"), _KINDS)
@pytest.mark.repeat(ci=2, soak=50)
def test_files_of_lttng(apps: Apps, tmp_path: Path, buffers: str, mode: str, repeat: int) -> None:
    theirs = ours = 0
    for number in range(repeat):
        directory = tmp_path / str(number)
        directory.mkdir()
        with _killed_lttng(apps, directory, buffers, mode) as shm:
            found = _compare(shm, directory)
            theirs, ours = theirs + found[0], ours + found[1]
    assert ours
    print(f"events of {repeat} crashes: lttng-crash {theirs}, recover {ours}")


@pytest.mark.parametrize(("buffers", "mode"), _KINDS)
@pytest.mark.repeat(ci=3, soak=100)
def test_our_files(
    apps: Apps, rundir: Rundir, tmp_path: Path, buffers: str, mode: str, repeat: int
) -> None:
    theirs = ours = 0
    for number in range(repeat):
        directory = tmp_path / str(number)
        directory.mkdir()
        with _killed_registry(apps, rundir, buffers, mode) as shm:
            found = _compare(shm, directory)
            theirs, ours = theirs + found[0], ours + found[1]
        shutil.rmtree(shm)
    # What lttng-crash looks at begins where the consumer was: it may have taken everything.
    assert ours
    assert theirs or mode == "overwrite"
    print(f"events of {repeat} crashes: lttng-crash {theirs}, recover {ours}")
