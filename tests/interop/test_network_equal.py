# SPDX-License-Identifier: MIT
"""The same program to disk, through LTTng's relay and through ours: the same trace.

Older relays are those of ``tests/helpers/standin.py``, which knows the protocol by its layouts.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text, normal_text
from helpers.registry import RunningRegistry, running_registry, until
from helpers.relayd import Relayd, relayd
from helpers.relaypeer import Viewer
from helpers.rundir import Rundir
from helpers.standin import stand_in

from ustconsumer.client.session import Session
from ustconsumer.protocol.control import ChannelOptions, Destination

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "lttng", "babeltrace2")

_CERTIFICATES = Path(__file__).resolve().parent.parent / "helpers" / "certificates"
_PERIOD_US = 100_000
_CONTEXTS = ["vpid", "vtid", "procname"]


def pin() -> None:
    """Keep a program on one CPU: each event says on which it was."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def start(
    registry: RunningRegistry,
    output: Path | None,
    destination: Destination | None = None,
    buffers: str = "uid",
    snapshot: bool = False,
) -> Session:
    """Have a session record everything that the program emits."""
    session = registry.client.create("s", output or "", destination=destination, snapshot=snapshot)
    session.enable_channel("ch", ChannelOptions(buffers=buffers, subbuf_size=1 << 18))
    session.add_context(_CONTEXTS)
    session.enable_event("*")
    session.start()
    return session


def recorded(
    rundir: Rundir,
    apps: Apps,
    output: Path | None,
    destination: Destination | None = None,
    buffers: str = "uid",
) -> None:
    """Record the program, twice: with buffers per process there are two traces."""
    with running_registry(rundir) as registry:
        session = start(registry, output, destination, buffers)
        for _ in range(2):
            assert rundir.run([apps.fields], preexec_fn=pin).returncode == 0
        session.stop()
        session.destroy()
        assert registry.log() == []


def text_of(output: Path) -> list[str]:
    """Return what is in a trace, times aside; it is not empty."""
    reading = babeltrace2_text(output)
    assert reading.stderr == ""
    lines = normal_text(reading.lines)
    assert len(lines) > 100
    return lines


@pytest.mark.parametrize("buffers", ["uid", "pid"])
def test_streamed(rundir: Rundir, apps: Apps, tmp_path: Path, buffers: str) -> None:
    disk = rundir.home / "trace"
    recorded(rundir, apps, disk, buffers=buffers)
    expected = text_of(disk)
    for kind in ("lttng", "ours"):
        with relayd(kind, tmp_path / kind) as relay:
            recorded(rundir, apps, None, Destination(url=relay.url), buffers)
        assert text_of(tmp_path / kind) == expected
        traces = list((tmp_path / kind).rglob("metadata"))
        assert len(traces) == (1 if buffers == "uid" else 2)


def test_snapshots(rundir: Rundir, apps: Apps, tmp_path: Path) -> None:
    """One snapshot of the same buffers in three places."""
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(running_registry(rundir))
        session = start(registry, rundir.home / "none", snapshot=True)
        assert rundir.run([apps.fields], preexec_fn=pin).returncode == 0
        disk = Path(session.snapshot(rundir.home / "disk").path)
        expected = text_of(disk)
        for kind in ("lttng", "ours"):
            with relayd(kind, tmp_path / kind) as relay:
                session.snapshot(relay.url)
            assert text_of(tmp_path / kind) == expected
        session.destroy()


# -- live --------------------------------------------------------------------------------


@contextlib.contextmanager
def followed(relay: Relayd, output: Path) -> Iterator[None]:
    """Have a babeltrace2 follow the session until that has ended, which must end it well."""

    def is_there() -> bool:
        with contextlib.closing(Viewer(relay.live)) as viewer:
            return "s" in viewer.sessions()

    until(is_there, "the session is at the relay")
    errors = output.with_suffix(".err")
    with open(output, "w") as out, open(errors, "w") as err:
        follower = subprocess.Popen(
            ["babeltrace2", "--no-delta", "--input-format=lttng-live", relay.viewer_url("s")],
            stdout=out,
            stderr=err,
        )
    try:
        yield
        assert follower.wait(60) == 0, errors.read_text()
        assert errors.read_text() == ""
    finally:
        if follower.poll() is None:
            follower.kill()
            follower.wait()


@pytest.mark.parametrize("link", ["lttng net", "ours net", "ours net+tls+zstd"])
def test_live(rundir: Rundir, apps: Apps, tmp_path: Path, link: str) -> None:
    """What Babeltrace sees while it is streamed is what is on disk, and what the relay keeps."""
    disk = rundir.home / "trace"
    recorded(rundir, apps, disk)
    expected = text_of(disk)
    kind, scheme = link.split()
    options = [f"--tls-cert={_CERTIFICATES / 'relay.pem'}"] if "tls" in scheme else []
    seen = tmp_path / "seen"
    with relayd(kind, tmp_path / "out", *options) as relay, running_registry(rundir) as registry:
        url = relay.url.replace("net://", f"{scheme}://")
        ca_file = str(_CERTIFICATES / "ca.pem") if "tls" in scheme else ""
        session = start(registry, None, Destination(url=url, live_us=_PERIOD_US, ca_file=ca_file))
        with followed(relay, seen):
            for _ in range(2):
                assert rundir.run([apps.fields], preexec_fn=pin).returncode == 0
            session.stop()
            session.destroy()
        assert registry.log() == []
    assert normal_text(seen.read_text().splitlines()) == expected
    assert text_of(tmp_path / "out") == expected


# -- older relays, and IPv6 -------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("minor", [4, 8, 10, 12])
def test_older_relays(rundir: Rundir, apps: Apps, tmp_path: Path, minor: int, host: str) -> None:
    disk = rundir.home / "trace"
    recorded(rundir, apps, disk)
    with stand_in(minor, tmp_path / "out", host) as relay:
        ports = f"{relay.control_port}:{relay.data_port}"
        url = f"net6://[{host}]:{ports}" if ":" in host else f"net://{host}:{ports}"
        recorded(rundir, apps, None, Destination(url=url))
        said = relay.commands()
    assert text_of(tmp_path / "out") == text_of(disk)
    # Facts 5: chunks from 11 on, the question of what a relay can from 12 on; ours is told
    # nothing that only a relay of ours knows.
    assert (19 in said) == (minor >= 11)
    assert (22 in said) == (minor >= 12)
    assert max(said) <= 22
    (trace,) = {path.parent for path in (tmp_path / "out").rglob("metadata")}
    head = next((trace / "index").iterdir()).read_bytes()[:16]
    assert head[8:] == (b"\0\0\0\x01\0\0\0\x48" if minor >= 8 else b"\0\0\0\0\0\0\0\x38")


def test_ours_over_ipv6(rundir: Rundir, apps: Apps, tmp_path: Path) -> None:
    disk = rundir.home / "trace"
    recorded(rundir, apps, disk)
    ports = [f"-{letter}tcp6://[::1]:0" for letter in "CDL"]
    with relayd("ours", tmp_path / "out", *ports) as relay:
        url = f"net6://[::1]:{relay.control}:{relay.data}"
        recorded(rundir, apps, None, Destination(url=url))
    assert text_of(tmp_path / "out") == text_of(disk)
