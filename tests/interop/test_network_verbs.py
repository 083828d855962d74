# SPDX-License-Identifier: MIT
"""``drtrace`` and relays: where it sends, what it says, and the trace that is there."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.drtrace import Summary, end_registry
from helpers.lttng import lttng_sessiond
from helpers.relayd import Relayd, relayd
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "lttng", "lttng-sessiond", "babeltrace2")

_CERTIFICATES = Path(__file__).resolve().parent.parent / "helpers" / "certificates"
#: Nobody listens there, and nobody is asked before a session has an event.
NOBODY = "127.0.0.1:1:2"
#: Both say the same, and do the same: nothing.
SCRIPT = [
    f"create one --set-url=net://{NOBODY}",
    "create two -U net://127.0.0.1/a/b",
    "create three --ctrl-url=tcp://127.0.0.1:1/sub --data-url=tcp://127.0.0.1:2",
    "create four -C tcp6://[::1]:1 -D tcp6://[::1]:2",
    f"create five --live=500000 --set-url=net://{NOBODY}",
    "create six --live=2s --set-url=net6://[::1]",
    "create seven --set-url=file://{home}/out",
    f"create eight --snapshot --set-url=net://{NOBODY}",
    "snapshot list-output -s eight",
    "snapshot del-output -s eight 1",
    f"snapshot add-output -s eight -m 10M net://{NOBODY}",
    "snapshot list-output -s eight",
    "snapshot add-output -s eight net://127.0.0.1",
    "snapshot del-output -s eight snapshot-2",
    "snapshot add-output -s eight -n mine -C tcp://127.0.0.1:1 -D tcp://127.0.0.1:2",
    "snapshot list-output -s eight",
    "create bad --set-url=tcp://127.0.0.1",
    "create bad --set-url=net://127.0.0.1:1:2:3",
    "create bad --ctrl-url=tcp://127.0.0.1",
    f"create bad --ctrl-url=tcp://127.0.0.1 --data-url=tcp://127.0.0.1 -U net://{NOBODY}",
    f"create bad --live=0 --set-url=net://{NOBODY}",
    f"create bad --live --snapshot --set-url=net://{NOBODY}",
    "create bad --live --set-url=file:///out",
    "list",
]
_ENTRY = re.compile(r"  \d+\) ")
#: LTTng repeats the URL as it was given; later it shows what it made of it.
_ADDED = re.compile(r"successfully added for session \w+\n.*\n")


def said(result: Any, home: Path) -> tuple[bool, list[str]]:
    """Return whether a command succeeded, and the lines it said then: a list without its order."""
    if result.returncode:
        assert result.stderr.startswith("Error: "), result
        return False, []
    text = _ADDED.sub("added\n", result.stdout.replace(str(home), "HOME"))
    lines = [_ENTRY.sub("  ", line) for line in text.splitlines() if line]
    return True, sorted(line for line in lines if " list <session_name> for" not in line)


def test_the_same_words(user_rundir: Rundir) -> None:
    with lttng_sessiond() as lttng:
        home = lttng.rundir.home
        theirs = []
        for line in SCRIPT:
            command = ["lttng", "--no-sessiond", *line.format(home=home).split()]
            theirs.append((line, *said(lttng.rundir.run(command), home)))
    home = user_rundir.home
    ours = []
    try:
        for line in SCRIPT:
            argv = line.format(home=home).split()
            # A default of ours is a session daemon.
            if line == SCRIPT[0]:
                argv = ["--rundir", str(user_rundir.path), *argv]
            result = user_rundir.drtrace("--rundir", user_rundir.path, *argv)
            ours.append((line, *said(result, home)))
    finally:
        end_registry(user_rundir)
    for our, their in zip(ours, theirs, strict=True):
        assert our == their


@pytest.fixture(params=["ours", "lttng"])
def relay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Relayd]:
    with relayd(request.param, tmp_path / "relay") as running:
        yield running


def traces(relay: Relayd) -> list[Path]:
    """Return the directories of the traces that a relay has."""
    return sorted(path.parent for path in relay.output.rglob("metadata"))


def drtrace(rundir: Rundir, *arguments: str, status: int = 0) -> str:
    result = rundir.drtrace("--rundir", rundir.path, *arguments)
    assert result.returncode == status, result
    return str(result.stdout)


def test_record(rundir: Rundir, apps: Apps, relay: Relayd) -> None:
    result = rundir.drtrace("record", "--to", relay.url, "--strict", apps.flood, "1000")
    assert (result.returncode, result.stderr) == (0, "")
    *_, summary, url, path = result.stdout.splitlines()
    assert url == relay.url
    match = re.match(r"(\d+) packets? sent, 0 events discarded, 1 process, (\d+) bytes, ", summary)
    assert match, summary
    (trace,) = traces(relay)
    assert relay.output / path in trace.parents
    assert len(babeltrace2_text(trace).lines) == 1000
    # HOST/PROGRAM-PID-DATE/ust/uid/UID/64-bit
    assert re.fullmatch(
        rf"{re.escape(socket.gethostname())}/flood-\d+-\d{{8}}-\d{{6}}/ust/uid/\d+/64-bit",
        str(trace.relative_to(relay.output)),
    )
    assert sum(path.stat().st_size for path in trace.glob("channel0_*")) == int(match[2])
    assert not (rundir.home / "lttng-traces").exists()


@pytest.mark.parametrize("options", [(), ("--zstd=1",), ("--overwrite",), ("--buffers-pid",)])
def test_record_to_both(
    rundir: Rundir, apps: Apps, relay: Relayd, options: tuple[str, ...]
) -> None:
    output = rundir.home / "trace"
    result = rundir.drtrace(
        *("record", "--to", relay.url, "-o", output, "--subbuf-size=64k", "--num-subbuf=8"),
        *(*options, apps.flood, "2000"),
    )
    assert (result.returncode, result.stderr) == (0, "")
    *said, url, path, directory = result.stdout.splitlines()
    assert (url, directory) == (relay.url, str(output))
    (sent,) = traces(relay)
    assert relay.output / path in sent.parents
    there = babeltrace2_text(sent)
    assert len(there.lines) == 2000
    if "--zstd=1" in options:
        shown = rundir.drtrace("view", "--no-delta", output)
        assert (shown.returncode, shown.stdout.splitlines()) == (0, there.lines)
        assert all(path.suffix == ".zst" for path in output.rglob("*") if path.is_file())
    else:
        summary = Summary("\n".join([*said, directory]))
        assert summary.check() == there.lines
        names = ["channel0_0", "channel0_1", "index/channel0_0.idx", "index/channel0_1.idx"]
        (written,) = (path.parent for path in output.rglob("metadata"))
        for name in names:
            assert (written / name).read_bytes() == (sent / name).read_bytes(), name


def test_tls_zstd_and_a_secret(rundir: Rundir, apps: Apps, tmp_path: Path) -> None:
    secret = rundir.home / "secret"
    secret.write_text("between us\n")
    secret.chmod(0o600)
    os.chown(secret, rundir.user.uid, rundir.user.gid)
    # Readable for the user of the test.
    authority = rundir.home / "ca.pem"
    authority.write_bytes((_CERTIFICATES / "ca.pem").read_bytes())
    options = ("--tls-cert", str(_CERTIFICATES / "relay.pem"), "--token-file", str(secret))
    with relayd("ours", tmp_path / "relay", *options) as relay:
        plain = relay.url.removeprefix("net://")
        url = f"net+tls+zstd://{plain}"
        trusted = (f"--token-file={secret}", f"--ca-file={authority}")
        drtrace(rundir, "record", "--to", url, "--strict", *trusted, str(apps.flood), "1000")
        try:
            drtrace(rundir, "create", "snap", "--snapshot", "--set-url", url, *trusted)
            drtrace(rundir, "enable-event", "flood:tick")
            drtrace(rundir, "start")
            assert rundir.run([apps.flood, "10"]).returncode == 0
            drtrace(rundir, "snapshot", "record")
            drtrace(rundir, "destroy")
        finally:
            end_registry(rundir)
        assert [len(babeltrace2_text(trace).lines) for trace in traces(relay)] == [1000, 10]
        for refused in (
            ("--to", f"net+tls://{plain}", trusted[0]),
            ("--to", f"net+tls://{plain}", trusted[1]),
            ("--to", relay.url, trusted[0]),
        ):
            result = rundir.drtrace("record", *refused, "--strict", apps.flood, "10")
            assert result.returncode == 3, refused
            assert "0 packets sent, 10 events discarded" in result.stdout
            assert "relay " in result.stderr
        assert len(traces(relay)) == 2


def test_verbs(rundir: Rundir, apps: Apps, relay: Relayd) -> None:
    try:
        drtrace(rundir, "create", "mine", "--live=100ms", "--set-url", f"{relay.url}/sub")
        drtrace(rundir, "enable-event", "flood:tick")
        drtrace(rundir, "consume", "mine", "disk", status=1)
        drtrace(rundir, "consume", "mine", "network", "--workers=2")
        drtrace(rundir, "start")
        assert rundir.run([apps.flood, "1000"]).returncode == 0
        drtrace(rundir, "stop")
        lines = drtrace(rundir, "list", "mine").splitlines()
        place = f"tcp4://127.0.0.1:{relay.control}/sub [data: {relay.data}]"
        assert f"    Trace output: {place}" in lines
        assert "    Live timer interval: 100000 us" in lines
        assert any(line.startswith("    Consumer:     network (pid ") for line in lines)
        assert any(line.startswith("    Sent:         ") for line in lines)
        assert f"    At the relay: {socket.gethostname()}/sub" in lines
        (info,) = json.loads(drtrace(rundir, "--json", "list"))
        wanted = {"url": f"{relay.url}/sub", "live_us": 100000}
        assert (info["output"], info["destination"]) == ("", wanted)
        assert info["consumer"]["stats"]["packets"] > 0
        drtrace(rundir, "destroy")
    finally:
        end_registry(rundir)
    (trace,) = traces(relay)
    assert trace.relative_to(relay.output).parts[:2] == (socket.gethostname(), "sub")
    assert len(babeltrace2_text(trace).lines) == 1000


def test_nobody_listens(rundir: Rundir, apps: Apps) -> None:
    url = f"net://{NOBODY}"
    refused = f"relay {url}: Connection refused: events wait in the buffers"
    try:
        drtrace(rundir, "create", "mine", "--set-url", url)
        drtrace(rundir, "enable-event", "flood:tick")
        started = rundir.drtrace("--rundir", rundir.path, "start")
        assert (started.returncode, started.stderr.count("\n")) == (4, 1)
        assert started.stderr.startswith(f"Warning: {refused}")
        assert rundir.run([apps.flood, "1000"]).returncode == 0
        # Snapshots are sent, or not: nothing is left of them.
        failed = rundir.drtrace("--rundir", rundir.path, "snapshot", "record")
        assert (failed.returncode, failed.stdout, failed.stderr.count("\n")) == (1, "", 1)
        assert failed.stderr.startswith("Error: the snapshot was not sent: relay ")
        assert list(rundir.tmp.iterdir()) == []
        stopped = rundir.drtrace("--rundir", rundir.path, "stop")
        assert stopped.returncode == 4
        assert "1000 events are left in the buffers" in stopped.stderr
        drtrace(rundir, "destroy")
    finally:
        end_registry(rundir)


def test_record_where_nobody_listens(rundir: Rundir, apps: Apps) -> None:
    result = rundir.drtrace("record", "--to", f"net://{NOBODY}", "--strict", apps.flood, "1000")
    assert result.returncode == 3
    assert "0 packets sent, 1000 events discarded, 1 process, 0 bytes" in result.stdout
    assert "onnection refused" in result.stderr
    # What a directory gets does not depend on the relay, as long as there is room in buffers.
    output = rundir.home / "trace"
    result = rundir.drtrace(
        "record", "--to", f"net://{NOBODY}", "-o", output, "--strict", apps.flood, "1000"
    )
    assert result.returncode == 0
    summary = Summary(result.stdout.replace(f"net://{NOBODY}\n", ""))
    assert (summary.recorded, summary.discarded) == (1000, 0)
    summary.check()


def test_snapshots(rundir: Rundir, apps: Apps, relay: Relayd) -> None:
    try:
        drtrace(rundir, "create", "snap", "--snapshot", "--set-url", relay.url)
        drtrace(rundir, "enable-event", "flood:tick")
        drtrace(rundir, "start")
        assert rundir.run([apps.flood, "1000"]).returncode == 0
        here = json.loads(drtrace(rundir, "--json", "snapshot", "record", str(rundir.home / "s")))
        there = json.loads(drtrace(rundir, "--json", "snapshot", "record"))
        assert there == {**here, "path": there["path"], "relay": relay.url}
        lines = drtrace(
            *(rundir, "snapshot", "record", "--name=other", f"-Ctcp://127.0.0.1:{relay.control}"),
            f"-Dtcp://127.0.0.1:{relay.data}",
        ).splitlines()
        assert lines[-2] == relay.url
        assert rundir.run([apps.flood, "10"]).returncode == 0
        third = drtrace(rundir, "snapshot", "record", relay.url).splitlines()[-1]
        drtrace(rundir, "destroy")
    finally:
        end_registry(rundir)
    paths = [there["path"], lines[-1], third]
    host = re.escape(socket.gethostname())
    for path, name in zip(paths, ("snapshot-1", "other", "snapshot-0"), strict=True):
        assert re.fullmatch(rf"{host}/snap-\d{{8}}-\d{{6}}/{name}-\d{{8}}-\d{{6}}-\d", path)
    assert len({Path(path).parent for path in paths}) == 1
    local = babeltrace2_text(here["path"]).lines
    assert len(local) == 1000
    assert babeltrace2_text(relay.output / paths[0]).lines == local
    assert babeltrace2_text(relay.output / paths[1]).lines == local
    assert len(babeltrace2_text(relay.output / paths[2]).lines) == 1010
    assert len(traces(relay)) == 3
    # No index, as LTTng's.
    assert not list(relay.output.rglob("index"))


def test_a_snapshot_of_what_is_sent(rundir: Rundir, apps: Apps, relay: Relayd) -> None:
    """The session's own connections are not disturbed."""
    try:
        drtrace(rundir, "create", "both", "--set-url", relay.url)
        drtrace(rundir, "enable-event", "flood:tick")
        drtrace(rundir, "start")
        assert rundir.run([apps.flood, "1000"]).returncode == 0
        path = drtrace(rundir, "snapshot", "record").splitlines()[-1]
        assert rundir.run([apps.flood, "10"]).returncode == 0
        drtrace(rundir, "destroy")
    finally:
        end_registry(rundir)
    snapshot = relay.output / path
    (streamed,) = (each for each in traces(relay) if snapshot not in each.parents)
    assert len(babeltrace2_text(snapshot).lines) == 1000
    assert len(babeltrace2_text(streamed).lines) == 1010


def test_a_trigger_sends_a_snapshot(rundir: Rundir, apps: Apps, relay: Relayd) -> None:
    try:
        drtrace(rundir, "create", "snap", "--snapshot", "--no-output")
        drtrace(rundir, "enable-event", "flood:tick")
        drtrace(rundir, "start")
        drtrace(
            *(rundir, "add-trigger", "--condition=event-rule-matches", "--name=flood:tick"),
            *("--type=user", "--action=snapshot-session", "snap", "--url", relay.url),
            *("--name=fired", "--rate-policy=once-after:500"),
        )
        assert f"url: {relay.url}, name: fired" in drtrace(rundir, "list-triggers")
        assert rundir.run([apps.flood, "1000"]).returncode == 0
        for _ in range(600):
            if traces(relay):
                break
            rundir.run(["sleep", "0.1"])
        # Carried out one after the other: this one is behind it.
        drtrace(rundir, "destroy")
        shown = drtrace(rundir, "list-triggers")
    finally:
        end_registry(rundir)
    assert "errors: none" in shown
    (trace,) = traces(relay)
    assert trace.relative_to(relay.output).parts[2].startswith("fired-")
    assert len(babeltrace2_text(trace).lines) >= 500
