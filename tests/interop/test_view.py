# SPDX-License-Identifier: MIT
"""``drtrace view`` prints what babeltrace2 prints.

More traces are compared wherever a test reads one: see `helpers.viewing`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.drtrace import Summary
from helpers.handmade import UUID, Packet, tick, write, write_ticks
from helpers.lttng import lttng_sessiond
from helpers.registry import running_registry, until
from helpers.rundir import Rundir
from helpers.viewing import Output, babeltrace2, check_view, differs, view

from ustconsumer.abi.application import CONTEXTS

pytestmark = pytest.mark.peers("babeltrace2")

#: Recorded once: by one of the workers.
with_recorded = pytest.mark.xdist_group("recorded")

OPTIONS = (
    (),
    ("--no-delta",),
    ("--clock-cycles",),
    ("--clock-cycles", "--no-delta"),
    ("--clock-date",),
    ("--clock-gmt", "--clock-date"),
    ("--clock-seconds",),
    ("--fields=all",),
    ("--fields=trace,loglevel",),
    ("-f", "emf", "-f", "trace:domain"),
)


def check(trace: Path, *options: str) -> Output:
    """Compare all of it; return what both printed."""
    theirs = babeltrace2(*options, trace)
    assert theirs.status == 0, theirs.stderr
    check_view(theirs, *options, trace)
    return theirs


# -- types -----------------------------------------------------------------------------------


@pytest.mark.repeat(ci=30, soak=1000)
def test_every_type_in_any_company(repeat: int, tmp_path: Path) -> None:
    for seed in range(repeat):
        trace = tmp_path / f"{seed}"
        write(trace, seed)
        printed = check(trace, *OPTIONS[seed % len(OPTIONS)])
        assert printed.stdout.count(b"\n") == 60


def test_a_difference_is_seen() -> None:
    """Only an empty text may be another one."""
    assert not differs(b'a = "", b = "x"\n', b'a = "old\\"", b = "x"\n')
    assert differs(b'a = "", b = "x"\n', b'a = "", b = "y"\n')
    assert differs(b'a = "new"\n', b'a = "old"\n')
    assert differs(b"a = 1\n", b"a = 2\n")
    assert differs(b"a\n", b"a\nb\n")
    assert differs(b"a\nb\n", b"a\n")


# -- traces of the real LTTng and ours -------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(apps: Apps, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a trace of the real LTTng: all types, several channels, every context."""
    kept = tmp_path_factory.mktemp("recorded") / "trace"
    with lttng_sessiond() as lttng:
        output = lttng.rundir.home / "trace"
        lttng("create", "s", "-o", output)
        for channel, size in (("plain", "64K"), ("contexts", "256K"), ("small", "4K")):
            lttng("enable-channel", "--userspace", f"--subbuf-size={size}", channel)
            lttng("enable-event", "--userspace", f"--channel={channel}", "--all")
        names = [name for name in CONTEXTS if name != "cpu_id"]
        for name in (*names, "$app.shop:customer", "perf:thread:page-fault"):
            lttng("add-context", "--userspace", "--channel=contexts", f"--type={name}")
        lttng("add-context", "--userspace", "--channel=small", "--type=procname")
        lttng("start")
        for rounds in ("3", "9"):
            assert lttng.rundir.run([apps.fields, rounds]).returncode == 0
        lttng("stop")
        lttng("destroy")
        # Readable for whoever runs the tests, and there when the user is not any more.
        shutil.copytree(output, kept)
    return kept


@with_recorded
@pytest.mark.peers("lttng", "lttng-sessiond", "gcc", "lttng-ust-headers")
@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_real_lttng(recorded: Path, options: tuple[str, ...]) -> None:
    printed = check(recorded, *options)
    assert printed.stdout.count(b" fields:" if not options else b"fields:") > 28 * 3 * 12 * 2


@with_recorded
@pytest.mark.peers("lttng", "lttng-sessiond", "gcc", "lttng-ust-headers")
def test_any_directory_above_the_trace(recorded: Path) -> None:
    trace = next(path.parent for path in recorded.rglob("metadata"))
    printed = {check(directory).stdout for directory in (recorded.parent, recorded, trace)}
    assert len(printed) == 1
    # Names of traces are relative to what was asked for.
    named = {
        check(directory, "--fields=trace").stdout
        for directory in (recorded.parent, recorded, trace)
    }
    assert len(named) == 3


@with_recorded
@pytest.mark.peers("lttng", "lttng-sessiond", "gcc", "lttng-ust-headers")
@pytest.mark.parametrize("zone", ["UTC", "XYZ-5:30", "America/New_York"])
def test_in_any_time_zone(recorded: Path, rundir: Rundir, zone: str) -> None:
    """As a command, in an environment where babeltrace2 is not to be found."""
    env = {"TZ": zone, "PATH": "/nonexistent", "PYTHONPATH": os.pathsep.join(sys_path())}
    ours = rundir.drtrace("view", "--clock-date", recorded, env=env, text=False)
    theirs = subprocess.run(
        ["babeltrace2", "--clock-date", recorded],
        env={**os.environ, "TZ": zone},
        capture_output=True,
        check=True,
    )
    assert (ours.returncode, ours.stderr) == (0, theirs.stderr)
    assert not differs(ours.stdout, theirs.stdout)


def sys_path() -> list[str]:
    return [path for path in sys.path if path]


@pytest.mark.peers("gcc", "lttng-ust-headers")
@pytest.mark.parametrize("buffers", ["--buffers-uid", "--buffers-pid"])
def test_our_own(buffers: str, apps: Apps, rundir: Rundir) -> None:
    trace = rundir.home / "trace"
    program = ["sh", "-c", f"{apps.fields} 2; {apps.flood} 50 2 & {apps.flood} 50 3; wait"]
    result = rundir.drtrace("record", "-o", trace, buffers, *program)
    assert result.returncode == 0, result.stderr
    printed = check(trace)
    assert printed.stdout.count(b"\n") == Summary(result.stdout).recorded
    if buffers == "--buffers-pid":
        assert b":flood:(" in printed.stdout


# -- what was lost ---------------------------------------------------------------------------

SECOND = 1_000_000_000


@pytest.fixture
def lossy(tmp_path: Path) -> Path:
    """Give a trace with losses of every kind, in streams of several channels."""

    def packets(cpu: int, channel: int, *counts: tuple[int, int]) -> list[Packet]:
        result = []
        for number, (sequence, discarded) in enumerate(counts):
            begin = (10 * number + cpu + 2 * channel) * SECOND
            records = tick(begin, number) + tick(begin + 5 * SECOND, number)
            result.append(
                Packet(begin, begin + 8 * SECOND, records, channel, cpu, sequence, discarded)
            )
        return result

    trace = tmp_path / "lossy"
    write_ticks(
        trace,
        a_0=packets(0, 0, (0, 0), (1, 5), (2, 6), (3, 6), (4, 100)),
        # Lost before the first packet; then packets; then a total that decreases.
        a_1=packets(1, 0, (7, 3), (10, 3), (11, 4), (12, 2)),
        b_0=packets(0, 1, (0, 0), (2, 1), (4, 1), (4, 1)),
        # Nothing but a header.
        b_1=[Packet(3, 50 * SECOND, b"", 1, 1, 0, 9)],
    )
    return trace


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_losses(lossy: Path, options: tuple[str, ...]) -> None:
    printed = check(lossy, *options).stderr
    for words in (b"discarded 5 events", b"discarded 1 event ", b"may have discarded events"):
        assert words in printed
    assert b"discarded 2 packets" in printed
    assert b"discarded 1 packet " in printed


# The trace's first packet begins at 19:48:08.195931449.
BOUNDS = [
    ("--begin=19:48:20",),
    ("--end=19:48:20",),
    ("--begin=19:48:18.195931449", "--end=19:48:23.195931449"),
    ("--begin=19:48:18.195931450", "--end=19:48:23.195931448"),
    ("--begin=2026-11-22 19:48:30", "--end=2026-11-23"),
    ("--begin=1795376900", "--end=1795376910.5"),
    ("--begin=1795376900.195931449", "--end=1795376900.195931449"),
    ("--begin=-5.5", "--end=19:49"),
    ("--begin=2030-01-01 00:00",),
    ("--end=1.5",),
]


@pytest.mark.parametrize("bounds", BOUNDS, ids=" ".join)
def test_ranges(lossy: Path, bounds: tuple[str, ...]) -> None:
    options = (*bounds, "--clock-gmt")
    theirs = babeltrace2(*options, lossy)
    ours = view(*options, lossy)
    assert ours.stdout == theirs.stdout
    # Of one moment, babeltrace2 tells in an order of its own.
    assert sorted(ours.stderr.splitlines()) == sorted(theirs.stderr.splitlines())
    assert ours.status == theirs.status == 0


@pytest.mark.parametrize(
    "time", ["noon", "12", "1:2", "19:48:20.", "2026-11-22 1", "12:00:00.0123456789"]
)
def test_times_that_are_none(lossy: Path, time: str) -> None:
    theirs = babeltrace2(f"--begin={time}", lossy)
    ours = view(f"--begin={time}", lossy)
    assert (ours.status == 0) == (theirs.status == 0)


# -- streams and traces ----------------------------------------------------------------------


def test_streams_of_one_time(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    times = [0, 1, 1, 5, 5, 5, 9]
    write_ticks(
        trace,
        **{
            f"c{channel}_{cpu}": [
                Packet(0, 9, b"".join(tick(time, cpu) for time in times), channel, cpu)
            ]
            for channel in range(3)
            for cpu in (2, 0, 1)
        },
    )
    assert check(trace).stdout.count(b"\n") == 9 * len(times)


def test_two_users(tmp_path: Path) -> None:
    """Whose name is greater comes first where the uuid of its trace is less."""
    users = {"1000": "f" + UUID[1:], "2000": UUID}
    for user, uuid in users.items():
        ticks = b"".join(tick(time, int(user)) for time in (0, 1, 1, 7, 9))
        packet = Packet(0, 9, ticks)
        write_ticks(tmp_path / "trace" / "ust" / "uid" / user / "64-bit", uuid, c_0=[packet])
    assert check(tmp_path / "trace").stdout.count(b"\n") == 10
    check(tmp_path / "trace", "--fields=all")


def test_chunks(tmp_path: Path) -> None:
    """A trace in several directories, which overlap as snapshots do."""
    first, second, third = (
        Packet(10 * at, 10 * at + 9, tick(10 * at, at), 0, 0, at, at) for at in range(3)
    )
    write_ticks(tmp_path / "all" / "one", c_0=[first, second])
    write_ticks(tmp_path / "all" / "two", c_0=[second, third])
    printed = check(tmp_path / "all", "--fields=trace,trace:hostname")
    assert printed.stdout.count(b"\n") == 3
    check(tmp_path / "all" / "one", "--fields=all")


def test_nothing_recorded(tmp_path: Path) -> None:
    write_ticks(tmp_path / "header", c_0=[Packet(5, 9)])
    write_ticks(tmp_path / "none")
    write_ticks(tmp_path / "empty", c_0=[])
    for name in ("header", "none", "empty"):
        assert check(tmp_path / name) == (b"", b"", 0)


# -- what cannot be read ---------------------------------------------------------------------


def test_what_is_there_of_a_trace_that_is_cut_off(tmp_path: Path) -> None:
    write_ticks(
        tmp_path / "cut",
        c_0=[Packet(10 * at, 10 * at + 9, tick(10 * at, at)) for at in range(3)],
        c_1=[Packet(0, 100, tick(4, 9) + tick(90, 9), cpu_id=1)],
    )
    whole = view(tmp_path / "cut").stdout.splitlines()
    os.truncate(tmp_path / "cut" / "c_0", 3 * 4096 - 1)
    assert babeltrace2(tmp_path / "cut").status == 1
    ours = view(tmp_path / "cut")
    assert ours.status == 1
    assert ours.stdout.splitlines() == whole[:3]
    assert ours.stderr.startswith(b"Error: ")
    assert b"c_0: packet 2 at byte 8192" in ours.stderr


def test_an_event_that_leaves_its_packet(tmp_path: Path) -> None:
    broken = tick(20, 2)[:-1]
    write_ticks(
        tmp_path / "cut", c_0=[Packet(0, 9, tick(0, 0)), Packet(10, 19, tick(10, 1) + broken)]
    )
    theirs, ours = babeltrace2(tmp_path / "cut"), view(tmp_path / "cut")
    assert (ours.status, theirs.status) == (1, 1)
    # babeltrace2 reads on behind the content, to the end of that event.
    assert ours.stdout.splitlines() == theirs.stdout.splitlines()[:2]
    assert b"c_0: packet 1 at byte 4096: event at byte 102: it leaves its packet" in ours.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--names=all",), 2, "unrecognized arguments: --names=all"),
        (("--fields=speed",), 1, "unknown field 'speed'"),
        (("--begin=5", "--end=4"), 1, "--begin is after --end"),
        (("--begin=2026-11-22x",), 1, "is no time"),
    ],
)
def test_wrong_options(lossy: Path, arguments: tuple[str, ...], status: int, words: str) -> None:
    ours = view(*arguments, lossy)
    assert (ours.stdout, ours.status) == (b"", status)
    assert words in ours.stderr.decode()
    assert babeltrace2(*arguments, lossy).status in (0 if status == 2 else 1, 1)


def test_no_trace(tmp_path: Path) -> None:
    for place, words in ((tmp_path, b"no trace"), (tmp_path / "absent", b"no such directory")):
        ours = view(place)
        assert ours.status == 1
        assert words in ours.stderr


# -- as a command ----------------------------------------------------------------------------


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """Give a trace of more output than fits into a pipe."""
    ticks = b"".join(tick(time, time) for time in range(5000))
    write_ticks(tmp_path / "long", c_0=[Packet(0, 5000, ticks)])
    return tmp_path / "long"


def test_reader_that_has_enough(long: Path, rundir: Rundir) -> None:
    process = rundir.start_drtrace("view", long, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    assert b" p:tick0: " in process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1
    process.stderr.close()


def test_interrupt(long: Path, rundir: Rundir) -> None:
    process = rundir.start_drtrace("view", long, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    # It waits for us to read on.
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()
    assert process.returncode == -signal.SIGINT
    assert stderr == b""
    assert stdout.count(b"\n") < 4999


def test_warnings_can_be_kept_quiet(lossy: Path) -> None:
    assert view("-q", lossy) == (view(lossy).stdout, b"", 0)


def test_json(lossy: Path) -> None:
    ours = view("--json", lossy)
    assert (ours.status, ours.stderr) == (0, view(lossy).stderr)
    events = [json.loads(line) for line in ours.stdout.splitlines()]
    assert len(events) == view(lossy).stdout.count(b"\n")
    assert events[0] == {
        "timestamp": 1795376888195931449,
        "hostname": "hôst",
        "event": "p:tick0",
        "cpu_id": 0,
        "context": {},
        "fields": {"n": 0},
    }
    assert [event["timestamp"] for event in events] == sorted(
        event["timestamp"] for event in events
    )


def test_json_of_every_type(tmp_path: Path) -> None:
    for seed in range(20):
        write(tmp_path / f"{seed}", seed)
        ours = view("--json", tmp_path / f"{seed}")
        assert (ours.status, ours.stderr) == (0, b"")
        for line in ours.stdout.splitlines():
            assert {"timestamp", "event", "fields"} < json.loads(line).keys()


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_a_trace_that_is_being_written(apps: Apps, rundir: Rundir) -> None:
    trace = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = registry.client.create("s", str(trace))
        session.enable_event("flood:*")
        session.start()
        assert rundir.run([apps.flood, "100000"]).returncode == 0

        def readable() -> bool:
            # A packet may be there in part, or just before what describes it.
            seen = view(trace)
            return seen.status == 0 and b" flood:tick: " in seen.stdout

        until(readable, "events are in the trace")
        session.stop()
        session.destroy()
    check(trace)
