# SPDX-License-Identifier: MIT
"""``record --snapshot`` on real programs: buffers that nobody reads until something happens."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from helpers import processes
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.pyapps import STORM
from helpers.registry import until
from helpers.rundir import Rundir

from ustconsumer.paths import possible_cpus

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

SUBBUF_SIZE, NUM_SUBBUF = 16384, 4
SIZES = [f"--subbuf-size={SUBBUF_SIZE}", f"--num-subbuf={NUM_SUBBUF}"]
#: A header, the contexts vpid, vtid and procname, two integers, and a text of 20 at most.
EVENT_BYTES = range(32, 80)
NAME = re.compile(r"snapshot-1-\d{8}-\d{6}-(\d+)")


class Flight:
    """What was printed, and the snapshots that are there."""

    def __init__(self, result: subprocess.CompletedProcess[str], output: Path) -> None:
        *self.before, summary, self.directory = result.stdout.splitlines()
        match = re.fullmatch(
            r"(\d+) events? in (\d+) snapshots?, (\d+) discarded, (\d+) process(?:es)?, "
            r"(\d+) packets?, (\d+) bytes?, \d+\.\d{3} s",
            summary,
        )
        assert match, result.stdout
        self.events, self.count, self.discarded, self.processes, self.packets, self.bytes = map(
            int, match.groups()
        )
        self.snapshots = sorted(output.iterdir(), key=_number)
        # LTTng's names, numbered from 0; and nothing else beside them.
        assert [_number(path) for path in self.snapshots] == list(range(self.count))
        assert str(self.snapshots[-1]) == self.directory
        self._lines = [babeltrace2_text(path).lines for path in self.snapshots]
        assert sum(map(len, self._lines)) == self.events
        streams = [path for path in output.glob("**/channel0_*") if path.is_file()]
        assert sum(path.stat().st_size for path in streams) == self.bytes

    def values(self, field: str, snapshot: int = -1) -> list[int]:
        """Return the numbers in a field of the events of a snapshot, by time."""
        return [
            int(number)
            for line in self._lines[snapshot]
            for number in re.findall(rf"\b{field} = (\d+)", line)
        ]


def _number(path: Path) -> int:
    match = NAME.fullmatch(path.name)
    assert match, path
    return int(match[1])


def one_cpu() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@pytest.fixture(params=["rundir", "user_rundir"], ids=["tester", "ordinary"])
def anyone(request: pytest.FixtureRequest) -> Rundir:
    """Give the home of whoever runs the tests, then of a user that is not root."""
    rundir: Rundir = request.getfixturevalue(request.param)
    return rundir


@pytest.mark.parametrize("kind", ["c", "python"])
def test_the_newest_events_of_a_program_are_kept_at_its_end(
    kind: str, apps: Apps, anyone: Rundir
) -> None:
    events = 20_000
    programs: dict[str, list[str]] = {
        "c": [str(apps.flood), str(events)],
        # Without what makes the tester that user: drtrace is it already.
        "python": [*anyone.user.python()[-2:], "-c", STORM, str(events), "1", "0", "19"],
    }
    # On one CPU, so that there is one stream in which every number follows the one before it.
    result = anyone.drtrace(
        *("record", "--snapshot", "-o", anyone.home / "t", "-e", "*:tick", *SIZES, "--"),
        *programs[kind],
        preexec_fn=one_cpu,
    )
    assert (result.returncode, result.stderr) == (0, "")
    flight = Flight(result, anyone.home / "t")
    assert (flight.count, flight.discarded) == (1, 0)
    # The other CPUs have one each, which is empty.
    assert NUM_SUBBUF <= flight.packets < NUM_SUBBUF + possible_cpus()
    seen = flight.values("seq")
    assert seen == list(range(events - len(seen), events))
    # All that the buffers hold: of the last one some, of the others as much as fits.
    full = (NUM_SUBBUF - 1) * (SUBBUF_SIZE - 4096)
    assert full // EVENT_BYTES[-1] <= len(seen) <= NUM_SUBBUF * SUBBUF_SIZE // EVENT_BYTES[0]


def test_two_threads_on_all_cpus(apps: Apps, rundir: Rundir) -> None:
    """Room for all: a thread interrupted in an event keeps others out of what it has reserved."""
    result = rundir.drtrace(
        *("record", "--snapshot", "--buffers-pid", "-o", rundir.home / "t", "-e", "flood:*"),
        *("--subbuf-size=512k", "--num-subbuf=8", apps.flood, "30000", "2"),
    )
    flight = Flight(result, rundir.home / "t")
    lines = babeltrace2_text(flight.directory).lines
    for thread in (0, 1):
        seen = [int(n) for n in re.findall(rf"seq = (\d+), thread = {thread},", "\n".join(lines))]
        assert seen == list(range(30_000))


@pytest.mark.parametrize("ending", [-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGKILL])
def test_a_crash_leaves_what_came_before_it(ending: int, apps: Apps, anyone: Rundir) -> None:
    events = 5000
    result = anyone.drtrace(
        *("record", "--snapshot-on", "crash", "-o", anyone.home / "t", *SIZES, "-e", "flood:*"),
        *("--", apps.crasher, str(events), str(ending)),
        preexec_fn=one_cpu,
    )
    assert (result.returncode, result.stderr) == (128 - ending, "")
    flight = Flight(result, anyone.home / "t")
    assert flight.count == 1
    seen = flight.values("seq")
    assert seen == list(range(events - len(seen), events))


@pytest.mark.parametrize("status", [0, 1, 127])
def test_without_a_crash_nothing_is_left(status: int, apps: Apps, anyone: Rundir) -> None:
    before = sorted(anyone.home.iterdir())
    result = anyone.drtrace("record", "--snapshot-on", "crash", apps.crasher, "9", str(status))
    assert (result.returncode, result.stderr) == (status, "")
    line = r"nothing was kept: there was no crash, \d+\.\d{3} s\n"
    assert re.fullmatch(line, result.stdout)
    assert sorted(anyone.home.iterdir()) == before


def test_what_was_there_is_still_there(apps: Apps, rundir: Rundir) -> None:
    """An empty directory that was given is not removed; one with something in it is refused."""
    given = rundir.home / "given"
    given.mkdir()
    arguments = ("record", "--snapshot-on", "crash", "-o", given, apps.crasher, "9", "0")
    assert rundir.drtrace(*arguments).returncode == 0
    assert list(given.iterdir()) == []
    (given / "mine").touch()
    result = rundir.drtrace(*arguments)
    assert (result.returncode, result.stdout) == (125, "")
    assert result.stderr == (
        f"Error: output directory {given} is not empty: name another with -o\n"
    )


@pytest.mark.parametrize(
    "script",
    [
        # A shell says of what it ran that it was killed.
        "{crasher} 50 -11; exit $?",
        # An orphan: nobody but drtrace hears of its end.
        "({crasher} 50 -11 &) ; exit 0",
    ],
    ids=["passed on", "orphan"],
)
def test_a_crash_of_what_the_command_started(script: str, apps: Apps, rundir: Rundir) -> None:
    result = rundir.drtrace(
        *("record", "--snapshot-on", "crash", "--wait-all", "-o", rundir.home / "t"),
        *("-e", "flood:*", "sh", "-c", script.format(crasher=apps.crasher)),
    )
    flight = Flight(result, rundir.home / "t")
    assert flight.count == 1
    assert flight.values("seq") == list(range(50))


class Running:
    """``sleeper`` below a flight recorder: one event a millisecond until SIGTERM."""

    def __init__(self, rundir: Rundir, apps: Apps, *options: str) -> None:
        self.output = rundir.home / "t"
        ready = rundir.home / "ready"
        self.recorder: subprocess.Popen[str] = rundir.start_drtrace(
            *("record", *options, "-o", self.output, "-e", "sleeper:*"),
            *(apps.sleeper, "1", "--ready", ready),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(ready.exists, "the program runs")

    def count(self) -> int:
        """Return how many snapshots are complete."""
        return len([*self.output.glob("snapshot-*/**/metadata")])

    def end(self) -> Flight:
        self.recorder.terminate()
        stdout, stderr = self.recorder.communicate()
        # The program's own: the signals that ask for snapshots would have killed it.
        assert (self.recorder.returncode, stderr) == (0, "")
        result = subprocess.CompletedProcess((), 0, stdout, stderr)
        return Flight(result, self.output)


def test_snapshots_on_signals_while_the_program_goes_on(apps: Apps, anyone: Rundir) -> None:
    running = Running(anyone, apps, "--snapshot-on=USR1", "--snapshot-on", "HUP")
    for number, sent in enumerate((signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR1)):
        anyone.run(["sleep", "0.05"])
        running.recorder.send_signal(sent)
        until(lambda wanted=number + 1: running.count() == wanted, "a snapshot")
    flight = running.end()
    assert flight.count == 3
    last = -1
    for snapshot in range(3):
        # The buffers hold all of them: each snapshot has what was in the one before it.
        seen = flight.values("n", snapshot)
        assert seen == list(range(len(seen)))
        assert seen[-1] > last
        last = seen[-1]


@pytest.mark.parametrize("kind", ["c", "python"])
def test_an_event_is_in_the_snapshot_it_asks_for(kind: str, apps: Apps, anyone: Rundir) -> None:
    """Also if it is the last thing that the program does."""
    programs: dict[str, list[str]] = {
        "c": [str(apps.flood), "1000"],
        "python": [*anyone.user.python()[-2:], "-c", STORM, "1000", "1", "0", "19"],
    }
    result = anyone.drtrace(
        *("record", "--snapshot-on=*:tick", "--snapshot-filter", "seq == 999", "-e", "*:tick"),
        *("-o", anyone.home / "t", "--", *programs[kind]),
    )
    assert (result.returncode, result.stderr) == (0, "")
    flight = Flight(result, anyone.home / "t")
    assert flight.count == 1
    assert flight.values("seq") == list(range(1000))


def test_everything_goes_on_after_an_event(apps: Apps, rundir: Rundir) -> None:
    running = Running(
        rundir, apps, "--snapshot-on=sleeper:beat,exit", "--snapshot-filter=n == 20 || n == 40"
    )
    until(lambda: running.count() >= 1, "a snapshot")
    rundir.run(["sleep", "0.05"])
    flight = running.end()
    # The second event comes within a second of the first: with it, or with the end, at the latest.
    assert flight.count in (2, 3)
    assert 20 in flight.values("n", 0)
    last = flight.values("n", flight.count - 1)
    assert last == list(range(len(last)))
    assert len(last) > len(flight.values("n", 0))


def test_a_storm_of_events_is_a_few_snapshots(apps: Apps, rundir: Rundir) -> None:
    result = rundir.drtrace(
        *("record", "--snapshot-on=flood:tick", "-o", rundir.home / "t", "-e", "flood:*", *SIZES),
        *(apps.flood, "100000", "2"),
    )
    assert (result.returncode, result.stderr) == (0, "")
    flight = Flight(result, rundir.home / "t")
    seconds = float(result.stdout.splitlines()[-2].rpartition(", ")[2].removesuffix(" s"))
    # The first, one a second, the last.
    assert 1 <= flight.count <= seconds + 2


def test_an_event_that_does_not_come(apps: Apps, rundir: Rundir) -> None:
    options = ("--snapshot-on=flood:tick", "--snapshot-filter=seq == 1000")
    result = rundir.drtrace("record", *options, "-o", "t", apps.flood, "1000")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("nothing was kept: there was no flood:tick, ")
    assert not (rundir.home / "t").exists()


def test_no_signal_no_snapshot(apps: Apps, rundir: Rundir) -> None:
    result = rundir.drtrace("record", "--snapshot-on=USR1", "-o", "t", apps.sleeper, "1", "5")
    line = r"nothing was kept: there was no SIGUSR1, \d+\.\d{3} s\n"
    assert re.fullmatch(line, result.stdout)
    assert not (rundir.home / "t").exists()


def test_buffers_of_programs_that_ended_before(apps: Apps, rundir: Rundir) -> None:
    """With buffers for each process, too: whoever died first is in the snapshot."""
    script = f"{apps.flood} 10 --from 100; {apps.flood} 20 --from 200; {apps.flood} 30 --from 300"
    result = rundir.drtrace(
        *("record", "--snapshot", "--buffers-pid", "-o", rundir.home / "t", "-e", "flood:*"),
        *("sh", "-c", script),
    )
    assert (result.returncode, result.stderr) == (0, "")
    flight = Flight(result, rundir.home / "t")
    assert flight.values("seq") == [*range(100, 110), *range(200, 220), *range(300, 330)]


def test_the_last_snapshot_is_what_is_viewed(apps: Apps, rundir: Rundir) -> None:
    running = Running(rundir, apps, "--snapshot", "--snapshot-on=USR1,exit")
    running.recorder.send_signal(signal.SIGUSR1)
    until(lambda: running.count() == 1, "a snapshot")
    flight = running.end()
    assert flight.count == 2
    result = rundir.drtrace("record", "--snapshot", "-e", "flood:*", apps.flood, "7")
    place = Path(result.stdout.splitlines()[-1])
    assert place.parent.parent == rundir.home / "lttng-traces"
    viewed = rundir.drtrace("view", "--no-delta")
    assert viewed.stdout.splitlines() == babeltrace2_text(place).lines
    assert viewed.stdout.count("flood:tick") == 7


def test_as_json(apps: Apps, rundir: Rundir) -> None:
    def recorded(*options: str) -> dict[str, object]:
        result = rundir.drtrace("record", "--json", "--snapshot", *options, apps.flood, "3")
        (line,) = result.stdout.splitlines()
        answer: dict[str, object] = json.loads(line)
        return answer

    answer = recorded("-e", "flood:*")
    (snapshot,) = answer["snapshots"]  # type: ignore[misc]
    assert answer["output"] == snapshot["path"]
    assert (snapshot["occasion"], snapshot["events"], snapshot["lost"]) == ("exit", 3, 0)
    nothing = recorded("--snapshot-on=crash")
    assert (nothing["output"], nothing["snapshots"], nothing["status"]) == ("", [], 0)
    assert nothing["no_snapshot"] == "nothing was kept: there was no crash"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--snapshot-on=INT"], "taken on SIGINT, which ends the command"),
        (["--snapshot-on=9"], "taken on SIGKILL, which cannot be caught"),
        (["--snapshot-on=boom"], "taken on 'boom': use exit, crash, a signal"),
        (["--snapshot", "--discard"], "leave out --discard"),
        (["--snapshot", "--workers=2", "--direct"], "leave out --workers and --direct"),
        (["--snapshot", "--read-timer=200"], "leave out --read-timer"),
        (["--snapshot", "--num-subbuf=1"], "--overwrite needs two sub-buffers"),
        (["--snapshot", "--blocking-timeout=5s"], "leave out --blocking-timeout"),
        (["--snapshot-filter=n > 4"], "name one with --snapshot-on"),
        (["--snapshot-on=a:b", "--snapshot-filter=n >"], ""),
    ],
)
def test_what_cannot_be(options: list[str], said: str, rundir: Rundir) -> None:
    result = rundir.drtrace("record", *options, "-o", "t", "touch", "ran")
    assert (result.returncode, result.stdout) == (125, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert said in line
    assert not any((rundir.home / name).exists() for name in ("t", "ran"))


def test_nothing_registered(rundir: Rundir) -> None:
    result = rundir.drtrace("record", "--snapshot", "--preload=none", "-o", "t", "true")
    assert result.returncode == 0
    assert result.stdout.startswith("nothing could be kept, ")
    first, second = result.stderr.splitlines()
    assert first == "Warning: no snapshot on exit: nothing was recorded until then"
    assert second.startswith("Warning: no program registered: ")
    assert not (rundir.home / "t").exists()


@pytest.mark.parametrize("kept", [False, True])
def test_the_registry_dies(kept: bool, apps: Apps, rundir: Rundir) -> None:
    """The program goes on; of what was in its buffers there is what was kept before."""
    running = Running(rundir, apps, "--snapshot-on=USR1,exit")
    if kept:
        running.recorder.send_signal(signal.SIGUSR1)
        until(lambda: running.count() == 1, "a snapshot")
    # Its only child besides the program; the spawner is the registry's.
    children = Path(f"/proc/{running.recorder.pid}/task/{running.recorder.pid}/children")
    (registry,) = [
        pid
        for pid in map(int, children.read_text().split())
        if Path(f"/proc/{pid}/comm").read_text() == "ltt-sessiond\n"
    ]
    os.kill(registry, signal.SIGKILL)
    assert processes.ended(registry, 10)
    running.recorder.send_signal(signal.SIGUSR1)
    running.recorder.terminate()
    stdout, stderr = running.recorder.communicate()
    assert (running.recorder.returncode, stdout) == (125, "")
    *before, line = stderr.splitlines()
    # It may die after the snapshot was written and before what is in it is counted.
    assert len(before) <= kept
    assert all(each.startswith("Warning: cannot count what is in ") for each in before)
    assert line.startswith("Error: the session daemon died (")
    place = f"what was recorded until then is in {running.output}"
    assert line.endswith(place if kept else "what was in its buffers is lost")
    assert running.output.exists() == kept


def test_in_the_library(apps: Apps, rundir: Rundir) -> None:
    """Handlers of the signals that were asked for are there as long as the command runs."""
    program = """
import json, os, signal, sys
import ustconsumer

mine = lambda *_: None
signal.signal(signal.SIGUSR2, mine)
recording = ustconsumer.record_command(
    ["sh", "-c", f"{sys.argv[1]} 5; kill -USR2 $PPID; sleep 0.3; {sys.argv[1]} 6; exit 3"],
    output="t", events=["flood:*"], snapshot_on=["exit", signal.SIGUSR2],
)
assert signal.getsignal(signal.SIGUSR2) is mine
assert recording.output == recording.snapshots[1].path
print(json.dumps([recording.status, [(s.occasion, s.events) for s in recording.snapshots]]))
"""
    result = rundir.run_python("-c", program, apps.flood)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == [3, [["SIGUSR2", 5], ["exit", 11]]]
