# SPDX-License-Identifier: MIT
"""Files of buffers with random damage: a clear error or a readable trace, of their bytes only."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from helpers.crashes import PLACE, CrashedStream

from ustconsumer.abi.packet import DATA_PACKET
from ustconsumer.ctf.reading import Trace
from ustconsumer.errors import UsageError
from ustconsumer.recover import recover
from ustconsumer.ringbuffer.geometry import Geometry

#: Bytes of the crash block: with every flip there the file is refused.
CRASH = 124


def _damage(image: bytearray, geometry: Geometry, choose: random.Random) -> None:
    """Flip bits: anywhere, in the tables, in headers of packets; or write over a part."""
    tables = [(0, geometry.data), (geometry.pages, len(image))]
    headers = [
        (geometry.data_at(page), geometry.data_at(page) + geometry.header_size)
        for page in range(geometry.nr_pages)
    ]
    places = [(0, len(image)), (CRASH, len(image)), *tables, *headers]
    for _ in range(choose.choice((1, 1, 2, 5, 50))):
        first, end = choose.choice(places)
        at = choose.randrange(first, end)
        kind = choose.randrange(6)
        if kind < 4:
            image[at] ^= 1 << choose.randrange(8)
        elif kind == 4:
            word = choose.choice((0, 1, (1 << 64) - 1, 1 << 63, choose.getrandbits(64)))
            raw = word.to_bytes(8, "little")[: len(image) - at]
            image[at : at + len(raw)] = raw
        else:
            size = min(choose.randrange(1, 3000), len(image) - at)
            image[at : at + size] = choose.randbytes(size)


def _check(out: Path, image: bytes, geometry: Geometry) -> None:
    """Everything can be read, to the end, and was in a page of the file."""
    trace = Trace(out)
    for _ in trace:
        pass
    area = image[geometry.data : geometry.pages]
    for stream in trace.streams:
        raw = Path(stream.files[0].path).read_bytes()
        for packet in stream.packets():
            begin = packet.offset + DATA_PACKET.size
            content = raw[begin : packet.offset + packet.content_size]
            rest = raw[packet.offset + packet.content_size : packet.offset + packet.packet_size]
            assert content in area
            assert not any(rest)


@pytest.mark.parametrize("overwrite", [False, True], ids=["discard", "overwrite"])
@pytest.mark.repeat(ci=300, soak=30_000)
def test_damaged_buffers(tmp_path: Path, overwrite: bool, repeat: int) -> None:
    choose = random.Random(f"recover {overwrite}")  # noqa: S311 (the same each time)
    stream = CrashedStream(tmp_path / "shm" / PLACE, overwrite=overwrite)
    stream.write(150 if overwrite else 120)
    held = stream.ring.get_next()
    assert held
    stream.writer.reserve(0, stream.payload(999), stream.time + 10)
    stream.write(20)
    whole = stream.memory[:]
    geometry, path = stream.geometry, stream.save()
    undamaged = recover(tmp_path / "shm", tmp_path / "whole").events
    readable = 0
    for _ in range(repeat):
        image = bytearray(whole)
        _damage(image, geometry, choose)
        path.write_bytes(image)
        with tempfile.TemporaryDirectory(dir=tmp_path) as directory:
            out = Path(directory) / "out"
            try:
                done = recover(tmp_path / "shm", out)
            except UsageError:
                assert not out.exists()
                continue
            # Fewer, or, where a bit said that less was committed or written, more.
            assert done.events <= undamaged + 40
            if done.streams:
                readable += 1
                _check(out, bytes(image), geometry)
    assert readable > repeat // 3
    stream.close()


@pytest.mark.repeat(ci=150, soak=10_000)
def test_damaged_metadata(tmp_path: Path, repeat: int) -> None:
    choose = random.Random("metadata")  # noqa: S311 (the same each time)
    stream = CrashedStream(tmp_path / "shm" / PLACE)
    stream.write(60)
    metadata = stream.save().with_name("metadata")
    whole = metadata.read_bytes()
    for number in range(repeat):
        text = bytearray(whole)
        for _ in range(choose.choice((1, 1, 3))):
            at = choose.randrange(len(text))
            kind = choose.randrange(3)
            if kind == 0:
                text[at] ^= 1 << choose.randrange(8)
            elif kind == 1:
                del text[at : at + choose.choice((1, 10, 100))]
            else:
                del text[at:]
                break
        metadata.write_bytes(text)
        out = tmp_path / f"out{number}"
        try:
            done = recover(tmp_path / "shm", out)
        except UsageError:
            continue
        if done.streams:
            assert sum(1 for _ in Trace(out)) == done.events
    stream.close()
