# SPDX-License-Identifier: MIT
"""Traces compressed on disk: real programs, zstd's own program, babeltrace2 on what it restores."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import zstandard
from helpers.accounting import Trace, check_discarded, check_overwritten, stop, text_for
from helpers.apps import Apps
from helpers.babeltrace import (
    babeltrace2_details,
    babeltrace2_text,
    normal_details,
    normal_text,
)
from helpers.registry import running_registry, until
from helpers.rundir import Rundir
from helpers.streams import streams as packets_of
from helpers.viewing import babeltrace2, view

from ustconsumer.client.session import Session
from ustconsumer.client.unpack import unpack
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import ChannelOptions, Destination

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2", "zstd")

CPU = min(os.sched_getaffinity(0))


def pin() -> None:
    """Keep a program and its threads on one CPU."""
    os.sched_setaffinity(0, {CPU})


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def restore(source: Path, target: Path) -> None:
    """Restore a trace with zstd's own program, which also tests it."""
    files = [path for path in source.rglob("*") if path.is_file()]
    assert files
    assert all(path.suffix == ".zst" for path in files), files
    subprocess.run(["zstd", "-tq", *files], check=True)
    for path in files:
        plain = target / path.relative_to(source).with_suffix("")
        plain.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["zstd", "-dq", path, "-o", plain], check=True)


def record(rundir: Rundir, output: Path, program: Path, *options: str) -> Any:
    result = rundir.drtrace(
        "record", "-o", output, "-e", "*", *options, "--", program, preexec_fn=pin
    )
    assert result.returncode == 0, result.stderr
    return result


def test_what_zstd_restores_is_the_trace_of_a_plain_twin(user_rundir: Rundir, apps: Apps) -> None:
    home = user_rundir.home
    record(user_rundir, home / "plain", apps.fields)
    packed = home / "packed"
    result = record(user_rundir, packed, apps.fields, "--zstd=5")
    restore(packed, home / "restored")
    done = user_rundir.drtrace("unpack", packed, "-o", home / "unpacked")
    assert done.returncode == 0, done.stderr
    assert contents(home / "restored") == contents(home / "unpacked")
    ours, twin = home / "restored", home / "plain"
    # As test_same_as_lttng compares a plain trace with LTTng's.
    assert normal_text(babeltrace2_text(ours).lines) == normal_text(babeltrace2_text(twin).lines)
    assert normal_details(babeltrace2_details(ours).lines, ours) == normal_details(
        babeltrace2_details(twin).lines, twin
    )
    assert set(contents(ours)) == set(contents(twin))
    # Without unpacking.
    shown = view("--fields=all", packed)
    theirs = babeltrace2("--fields=all", ours)
    assert shown.stdout == theirs.stdout
    assert shown.stdout.count(b"\n") > 3 * 28
    # The summary's ratio is that of the stream files, but for their seek tables.
    streams = [path for path in packed.rglob("*_*.zst") if path.parent.name != "index"]
    packets = len(list(chain.from_iterable(packets_of(ours).values())))
    stored = sum(path.stat().st_size - 17 for path in streams) - 8 * packets
    plain = sum((ours / p.relative_to(packed)).with_suffix("").stat().st_size for p in streams)
    match = re.search(r", (\d+) bytes, compressed (\d+\.\d)x, ", result.stdout)
    assert match, result.stdout
    assert int(match[1]) == plain
    assert float(match[2]) == round(plain / stored, 1) > 1.5


@pytest.mark.parametrize("level", [1, 19])
def test_a_session_has_a_level(level: int, user_rundir: Rundir, apps: Apps) -> None:
    """Each frame is what zstd makes of the packet on this level, and on no other."""
    output = user_rundir.home / "packed"
    result = user_rundir.drtrace(
        "record", "-o", output, f"--zstd={level}", "-e", "flood:*", "--", apps.flood, "20000"
    )
    assert result.returncode == 0, result.stderr
    plain = Path(unpack(output).path)
    trace = Trace(plain)
    assert len(trace.lines) == 20_000
    same = dict.fromkeys((1, 19), 0)
    for name, packets in trace.streams.items():
        raw = (output / f"{name}.zst").read_bytes()
        content = (plain / name).read_bytes()
        at = 0
        for packet in packets:
            for each in same:
                context = zstandard.ZstdCompressor(level=each, write_checksum=True)
                same[each] += context.compress(content[at : at + packet.packet_size]) in raw
            at += packet.packet_size
    assert same[level] == sum(map(len, trace.streams.values()))
    assert same[20 - level] < same[level]


@pytest.mark.repeat(ci=4, soak=200)
@pytest.mark.parametrize("mode", ["discard", "overwrite"])
def test_consumers_killed_under_load(mode: str, repeat: int, rundir: Rundir, apps: Apps) -> None:
    """Recorded + discarded (or overwritten) = emitted, whoever was killed while compressing."""
    output = rundir.home / "trace"
    emitted, each, size = 0, 4, 4096
    with running_registry(rundir) as registry:
        session = registry.client.create("killed", str(output), destination=Destination(zstd=3))
        session.enable_channel("chan", ChannelOptions(subbuf_size=size, num_subbuf=8, mode=mode))
        session.enable_event("flood:tick")
        session.start()
        text = str(text_for(each, size))
        killed: set[int] = set()
        for number in range(repeat):
            program = rundir.start([apps.flood, "4000", "2", "--text", text])
            emitted += 8000
            time.sleep(0.003 * (number % 10))
            consumer = session.info().consumer
            if consumer is not None:
                os.kill(consumer.pid, signal.SIGKILL)
                killed.add(consumer.pid)
            assert program.wait() == 0
            until(lambda: _goes_on(session, killed), "a successor is there")
        totals = stop(session)
        session.destroy()
    assert len(killed) == repeat
    restore(output, rundir.home / "plain")
    trace = Trace(rundir.home / "plain")
    if mode == "discard":
        check_discarded(trace, totals, emitted)
    else:
        check_overwritten(trace, totals, emitted, each, exact=False)
    # A clean end: each file ends with the seek table.
    for path in output.rglob("chan_*.zst"):
        if path.parent.name != "index":
            assert path.read_bytes()[-4:] == bytes.fromhex("b1ea928f"), path


def _goes_on(session: Session, killed: set[int]) -> bool:
    """Return whether there is a successor; one that dies too often has none of its own."""
    consumer = session.info().consumer
    if consumer is None:
        with contextlib.suppress(CommandError):
            session.spawn_consumer()
    return consumer is not None and consumer.pid not in killed


def test_a_trace_is_readable_while_it_grows(rundir: Rundir, apps: Apps) -> None:
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = registry.client.create("grows", str(output), destination=Destination(zstd=1))
        session.enable_channel("chan", ChannelOptions(subbuf_size=4096, num_subbuf=8))
        session.enable_event("flood:tick")
        session.start()
        program = rundir.start([apps.flood, "-1"])
        seen = 0
        for _ in range(5):
            until(lambda: output.is_dir() and any(output.rglob("chan_*.zst")), "there are files")
            size = sum(path.stat().st_size for path in output.rglob("chan_*.zst"))
            until(
                lambda more=size + 5000: (
                    more  # type: ignore[misc]
                    <= sum(path.stat().st_size for path in output.rglob("chan_*.zst"))
                ),
                "the files grow",
            )
            shown = view("--no-delta", output, lines=seen + 100)
            assert shown.stdout.count(b"flood:tick") >= seen + 50, shown.stderr
            seen += 50
        program.kill()
        program.wait()
        session.stop()
        session.destroy()
