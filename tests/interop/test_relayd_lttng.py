# SPDX-License-Identifier: MIT
"""Unmodified LTTng streams to our relay as it does to its own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.lttng import Lttng, lttng_sessiond
from helpers.relayd import Relayd, relayd

from ustconsumer.client.unpack import unpack

Run = Callable[[], None]

_EVENTS = 100
_DATE = re.compile(r"\d{8}-\d{6}|\d{8}T\d{6}[+-]\d{4}")
_PID = re.compile(r"flood-\d+-")
_TICK = re.compile(r"flood:tick: .*?\{ (seq = .*) \}$")


def tree(output: Path) -> list[str]:
    """Return the files below a directory, dates and pids aside."""
    names = (str(each.relative_to(output)) for each in output.rglob("*") if each.is_file())
    return sorted(_PID.sub("flood-PID-", _DATE.sub("DATE", name)) for name in names)


def ticks(output: Path) -> list[str]:
    """Return what was recorded, times and CPUs aside."""
    result = subprocess.run(
        ["babeltrace2", output], capture_output=True, text=True, check=True, timeout=120
    )
    # What was cleared is missing between two archives.
    lines = (line for line in result.stderr.splitlines() if "discarded" not in line)
    assert not any(lines), result.stderr
    assert not re.search(r"discarded \d+ event", result.stderr), result.stderr
    found = (_TICK.search(line) for line in result.stdout.splitlines())
    return sorted(match[1] for match in found if match)


def uid(lttng: Lttng, run: Run) -> None:
    run()


def rotate(lttng: Lttng, run: Run) -> None:
    for _ in range(2):
        run()
        lttng("rotate", "s")
    run()


def clear(lttng: Lttng, run: Run) -> None:
    run()
    lttng("clear", "s")
    run()


def clear_after_rotation(lttng: Lttng, run: Run) -> None:
    run()
    lttng("rotate", "s")
    run()
    lttng("clear", "s")
    run()


def clear_when_stopped(lttng: Lttng, run: Run) -> None:
    run()
    lttng("stop", "s")
    lttng("clear", "s")
    lttng("start", "s")
    run()


def regenerate(lttng: Lttng, run: Run) -> None:
    run()
    lttng("regenerate", "metadata", "-s", "s")
    run()


def snapshots(lttng: Lttng, run: Run) -> None:
    run()
    lttng("snapshot", "record", "-s", "s")
    run()
    lttng("snapshot", "record", "-s", "s", "-n", "second")


SCENARIOS = {
    "uid": (uid, (), ("--buffers-uid",)),
    "pid": (rotate, (), ("--buffers-pid",)),
    "rotate": (rotate, (), ("--buffers-uid",)),
    "clear": (clear, (), ("--buffers-uid",)),
    "clear after a rotation": (clear_after_rotation, (), ("--buffers-uid",)),
    "clear when stopped": (clear_when_stopped, (), ("--buffers-uid",)),
    "regenerate": (regenerate, (), ("--buffers-uid",)),
    "snapshots": (snapshots, ("--snapshot",), ("--buffers-uid",)),
    "live": (uid, ("--live=100000",), ("--buffers-uid",)),
    "tracefiles": (uid, (), ("--tracefile-size=8192", "--tracefile-count=3")),
}


def record(relay: Relayd, scenario: str, flood: Path) -> None:
    """Have LTTng record a program to a relay."""
    steps, session, channel = SCENARIOS[scenario]
    with lttng_sessiond() as lttng:

        def run() -> None:
            result = lttng.rundir.run([flood, str(_EVENTS)])
            assert result.returncode == 0, result.stderr

        lttng("create", "s", f"--set-url={relay.url}", *session)
        lttng("enable-channel", "-u", "ch", "--subbuf-size=4096", "--num-subbuf=8", *channel)
        lttng("enable-event", "-u", "flood:tick", "-c", "ch")
        lttng("start", "s")
        steps(lttng, run)
        lttng("stop", "s")
        lttng("destroy", "s")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_ours_has_what_lttngs_has(apps: Apps, tmp_path: Path, scenario: str) -> None:
    made = {}
    for name, kind, *options in (("ours",) * 2, ("packed", "ours", "--zstd=1"), ("lttng",) * 2):
        with relayd(kind, tmp_path / name, *options) as relay:
            record(relay, scenario, apps.flood)
        output = relay.output
        if options:
            assert all(path.suffix == ".zst" for path in output.rglob("*") if path.is_file())
            output = Path(unpack(output).path)
        made[name] = tree(output), ticks(output)
    assert made["ours"] == made["packed"] == made["lttng"]
    assert made["ours"][1]
