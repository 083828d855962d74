# SPDX-License-Identifier: MIT
"""What ``status``, ``list`` and ``apps`` print: made-up sessions and programs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from ustconsumer.cli import main, terminal
from ustconsumer.cli.context import Context
from ustconsumer.cli.show import describe_session
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import (
    AppInfo,
    ChannelInfo,
    ChannelLoad,
    ChannelOptions,
    ConsumerInfo,
    ConsumerStats,
    Destination,
    EventInfo,
    SessionInfo,
    StreamInfo,
)

apps = import_module("ustconsumer.cli.apps")
LONG = "its ABI 11 is newer than ours: " + " ".join(["word"] * 30)


def session(state: str = "inactive", **changes: Any) -> SessionInfo:
    stats = changes.pop("stats", ConsumerStats())
    return SessionInfo(
        name="demo",
        id="id",
        uid=1,
        gid=1,
        state=state,
        output=changes.pop("output", "/t"),
        created="now",
        channels=changes.pop("channels", []),
        streams=changes.pop("streams", []),
        consumer=ConsumerInfo(pid=7, kind="disk", stats=stats),
        processes=[1],
        **changes,
    )


def channel(name: str, discarded: int, **options: Any) -> ChannelInfo:
    return ChannelInfo(
        name=name,
        enabled=True,
        options=ChannelOptions(**options),
        contexts=[],
        events=[],
        discarded=discarded,
    )


def stream(name: str, big: int) -> StreamInfo:
    return StreamInfo(
        id=1,
        trace="t",
        channel=name,
        cpu=0,
        produced=0,
        consumed=0,
        lost_full=0,
        lost_wrap=0,
        lost_big=big,
    )


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a terminal of 60 columns."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(terminal, "on_terminal", lambda: True)
    monkeypatch.setattr(apps, "on_terminal", lambda: True)


def test_losses_of_each_channel() -> None:
    channels = [channel("one", 12), channel("two", 5, buffers="pid")]
    text = describe_session(
        session(channels=channels, streams=[stream("two", 3), stream("two", 1)])
    )
    one, two = text.split("- two: [enabled]")
    assert "      Discarded events: 12\n" in one
    assert "too big" not in one
    assert "      Discarded events: 5\n        too big for a sub-buffer: 4\n" in two
    assert "Buffering scheme: per-process\n" in text


def test_how_fast_and_how_full() -> None:
    one, two, three = channel("one", 0), channel("two", 0, mode="overwrite"), channel("three", 0)
    one.load = ChannelLoad(
        rate=10, highest_rate=99, discarded_rate=3, capacity=4096, fill=1024, highest_fill=4096
    )
    two.load = ChannelLoad(rate=10, highest_rate=99, capacity=4096, history_us=12_340_000)
    text = describe_session(session(channels=[one, two, three]), load=True)
    first, second, third = text.split("    Statistics:\n")[1:]
    assert "      Written:          10 bytes/s (highest 99), 3 events/s discarded\n" in first
    assert "      Fullest buffer:   25 % (highest 100 %)\n" in first
    assert "      Written:          10 bytes/s (highest 99)\n" in second
    assert "      Holds the last:   12.3 s\n" in second
    assert "Fullest" not in second
    assert "Written" not in third
    # Not in the words of `lttng list`.
    assert "Fullest" not in describe_session(session(channels=[one]))


def test_rules_are_shown_with_what_they_leave_out() -> None:
    made = channel("one", 0)
    made.events = [
        EventInfo(pattern="a:*", exclusions=["a:b", "a:c*"], filter='n == 1 &&\n\ts == "x"'),
        EventInfo(pattern="plain", enabled=False),
    ]
    lines = describe_session(session(channels=[made])).splitlines()
    shown = "(type: tracepoint) [enabled] [exclusions: a:b,a:c*] [filter: 'n == 1 &&  s == \"x\"']"
    assert f"      a:* {shown}" in lines
    assert "      plain (type: tracepoint) [disabled]" in lines


def test_what_became_of_packets() -> None:
    stats = ConsumerStats(packets=9, bytes=90, repaired=2, unwritten_bytes=10, unwritten_events=3)
    text = describe_session(session(stats=stats, problems=["the output is full"]))
    for line in (
        "    Written:      9 packets, 90 bytes",
        "    Repaired:     2 packets that a killed process had left unfinished",
        "    Not written:  3 events, 10 bytes that the output did not take",
        "    Problem:      the output is full",
    ):
        assert line in text.splitlines()
    plain = describe_session(session("active", stats=ConsumerStats(packets=9)))
    for word in ("Written", "Repaired", "Problem", "Slow"):
        assert word not in plain


@pytest.mark.usefixtures("wide")
def test_long_reasons_are_folded_on_a_terminal() -> None:
    lines = describe_session(session(slow=[LONG])).splitlines()
    assert max(map(len, lines)) < 60
    first = next(number for number, line in enumerate(lines) if line.startswith("    Slow: "))
    assert lines[first + 1].startswith(" " * 18 + "word")


def test_long_reasons_are_one_line_elsewhere() -> None:
    lines = describe_session(session(slow=[LONG])).splitlines()
    assert f"    Slow:         {LONG}" in lines


def _apps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    base = {"ppid": 1, "uid": 0, "gid": 0, "bits": 64, "sessions": []}
    listed = [
        AppInfo(pid=30, name="fine", abi="9.0", tracer="2.13.5", state="registered", **base),
        AppInfo(pid=4, name="new", abi="11.0", tracer="", state="refused", reason=LONG, **base),
        AppInfo(pid=31, name="child", abi="9.0", tracer="", state="unregistered", **base),
    ]

    @contextlib.contextmanager
    def connect() -> Iterator[Any]:
        yield SimpleNamespace(applications=lambda: listed)

    said: list[str] = []
    context = SimpleNamespace(
        connect=connect, dump=lambda value: None, say=lambda text: said.extend(text.split("\n"))
    )
    apps.run(SimpleNamespace(), context)
    return said


def test_apps(monkeypatch: pytest.MonkeyPatch) -> None:
    title, new, fine, child = _apps(monkeypatch)
    assert " ".join(title.split()) == "PID UID NAME ABI BITS TRACER STATE SESSIONS REASON"
    assert new.endswith(LONG)
    assert " ".join(fine.split()) == "30 0 fine 9.0 64 2.13.5 registered -"
    assert " ".join(child.split()) == "31 0 child 9.0 64 - unregistered -"
    assert new.index("refused") == title.index("STATE") == child.index("unregistered")


@pytest.mark.usefixtures("wide")
def test_reasons_of_apps_are_below_their_row_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    title, new, *reason, fine, _ = _apps(monkeypatch)
    assert title.endswith("SESSIONS")
    assert new.endswith("-")
    assert " ".join(line.strip() for line in reason) == LONG
    assert len(reason) > 1
    assert max(map(len, reason)) < 60
    assert fine.endswith("-")


@pytest.mark.parametrize(("verb", "word"), [("start", "started"), ("stop", "stopped")])
def test_what_is_so_already_is_a_warning(
    verb: str, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `lttng` 2.13: one line, no failure; but not the status of success either."""

    class Session:
        name = "demo"

        def start(self) -> list[str]:
            raise CommandError(f"Tracing already {word} for session demo", "already")

        stop = start

    @contextlib.contextmanager
    def connect(self: Context) -> Iterator[Any]:
        yield SimpleNamespace(session=lambda name: Session())

    monkeypatch.setattr(Context, "connect", connect)
    assert main([verb, "demo"]) == 4
    assert capsys.readouterr() == ("", f"Warning: Tracing already {word} for session demo\n")


# Lines as `lttng list` 2.13 prints them, except for what it does not have.
def test_where_packets_go() -> None:
    destination = Destination(url="net://127.0.0.1:6000:6001", live_us=500000)
    lines = describe_session(session(output="", destination=destination)).splitlines()
    assert lines[:4] == [
        "Recording session demo: [inactive]",
        "    Trace output: tcp4://127.0.0.1:6000/ [data: 6001]",
        "    Live timer interval: 500000 us",
        "",
    ]


def test_both_places_and_how_they_are_written() -> None:
    destination = Destination(url="net+tls://h:1:2", zstd=7, spool="/s", spool_size=10)
    stats = ConsumerStats(packets=2, bytes=20)
    text = describe_session(session(destination=destination, stats=stats))
    assert text.splitlines()[1:5] == [
        "    Trace output: /t",
        "    Trace output: net+tls://h:1:2",
        "    Compression:  zstd, level 7",
        "    Spool:        /s (at most 10 bytes)",
    ]
    assert "Written:      2 packets, 20 bytes" in text
    stats = ConsumerStats(packets=2, bytes=20, place="host/demo-1")
    sent = describe_session(session(output="", destination=destination, stats=stats))
    assert "Sent:         2 packets, 20 bytes" in sent
    assert "    At the relay: host/demo-1" in sent.splitlines()
