# SPDX-License-Identifier: MIT
"""``drtrace record`` on real programs: its summary, its exit status, what it leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from helpers import processes
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.drtrace import Summary
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")


@pytest.fixture(params=["rundir", "user_rundir"], ids=["tester", "ordinary"])
def anyone(request: pytest.FixtureRequest) -> Rundir:
    """Give the home of whoever runs the tests, then of a user that is not root."""
    rundir: Rundir = request.getfixturevalue(request.param)
    return rundir


@pytest.mark.full_speed
@pytest.mark.parametrize(("size", "count"), [("128k", 4), ("16k", 4), ("4k", 2)])
def test_every_event_is_recorded_or_discarded(
    size: str, count: int, apps: Apps, anyone: Rundir
) -> None:
    events, threads = 100_000, 2
    output = anyone.home / "trace"
    sizes = [f"--subbuf-size={size}", f"--num-subbuf={count}"]
    result = anyone.drtrace(
        "record", "-o", output, "-e", "flood:*", *sizes, "--", apps.flood, str(events), str(threads)
    )
    assert (result.returncode, result.stderr) == (0, "")
    summary = Summary(result.stdout)
    assert summary.directory == output
    assert summary.processes == 1
    assert summary.recorded + summary.discarded == events * threads
    lines = summary.check()
    assert all(" flood:tick: " in line for line in lines)
    # In discard mode what was recorded is in order, without repetition.
    for thread in range(threads):
        seen = [
            int(match[1])
            for line in lines
            if (match := re.search(rf"seq = (\d+), thread = {thread},", line))
        ]
        assert seen == sorted(set(seen))


def test_defaults(apps: Apps, anyone: Rundir) -> None:
    """All events of the program, three contexts, a directory named after program and time."""
    result = anyone.drtrace("record", apps.flood, "7")
    assert (result.returncode, result.stderr) == (0, "")
    summary = Summary(result.stdout)
    assert summary.before == []
    parent = anyone.home / "lttng-traces"
    assert re.fullmatch(rf"{parent}/flood-\d{{8}}-\d{{6}}", str(summary.directory))
    lines = summary.check()
    ticks = [line for line in lines if " flood:tick: " in line]
    assert len(ticks) == 7
    assert not any(" lttng_ust_statedump:" in line for line in lines)
    for line in lines:
        context = re.search(r"\{ (vpid = \d+), (vtid = \d+), (procname = \"flood[^\"]*\") \}", line)
        assert context, line


def test_patterns_contexts_and_summary_as_json(apps: Apps, rundir: Rundir) -> None:
    options = ["-e", "nothing:*,flood:t*", "-e", "flood:*ck", "-c", "vtid", "--json"]
    result = rundir.drtrace("record", *options, apps.flood, "3")
    (line,) = result.stdout.splitlines()
    answer = json.loads(line)
    assert answer["status"] == 0
    assert answer["command"] == [str(apps.flood), "3"]
    # A tracepoint that two patterns match is one event.
    assert answer["totals"]["recorded"] == 3
    assert answer["warnings"] == []
    for event in babeltrace2_text(answer["output"]).lines:
        assert "vtid = " in event
        assert "vpid" not in event


def test_every_process_of_the_command_is_recorded(apps: Apps, anyone: Rundir) -> None:
    script = f"{apps.flood} 10; {apps.flood} 20 & wait; {apps.flood} 30"
    result = anyone.drtrace("record", "-e", "flood:*", "sh", "-c", script)
    assert (result.returncode, result.stderr) == (0, "")
    summary = Summary(result.stdout)
    pids = Counter(re.findall(r"vpid = (\d+)", "\n".join(summary.check())))
    assert sorted(pids.values()) == [10, 20, 30]


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 7", 7),
        ("kill -TERM $$", 128 + signal.SIGTERM),
        ("kill -KILL $$", 128 + signal.SIGKILL),
    ],
)
def test_the_exit_status_is_the_programs(script: str, status: int, rundir: Rundir) -> None:
    result = rundir.drtrace("record", "-o", rundir.home / "t", "sh", "-c", script)
    assert result.returncode == status
    Summary(result.stdout)


def test_input_output_and_descriptors_are_the_programs(rundir: Rundir) -> None:
    # ls opens the directory it lists: 3. Nothing of ours is open, and without the
    # preloaded library nothing of liblttng-ust's.
    script = "cat; echo error >&2; env -u LD_PRELOAD ls /proc/self/fd"
    result = rundir.drtrace("record", "sh", "-c", script, input="text\n", stdin=None)
    assert Summary(result.stdout).before == ["text", "0", "1", "2", "3"]
    assert result.stderr == "error\nWarning: sh registered and emitted no event\n"


def test_dispositions_of_signals_are_as_we_found_them(rundir: Rundir) -> None:
    """SIGPIPE, which Python ignores, must kill the command; nohup must go on protecting it."""

    def masks(lines: list[str]) -> list[int]:
        # Signals from 32 on are glibc's own: its posix_spawn ignores one of them.
        return [int(line.split()[1], 16) & 0x7FFFFFFF for line in lines]

    script = "grep -E 'Sig(Ign|Blk)' /proc/self/status"
    for ignored in ([], [signal.SIGHUP, signal.SIGINT]):

        def ignore(numbers: list[signal.Signals] = ignored) -> None:
            for number in numbers:
                signal.signal(number, signal.SIG_IGN)

        plain = rundir.run(["sh", "-c", script], preexec_fn=ignore)
        recorded = rundir.drtrace("record", "sh", "-c", script, preexec_fn=ignore)
        blocked, ignoring = masks(Summary(recorded.stdout).before)
        assert [blocked, ignoring] == masks(plain.stdout.splitlines())
        assert ignoring == sum(1 << (number - 1) for number in ignored)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_program_and_the_trace_is_complete(
    number: signal.Signals, apps: Apps, rundir: Rundir
) -> None:
    ready = rundir.home / "ready"
    # sleeper ends with 0 on SIGTERM; it dies of the others.
    recorder = rundir.start_drtrace(
        *("record", "-e", "sleeper:*", apps.sleeper, "1", "--ready", ready),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    rundir.run(["sh", "-c", f"until [ -e {ready} ]; do sleep 0.01; done"])
    if number == signal.SIGINT:
        os.killpg(recorder.pid, number)  # what a terminal does
    else:
        recorder.send_signal(number)
    stdout, stderr = recorder.communicate()
    assert recorder.returncode == (0 if number == signal.SIGTERM else 128 + number)
    assert stderr == ""
    summary = Summary(stdout)
    numbers = [int(n) for n in re.findall(r"\{ n = (\d+) \}", "\n".join(summary.check()))]
    assert numbers == list(range(summary.recorded))


def test_it_ends_with_the_program_not_with_its_descendants(apps: Apps, rundir: Rundir) -> None:
    ready, pid = rundir.home / "ready", rundir.home / "pid"
    script = (
        f"{apps.sleeper} 1 --ready {ready} >/dev/null 2>&1 & echo $! > {pid};"
        f"until [ -e {ready} ]; do sleep 0.01; done; exit 3"
    )
    result = rundir.drtrace("record", "-e", "sleeper:*", "sh", "-c", script)
    left = int(pid.read_text())
    assert processes.alive(left)
    processes.end(left)
    assert result.returncode == 3
    Summary(result.stdout).check()


def test_many_orphans_are_not_left_as_zombies(rundir: Rundir) -> None:
    # Each is adopted by drtrace (a subreaper) when its parent ends before it.
    script = "for i in 1 2 3 4 5; do (sleep 0.01 &) ; done; sleep 1.5; ps -o stat= --ppid $PPID"
    result = rundir.drtrace("record", "-e", "no:*", "sh", "-c", script)
    states = Summary(result.stdout).before
    assert not [state for state in states if state.startswith("Z")]
    # Adopted indeed: its parent is that of the shell.
    script = (
        "(sleep 60 & echo $! >orphan); orphan=$(cat orphan); ps -o ppid= $orphan $$; kill $orphan"
    )
    result = rundir.drtrace("record", "-e", "no:*", "sh", "-c", script)
    assert len(set(Summary(result.stdout).before)) == 1


def test_strict(apps: Apps, rundir: Rundir) -> None:
    options = ["--strict", "-e", "flood:*", "--subbuf-size=4k", "--num-subbuf=2"]
    result = rundir.drtrace("record", *options, apps.flood, "1")
    assert (result.returncode, Summary(result.stdout).discarded) == (0, 0)
    # An event never fits if a sub-buffer is all header and text; so lose some by speed.
    result = rundir.drtrace("record", *options, apps.flood, "500000", "2")
    summary = Summary(result.stdout)
    assert result.returncode == (3 if summary.discarded else 0)


def test_a_command_within_a_command(apps: Apps, rundir: Rundir) -> None:
    """The trace of the inner one must not land in the outer one's temporary home."""
    inner = rundir.drtrace_argv("record", "-e", "flood:*", str(apps.flood), "5")
    result = rundir.drtrace("record", "-e", "flood:*", *inner)
    outer = Summary(result.stdout)
    # Its daemons are not programs to record; the outer one sees two Pythons and ours.
    assert outer.recorded == 0
    nested = Summary("\n".join(outer.before))
    assert nested.directory.parent == rundir.home / "lttng-traces"
    assert (nested.processes, len(nested.check())) == (1, 5)


def _descendant(recorder: subprocess.Popen[str], name: str) -> int:
    """Return the daemon of this name that a recorder started."""
    queue = [recorder.pid]
    while queue:
        pid = queue.pop()
        if Path(f"/proc/{pid}/comm").read_text().strip() == name:
            return pid
        for task in Path(f"/proc/{pid}/task").iterdir():
            queue += map(int, (task / "children").read_text().split())
    raise AssertionError(f"no {name} below {recorder.pid}")


def _record_sleeper(apps: Apps, rundir: Rundir) -> subprocess.Popen[str]:
    ready = rundir.home / "ready"
    recorder: subprocess.Popen[str] = rundir.start_drtrace(
        *("record", "-o", rundir.home / "trace", "-e", "sleeper:*", "--subbuf-size=4k"),
        *(apps.sleeper, "1", "--ready", ready),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    rundir.run(["sh", "-c", f"until [ -e {ready} ]; do sleep 0.01; done; sleep 0.3"])
    return recorder


def test_buffers_larger_than_a_file_may_be(apps: Apps, rundir: Rundir) -> None:
    """The limit on files (``ulimit -f``) is one on shared memory, too."""
    argv = rundir.drtrace_argv("record", "-o", rundir.home / "trace", apps.flood, "1")
    result = rundir.run(["sh", "-c", 'ulimit -f 1024; exec "$@"', "sh", *argv])
    # The program itself ran; only one line says why it is not recorded.
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert re.search(r": no buffers: cannot allocate \d+ bytes for \S+: File too large$", line)


def test_the_registry_dies(apps: Apps, rundir: Rundir) -> None:
    """The command goes on; what was recorded until then can be read, and nothing is left."""
    recorder = _record_sleeper(apps, rundir)
    os.kill(_descendant(recorder, "ltt-sessiond"), signal.SIGKILL)
    assert recorder.poll() is None
    recorder.terminate()
    stdout, stderr = recorder.communicate()
    assert (recorder.returncode, stdout) == (125, "")
    assert stderr.count("\n") == 1
    assert f"what was recorded until then is in {rundir.home}/trace" in stderr
    assert babeltrace2_text(rundir.home / "trace").lines


def test_the_consumer_dies(apps: Apps, rundir: Rundir) -> None:
    """Its successor goes on: nothing is lost, nothing twice."""
    recorder = _record_sleeper(apps, rundir)
    os.kill(_descendant(recorder, "ust-consumerd"), signal.SIGKILL)
    rundir.run(["sleep", "0.3"])
    recorder.terminate()
    stdout, _ = recorder.communicate()
    assert recorder.returncode == 0
    summary = Summary(stdout)
    numbers = [int(n) for n in re.findall(r"\{ n = (\d+) \}", "\n".join(summary.check()))]
    assert numbers == list(range(summary.recorded))
    assert summary.recorded
