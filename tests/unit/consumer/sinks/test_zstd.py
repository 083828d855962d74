# SPDX-License-Identifier: MIT
from __future__ import annotations

import subprocess
from pathlib import Path

from helpers.rings import TestRing, make_ring

from ustconsumer.consumer.mapping import MappedStream
from ustconsumer.consumer.sinks.disk import DiskSink
from ustconsumer.consumer.sinks.zstd import ZstdSink
from ustconsumer.consumer.streams import Outlet

DIRECTORY = Path("ust/uid/1/64-bit")
FILES = ("channel0_1", "index/channel0_1.idx", "metadata")
TEXT = b"/* CTF 1.8 */\n"


def move(sink: DiskSink, made: TestRing) -> Outlet:
    """Move what is there to a writer of the sink, as a consumer does; return it open."""
    outlet = Outlet(MappedStream(made.stream, made.memory, made.ring))
    outlet.use(sink.open(made.stream))
    outlet.move(1 << 30)
    return outlet


def write(sink: DiskSink, made: TestRing) -> None:
    move(sink, made).close()


def restored(path: Path) -> bytes:
    """Return what zstd's own program makes of a file."""
    return subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout


def both(tmp_path: Path, packets: int, **geometry: int) -> tuple[Path, Path]:
    """Write the same packets with both sinks; return the traces' directories."""
    for name in ("plain", "packed"):
        sink = DiskSink(tmp_path / name) if name == "plain" else ZstdSink(tmp_path / name, 3)
        with make_ring(**geometry) as made:
            for number in range(packets):
                made.packet(2000 + number)
                write(sink, made)
                sink.metadata(made.stream.trace, TEXT + b"text %d;\n" % number * 500)
        sink.close()
    return tmp_path / "plain" / DIRECTORY, tmp_path / "packed" / DIRECTORY


def test_zstd_restores_what_the_plain_sink_writes(tmp_path: Path) -> None:
    plain, packed = both(tmp_path, 5)
    for name in FILES:
        assert restored(packed / f"{name}.zst") == (plain / name).read_bytes(), name
        subprocess.run(["zstd", "-tq", packed / f"{name}.zst"], check=True)
    assert (plain / FILES[0]).stat().st_size == 5 * 4096
    names = sorted(str(p.relative_to(packed)) for p in packed.rglob("*") if p.is_file())
    assert names == sorted(f"{name}.zst" for name in FILES)
