# SPDX-License-Identifier: MIT
"""Our trace of a program and the real LTTng's cannot be told apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import (
    babeltrace2_details,
    babeltrace2_text,
    normal_details,
    normal_text,
)
from helpers.lttng import lttng_record
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("lttng", "lttng-sessiond", "babeltrace2")

# `drtrace record` preloads it; it shows in the list of libraries that a trace begins with.
PRELOAD = ["env", "LD_PRELOAD=liblttng-ust-fork.so"]
CHANNEL = ["--subbuf-size=128K", "--num-subbuf=4"]
CPU = min(os.sched_getaffinity(0))


def pin() -> None:
    """Keep a program and its children, which liblttng-ust's threads are, on one CPU."""
    os.sched_setaffinity(0, {CPU})


class Trace:
    """Everything comparable about the trace of a directory."""

    def __init__(self, directory: Path):
        text = babeltrace2_text(directory)
        details = babeltrace2_details(directory)
        self.warnings = text.stderr + details.stderr
        self.events = len(text.lines)
        self.text = normal_text(text.lines)
        self.details = normal_details(details.lines, directory)
        # Index files have one entry per packet; the size of a data file depends on pauses,
        # after which a record has the longer header.
        self.files = sorted(
            (str(path.relative_to(directory)), path.stat().st_size if path.suffix == ".idx" else 0)
            for path in directory.rglob("*")
        )


def record_lttng(program: Path) -> Trace:
    with lttng_record([*PRELOAD, program], channel=CHANNEL, preexec_fn=pin) as directory:
        return Trace(directory)


def test_two_runs_of_lttng_are_equal_after_normalising(apps: Apps) -> None:
    first, second = record_lttng(apps.fields), record_lttng(apps.fields)
    # 28 events per round over 3 samples; what statedump adds depends on the libraries.
    assert sum(" fields:" in f" {event}" for event in first.text) == 3 * 28
    assert first.text == second.text
    assert first.details == second.details
    assert first.files == second.files
    assert not first.warnings


def test_same_trace_as_lttng(apps: Apps, user_rundir: Rundir) -> None:
    expected = record_lttng(apps.fields)
    output = user_rundir.home / "ours"
    result = user_rundir.drtrace(
        "record", "-o", output, "-e", "*", *CHANNEL, "--", apps.fields, preexec_fn=pin
    )
    assert result.returncode == 0, result.stderr
    ours = Trace(output)
    assert ours.text == expected.text
    assert ours.details == expected.details
    assert ours.files == expected.files
    assert not ours.warnings
