# SPDX-License-Identifier: MIT
"""``drtrace regenerate``: metadata is written anew, where it is, as ``lttng`` has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.lttng import lttng_sessiond
from helpers.registry import running_registry, until
from helpers.relayd import relayd
from helpers.rundir import Rundir

from ustconsumer.client.session import Session
from ustconsumer.client.unpack import unpack
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import ChannelOptions, Destination

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "lttng", "babeltrace2")


def text_of(path: Path) -> bytes:
    """Return what is in a metadata file, packet headers and all."""
    return path.read_bytes() if path.exists() else b""


def spoilt(output: Path, regenerate: Callable[[], object]) -> None:
    """Spoil the metadata of a trace that grows, and have it written anew.

    The clock itself cannot be set: other tests run.
    """
    (path,) = output.rglob("metadata*")
    whole = text_of(path)
    assert len(whole) >= 4096
    with open(path, "r+b") as file:
        file.write(b"spoilt, from its beginning on")
    regenerate()


def started(session: Session, rundir: Rundir, apps: Apps) -> None:
    session.enable_event("flood:*")
    session.start()
    assert rundir.run([apps.flood, "100"]).returncode == 0


def events(output: Path) -> int:
    return len(babeltrace2_text(output).lines)


def test_lttng_writes_metadata_anew(apps: Apps) -> None:
    with lttng_sessiond() as lttng:
        output = lttng.rundir.home / "trace"
        lttng("create", "s", "-o", output)
        lttng("enable-event", "--userspace", "flood:*")
        lttng("start")
        assert lttng.rundir.run([apps.flood, "100"]).returncode == 0
        # All of it: what comes later LTTng would write behind what was spoilt.
        until(lambda: b"flood:tick" in b"".join(map(text_of, output.rglob("metadata"))), "metadata")
        lttng("stop")
        lttng("start")
        spoilt(output, lambda: lttng("regenerate", "metadata"))
        assert lttng.rundir.run([apps.flood, "10"]).returncode == 0
        lttng("destroy")
        assert events(output) == 110


@pytest.mark.parametrize("zstd", [0, 1])
def test_metadata_on_disk(rundir: Rundir, apps: Apps, zstd: int) -> None:
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = registry.client.create("s", output, destination=Destination(zstd=zstd))

        def regenerate() -> None:
            result = rundir.drtrace("--rundir", rundir.path, "regenerate", "metadata", "-s", "s")
            said = "Metadata successfully regenerated for session s\n"
            assert (result.returncode, result.stdout) == (0, said)

        started(session, rundir, apps)
        if zstd:
            regenerate()
        else:
            spoilt(output, regenerate)
        assert rundir.run([apps.flood, "10"]).returncode == 0
        session.destroy()
    if zstd:
        unpack(output, rundir.home / "plain")
        output = rundir.home / "plain"
    assert events(output) == 110


@pytest.mark.parametrize("kind", ["lttng", "ours"])
def test_metadata_at_a_relay(rundir: Rundir, apps: Apps, kind: str, tmp_path: Path) -> None:
    with relayd(kind, tmp_path / "relay") as relay, running_registry(rundir) as registry:
        session = registry.client.create("s", "", destination=Destination(url=relay.url))
        # Packets, and so metadata, arrive while it records.
        session.enable_channel("c", ChannelOptions(switch_timer_us=10_000))
        started(session, rundir, apps)
        until(lambda: any(map(text_of, relay.output.rglob("metadata"))), "metadata")
        spoilt(relay.output, session.regenerate_metadata)
        assert rundir.run([apps.flood, "10"]).returncode == 0
        session.destroy()
        assert events(relay.output) == 110


def test_what_is_refused(rundir: Rundir) -> None:
    with running_registry(rundir) as registry:
        session = registry.client.create("s", rundir.home / "trace")
        session.enable_channel("c", ChannelOptions(buffers="pid", subbuf_size=4096))
        for regenerate in (session.regenerate_metadata, session.regenerate_statedump):
            with pytest.raises(CommandError, match="s is not started"):
                regenerate()
        session.start()
        with pytest.raises(CommandError, match="per process"):
            session.regenerate_metadata()
        assert session.regenerate_statedump() == []
        live = Destination(url="net://127.0.0.1:9", live_us=1000000)
        other = registry.client.create("other", "", destination=live)
        with pytest.raises(CommandError, match="live"):
            other.regenerate_metadata()
    # As lttng: 1 without saying what, 2 for what there is not.
    assert rundir.drtrace("regenerate").returncode == 1
    assert rundir.drtrace("regenerate", "it").returncode == 2
