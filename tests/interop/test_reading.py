# SPDX-License-Identifier: MIT
"""The order of events and what is said of losses, in traces of any shape, beside babeltrace2."""

from __future__ import annotations

import random
import re
import shutil
import struct
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import msgspec
import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.handmade import Packet, description
from helpers.lttng import lttng_sessiond
from helpers.viewing import babeltrace2

from ustconsumer.ctf.metadata import event_block, stream_block, trace_header
from ustconsumer.ctf.reading import Loss, Trace, records
from ustconsumer.ctf.text import Lines, TextForm, TextOptions
from ustconsumer.ctf.types import Field, Integer

pytestmark = pytest.mark.peers("babeltrace2")

_WARNING = re.compile(
    r"WARNING: Tracer (?:may have )?discarded (?:(\d+) )?(event|packet)s? between \[([\d.]+)\] and "
    r"\[([\d.]+)\] in trace .* \(UUID: (\S+)\) within stream .*"
    r"\(stream class ID: (\d+), stream ID: (\d+)\)\."
)


class Lost(NamedTuple):
    what: str
    count: int | None
    begin: int
    end: int
    uuid: str
    class_id: int
    instance_id: int

    @classmethod
    def from_warning(cls, line: str) -> Lost:
        match = _WARNING.fullmatch(line)
        assert match, line
        count, what, begin, end, uuid, class_id, instance_id = match.groups()
        return cls(
            what,
            int(count) if count else None,
            *(int(time.replace(".", "")) for time in (begin, end)),
            uuid,
            int(class_id),
            int(instance_id),
        )

    @classmethod
    def from_loss(cls, loss: Loss) -> Lost:
        stream = loss.stream
        uuid = str(stream.trace.uuid)
        ids = (stream.class_id, stream.instance_id)
        return cls(loss.what, loss.count, loss.begin, loss.end, uuid, *ids)


def write(top: Path, seed: int) -> None:
    """Write traces whose streams are of nearly the same time, some in several chunks."""
    choose = random.Random(seed)  # noqa: S311 (the same for a seed)
    for number in range(choose.randint(1, 4)):
        offset = 10**9 + choose.choice((0, 0, 0, 3, 10**9))
        uuid = str(UUID(int=choose.getrandbits(128)))
        said = msgspec.structs.replace(description(uuid=uuid), clock_offset=offset)
        classes = choose.sample(range(3), choose.randint(1, 2))
        text = trace_header(said) + "".join(stream_block(class_id, ()) for class_id in classes)
        for class_id in classes:
            for event_id in range(3):
                fields = [Field("i", Integer(8, signed=False))]
                text += event_block(class_id, event_id, f"t{number}:{event_id}", 13, fields)
        places = [top / f"trace{number}"]
        if choose.random() < 0.5:
            chunks = range(choose.randint(2, 3))
            places = [top / "archives" / f"{chunk}" / f"{number}" for chunk in chunks]
        for place in places:
            place.mkdir(parents=True)
            (place / "metadata").write_bytes(text.encode())
        for class_id in classes:
            for cpu in range(choose.randint(1, 3)):
                packets = _packets(choose, class_id, cpu)
                for part, packet in enumerate(_parts(choose, packets)):
                    name = f"c{class_id}_{cpu}_{part}"
                    (places[part % len(places)] / name).write_bytes(packet)


def _packets(choose: random.Random, class_id: int, cpu: int) -> list[bytes]:
    packets = []
    now, discarded, sequence = choose.randint(0, 5), choose.choice((0, 0, 3)), choose.choice((0, 7))
    for _ in range(choose.randint(1, 8)):
        begin, content = now, b""
        for _ in range(choose.choice((0, 1, 5, 20))):
            now += choose.choice((0, 0, 0, 1, 2, 5))
            content += struct.pack("<HIB", choose.randrange(3), now, cpu)
        # Packets that begin at the same time babeltrace2 may read in another order.
        now = max(now + choose.choice((0, 0, 1)), begin + 1)
        packets.append(Packet(begin, now, content, class_id, cpu, sequence, discarded).raw())
        now += choose.choice((0, 0, 1, 3))
        sequence += choose.choice((1, 1, 1, 2, 5))
        discarded += choose.choice((0, 0, 1, 17))
    return packets


def _parts(choose: random.Random, packets: list[bytes]) -> list[bytes]:
    """Return the contents of one file or several, which may overlap as snapshots do."""
    if choose.random() < 0.4:
        return [b"".join(packets)]
    parts = []
    at = 0
    while at < len(packets):
        end = at + choose.randint(1, 4)
        before = choose.choice((0, 0, 0, 1, 2))
        parts.append(b"".join(packets[max(0, at - before) : end]))
        at = end
    choose.shuffle(parts)
    return parts


@pytest.mark.repeat(ci=25, soak=2000)
def test_as_babeltrace2(repeat: int, tmp_path: Path) -> None:
    options = TextOptions(delta=False, clock_seconds=True)
    events = losses = 0
    for seed in range(repeat):
        top = tmp_path / f"{seed}"
        write(top, seed)
        # Without the names of streams: where two files begin at the same time, babeltrace2
        # takes that of the first it meets.
        theirs = babeltrace2("--no-delta", "--clock-seconds", top)
        assert theirs.status == 0
        lost: list[Lost] = []
        found = records(
            Trace(top).traces,
            lambda _: TextForm(options),
            lambda loss: lost.append(Lost.from_loss(loss)),  # noqa: B023 (used up below)
        )
        lines = [line.encode("latin-1") for line in Lines(options, pytest.fail).lines(found)]
        assert lines == theirs.stdout.splitlines(keepends=True), seed
        warnings = theirs.stderr.decode().splitlines()
        assert lost == [Lost.from_warning(line) for line in warnings], seed
        events += len(lines)
        losses += len(lost)
        shutil.rmtree(top)
    assert events > 20 * repeat
    assert losses > 2 * repeat


@pytest.fixture(scope="module")
def rotated(apps: Apps, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory of the real LTTng: chunks, tracefiles that replace each other, snapshots."""
    kept = tmp_path_factory.mktemp("rotated") / "traces"

    def flood() -> None:
        assert lttng.rundir.run([apps.flood, "500", "2"]).returncode == 0

    with lttng_sessiond() as lttng:
        output = lttng.rundir.home / "traces"
        lttng("create", "chunks", "-o", output / "chunks")
        files = ("--tracefile-size=8192", "--tracefile-count=3")
        lttng("enable-channel", "--userspace", "--subbuf-size=4096", "whole")
        lttng("enable-channel", "--userspace", "--subbuf-size=4096", *files, "files")
        for channel in ("whole", "files"):
            lttng("enable-event", "--userspace", f"--channel={channel}", "flood:*")
        lttng("start")
        for _ in range(3):
            flood()
            lttng("rotate")
        flood()
        lttng("stop")
        lttng("destroy")
        lttng("create", "shots", "--snapshot", "-o", output / "shots")
        lttng("enable-channel", "--userspace", "--subbuf-size=4096", "--num-subbuf=8", "ring")
        lttng("enable-event", "--userspace", "--channel=ring", "flood:*")
        lttng("start")
        for _ in range(2):
            flood()
            # The second time, of the same buffers.
            lttng("snapshot", "record")
            lttng("snapshot", "record")
        lttng("destroy")
        shutil.copytree(output, kept)
    return kept


@pytest.mark.xdist_group("rotated")
@pytest.mark.peers("lttng", "lttng-sessiond", "gcc", "lttng-ust-headers")
@pytest.mark.parametrize(("name", "directories"), [("chunks", 4), ("shots", 4), (".", 8)])
def test_chunks_tracefiles_snapshots(rotated: Path, name: str, directories: int) -> None:
    top = rotated / name
    traces = Trace(top).traces
    # Chunks and snapshots are of one trace.
    assert len(traces) == (2 if name == "." else 1)
    assert sum(len(trace.directories) for trace in traces) == directories
    reading = babeltrace2_text(top)
    assert len(reading.lines) == sum(1 for _ in Trace(top))
    assert len(reading.lines) > 500
