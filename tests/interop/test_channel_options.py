# SPDX-License-Identifier: MIT
"""Options of channels: shown as ``lttng`` shows them, and what they do."""

from __future__ import annotations

import re
import subprocess

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.drtrace import Summary, end_registry
from helpers.lttng import lttng_sessiond
from helpers.registry import until
from helpers.rundir import Rundir

_SHOWN = re.compile(
    r"(Buffering scheme: .*| +(?:Event-loss mode|Sub-buffer size|Sub-buffer count|Switch timer"
    r"|Read timer|Monitor timer|Blocking timeout|Trace file count|Trace file size|Output mode): .*)"
)
_CHANNELS = [
    "",
    "--subbuf-size=64k --num-subbuf=8",
    "--overwrite",
    "--overwrite --discard",
    "--switch-timer=10ms --read-timer=2s",
    "--blocking-timeout=1s",
    "--blocking-timeout=inf",
    "--monitor-timer=2s --output=mmap",
    "--monitor-timer=0",
    "--tracefile-size=1M --tracefile-count=3",
    "--tracefile-size=600000",
]


def _shown(text: str) -> list[str]:
    return [line for line in text.splitlines() if _SHOWN.fullmatch(line)]


@pytest.mark.peers("lttng", "lttng-sessiond")
def test_attributes_are_shown_as_by_lttng(user_rundir: Rundir) -> None:
    def drtrace(*words: str) -> str:
        result = user_rundir.drtrace("--rundir", user_rundir.path, *words)
        assert (result.returncode, result.stderr) == (0, ""), words
        return str(result.stdout)

    sets = [(f"s{number}", options) for number, options in enumerate(_CHANNELS)]
    sets += [("pid", "--buffers-pid"), ("pid4", "--buffers-pid --subbuf-size=4k")]
    try:
        with lttng_sessiond() as lttng:
            for name, options in sets:
                assert drtrace("create", name)
                lttng("create", name)
                command = ("enable-channel", "-u", "-s", name, *options.split(), "chan")
                assert (
                    drtrace(*command)
                    == lttng(*command)
                    == (f"ust channel chan enabled for session {name}\n")
                )
                ours, theirs = _shown(drtrace("list", name)), _shown(lttng("list", name))
                assert ours == theirs, options
                assert len(ours) >= 8
    finally:
        drtrace("destroy", "-a")
        end_registry(user_rundir)


@pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")
def test_a_program_waits_for_room(apps: Apps, rundir: Rundir) -> None:
    """Buffers far too small, and no event lost: record lets the program block.

    One thread: the tracer itself discards events of others while one waits.
    """
    options = ["--subbuf-size=16k", "--num-subbuf=4", "--blocking-timeout=inf", "-e", "flood:*"]
    result = rundir.drtrace("record", *options, apps.flood, "20000")
    assert (result.returncode, result.stderr) == (0, "")
    summary = Summary(result.stdout)
    assert (summary.recorded, summary.discarded) == (20_000, 0)


@pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")
def test_a_switch_timer_writes_what_a_slow_program_recorded(apps: Apps, rundir: Rundir) -> None:
    """While it runs; without the timer nothing would be there before a sub-buffer is full."""
    trace = rundir.home / "trace"
    recorder = rundir.start_drtrace(
        *("record", "-o", trace, "-e", "sleeper:*", "--switch-timer=20ms", apps.sleeper, "20"),
        stdout=subprocess.PIPE,
        text=True,
    )

    def readable() -> bool:
        # Read while it is written: a packet may be there just before what describes it.
        reading = subprocess.run(
            ["babeltrace2", trace], capture_output=True, text=True, check=False
        )
        return reading.returncode == 0 and " sleeper:beat: " in reading.stdout

    until(readable, "events are in the trace")
    assert recorder.poll() is None
    recorder.terminate()
    Summary(recorder.communicate()[0]).check()


@pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")
@pytest.mark.parametrize(
    "options",
    [
        ["--overwrite"],
        ["--buffers-pid"],
        ["--read-timer=1ms"],
        ["--workers=4"],
        ["--direct", "--subbuf-size=1M"],
        ["--direct", "--workers=2", "--buffers-pid", "--subbuf-size=1M", "--num-subbuf=2"],
    ],
    ids=" ".join,
)
def test_whatever_the_channel_is_like(options: list[str], apps: Apps, rundir: Rundir) -> None:
    """Buffers are large enough, so that nothing is discarded or overwritten."""
    argv = ["-e", "flood:*", *options, "sh", "-c", f"{apps.flood} 5000 2 & {apps.flood} 5000; wait"]
    result = rundir.drtrace("record", *argv)
    assert (result.returncode, result.stderr) == (0, "")
    summary = Summary(result.stdout)
    assert summary.recorded + summary.discarded == 15_000
    summary.check()


@pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")
def test_overwritten_events_are_the_oldest(apps: Apps, rundir: Rundir) -> None:
    """Each thread's last event is there, and what is there of it is its end, without a gap."""
    sizes = ["--overwrite", "--subbuf-size=4k", "--num-subbuf=4"]
    result = rundir.drtrace("record", "-e", "flood:*", *sizes, apps.flood, "200000")
    assert result.returncode == 0
    lines = babeltrace2_text(Summary(result.stdout).directory).lines
    assert max(int(n) for n in re.findall(r"seq = (\d+)", "\n".join(lines))) == 199_999
