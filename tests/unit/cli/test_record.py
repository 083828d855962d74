# SPDX-License-Identifier: MIT
"""The summary of ``record`` and its exit status; the recording is made up."""

from __future__ import annotations

from typing import Any

import pytest

from ustconsumer.cli import main
from ustconsumer.client import record
from ustconsumer.client.flight import FlightSnapshot
from ustconsumer.client.record import Recording
from ustconsumer.client.totals import Totals
from ustconsumer.protocol.control import ChannelOptions, Destination

LOSSLESS = Totals(recorded=1, discarded=0, processes=1, packets=1, bytes=1)
LOSSY = Totals(recorded=2, discarded=1, processes=2, packets=2, bytes=2)
REST = ", 0 discarded, 1 process, 1 packet, 1 byte"
FLIGHT: dict[str, Any] = {"subbuf_size": 512 << 10, "num_subbuf": 8, "mode": "overwrite"}
TEXT = {
    1: "1 event recorded, 0 discarded, 1 process, 1 packet, 1 byte, 0.250 s",
    2: "2 events recorded, 1 discarded, 2 processes, 2 packets, 2 bytes, 0.250 s",
    0: "unknown number of events recorded, 0.250 s",
}


def test_what_a_relay_got(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}

    def recorded(command: list[str], **options: Any) -> Recording:
        asked.update(options, command=command)
        return Recording(
            command=command,
            status=0,
            output="",
            relay="net://h:1:2",
            relay_path="host/prog",
            seconds=0.25,
            totals=Totals(recorded=None, discarded=1, processes=1, packets=2, bytes=3),
            warnings=[],
        )

    monkeypatch.setattr(record, "record_command", recorded)
    assert main(["record", "--to", "net://h:1:2", "--spool=/s:1k", "prog", "--zstd"]) == 0
    text = "2 packets sent, 1 event discarded, 1 process, 3 bytes, 0.250 s"
    assert capsys.readouterr() == (f"{text}\nnet://h:1:2\nhost/prog\n", "")
    assert asked["output"] is None
    assert asked["destination"] == Destination(url="net://h:1:2", spool="/s", spool_size=1024)
    # An argument of the program's own.
    assert asked["command"] == ["prog", "--zstd"]
    assert main(["record", "--strict", "--to=file:///d", "--zstd=5", "prog"]) == 3
    assert (asked["output"], asked["destination"]) == ("/d", Destination(zstd=5))


@pytest.mark.parametrize(
    ("strict", "totals", "status", "expected"),
    [
        (False, LOSSLESS, 0, 0),
        (False, LOSSY, 0, 0),
        (False, LOSSY, 7, 7),
        (True, LOSSLESS, 0, 0),
        (True, LOSSY, 0, 3),
        # The program's own failure is the greater news.
        (True, LOSSY, 7, 7),
        # Not counted is not known to be complete.
        (True, None, 0, 3),
    ],
)
def test_status_and_last_lines(
    strict: bool,
    totals: Totals | None,
    status: int,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def recorded(command: list[str], **options: Any) -> Recording:
        return Recording(
            command=command, status=status, output="/t", seconds=0.25, totals=totals, warnings=[]
        )

    monkeypatch.setattr(record, "record_command", recorded)
    assert main(["record", *(["--strict"] if strict else []), "true"]) == expected
    text = TEXT[(totals.recorded or 0) if totals else 0]
    assert capsys.readouterr() == (f"{text}\n/t\n", "")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            [],
            {
                "events": [],
                "contexts": ("vpid", "vtid", "procname"),
                "channel": ChannelOptions(),
                "wait_all": False,
                "preload": [],
                "variables": None,
                "workers": 0,
                "direct": False,
                "python_calls": None,
                "snapshot_on": None,
                "snapshot_filter": "",
            },
        ),
        (["--snapshot"], {"snapshot_on": [], "channel": ChannelOptions(**FLIGHT)}),
        (
            ["--snapshot", "--snapshot-on", "exit,USR1", "--snapshot-on=a:b", "--buffers-pid"],
            {
                "snapshot_on": ["exit", "USR1", "a:b"],
                "channel": ChannelOptions(**{**FLIGHT, "subbuf_size": 65536, "buffers": "pid"}),
            },
        ),
        # Whoever says when means that it is to be done.
        (
            ["--snapshot-on=a:b", "--snapshot-filter=n > 4", "--num-subbuf=2", "--overwrite"],
            {
                "snapshot_on": ["a:b"],
                "snapshot_filter": "n > 4",
                "channel": ChannelOptions(**{**FLIGHT, "num_subbuf": 2}),
            },
        ),
        (
            ["--snapshot", "--profile=ros2", "--discard"],
            {"channel": ChannelOptions(**{**FLIGHT, "mode": "discard"}), "events": ["ros2:*"]},
        ),
        (
            ["--snapshot", "--python-calls", "--"],
            {"channel": ChannelOptions(subbuf_size=2 << 20, num_subbuf=8, mode="overwrite")},
        ),
        (["--wait-all"], {"wait_all": True}),
        (["--workers=3", "--direct"], {"workers": 3, "direct": True}),
        (["--preload=libc,dl", "--preload", "none"], {"preload": ["libc", "dl", "none"]}),
        (["-e", "a:*,b:*", "-e", "c:*", "-c", "ip"], {"events": ["a:*", "b:*", "c:*"]}),
        (["-c", "ip,vtid", "-c", "cpu_id"], {"contexts": ["ip", "vtid", "cpu_id"]}),
        (
            ["--overwrite", "--buffers-pid"],
            {"channel": ChannelOptions(mode="overwrite", buffers="pid", subbuf_size=16384)},
        ),
        (
            ["--profile=ros2", "-e", "mine:*", "-c", "ip,vpid", "--num-subbuf=4"],
            {
                "events": ["ros2:*", "mine:*"],
                "contexts": ["vpid", "vtid", "procname", "ip"],
                "channel": ChannelOptions(subbuf_size=32768, num_subbuf=4, read_timer_us=200),
            },
        ),
        (["--profile=cpp", "--preload=libc"], {"preload": ["cyg", "dl", "libc"]}),
        (
            ["--profile=dotnet"],
            {
                "events": ["DotNETRuntime:*"],
                "variables": {
                    f"{prefix}_{name}": "1"
                    for prefix in ("DOTNET", "COMPlus")
                    for name in ("LTTng", "EnableEventLog")
                },
            },
        ),
        (
            ["--python-calls", "--"],
            {
                "python_calls": [],
                "events": ["python:*"],
                "channel": ChannelOptions(subbuf_size=2 << 20, num_subbuf=8),
            },
        ),
        (
            ["--python-calls", "shop,web", "db", "--num-subbuf=4", "-e", "shop:*"],
            {
                "python_calls": ["shop", "web", "db"],
                "events": ["python:*", "shop:*"],
                "channel": ChannelOptions(subbuf_size=2 << 20, num_subbuf=4),
            },
        ),
        (
            ["--profile=ros2", "--python-calls", "-e", "python:call"],
            {
                "python_calls": [],
                "events": ["ros2:*", "python:call"],
                "channel": ChannelOptions(subbuf_size=32768, num_subbuf=2, read_timer_us=200),
            },
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_asked_for(
    options: list[str],
    expected: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {}

    def recorded(command: list[str], **options: Any) -> Recording:
        asked.update(options)
        return Recording(
            command=command, status=0, output="/t", seconds=0, totals=LOSSLESS, warnings=[]
        )

    monkeypatch.setattr(record, "record_command", recorded)
    assert main(["record", *options, "true"]) == 0
    assert {name: asked[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("lost", "totals", "count", "expected", "text"),
    [
        ([0], LOSSLESS, 1, 0, f"1 event in 1 snapshot{REST}"),
        (
            [0, 1],
            LOSSLESS,
            2,
            3,
            "1 event in 2 snapshots, 0 discarded, 1 process, 1 packet, 1 byte",
        ),
        ([0], None, 1, 3, "unknown number of events in 1 snapshot"),
        ([], Totals(), 0, 0, "nothing was kept: there was no crash"),
    ],
)
def test_a_flight_recorders_last_lines(
    lost: list[int],
    totals: Totals | None,
    count: int,
    expected: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    snapshots = [
        FlightSnapshot(path=f"/t/{n}", occasion="exit", events=1, packets=1, bytes=1, lost=each)
        for n, each in enumerate(lost)
    ]

    def recorded(command: list[str], **options: Any) -> Recording:
        return Recording(
            command=command,
            status=0,
            output=snapshots[-1].path if snapshots else "",
            seconds=0.25,
            totals=totals,
            warnings=[],
            snapshots=snapshots,
            no_snapshot="" if snapshots else text,
        )

    monkeypatch.setattr(record, "record_command", recorded)
    assert main(["record", "--snapshot", "--strict", "true"]) == expected
    directory = f"/t/{count - 1}\n" if count else ""
    assert capsys.readouterr() == (f"{text}, 0.250 s\n{directory}", "")


@pytest.mark.parametrize("end", [[], ["--strict"]])
def test_modules_that_are_the_command(end: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What stands behind --python-calls are modules, up to an option."""
    assert main(["record", "--python-calls", "python", "app.py", *end]) != 0
    assert "put -- between the modules of --python-calls and the command" in capsys.readouterr().err
