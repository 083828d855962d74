# SPDX-License-Identifier: MIT
"""What a relay stores compressed: read back, cut, continued; zstd's own program restores it."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.handmade import UUID, Packet

from ustconsumer.errors import RemoteProtocolError
from ustconsumer.relay.names import Directory
from ustconsumer.relay.packed import PackedMetadata, PackedPackets, ZstdStores
from ustconsumer.relay.views import Entry

pytestmark = pytest.mark.peers("zstd")

TRACE = bytes.fromhex(UUID.replace("-", ""))
INDEX = struct.Struct(">9Q")


@pytest.fixture
def chunk(tmp_path: Path) -> Iterator[Directory]:
    directory = Directory.at(tmp_path)
    yield directory
    directory.close()


def restored(path: Path) -> bytes:
    return subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout


def packet(number: int) -> bytes:
    return Packet(number, number + 1, bytes([number]) * 3000 * (number % 3), sequence=number).raw()


def entry(number: int, offset: int) -> Entry:
    size = len(packet(number)) * 8
    return Entry(offset, size, size - 8, number, number + 1, 0, 0, 0, number)


def store(packets: PackedPackets, *numbers: int) -> None:
    """Take packets as a relay does: in parts, the padding apart."""
    for number in numbers:
        raw = packet(number)
        offset = packets.begin(len(raw))
        packets.write(raw[:100])
        packets.write(raw[100:-7])
        assert not any(raw[-7:])
        packets.finish(7)
        packets.index(entry(number, offset))


def opened(chunk: Directory, uuid: bytes = b"", minor: int = 11) -> PackedPackets:
    return ZstdStores(3).packets(chunk, ("ust",), "chan_0", indexed=True, minor=minor, uuid=uuid)


def check(tmp_path: Path, count: int, entry_size: int = 72) -> None:
    data, index = tmp_path / "ust/chan_0.zst", tmp_path / "ust/index/chan_0.idx.zst"
    plain = b"".join(map(packet, range(count)))
    assert restored(data) == plain
    raw = restored(index)
    # magic, major, minor, size of an entry
    assert struct.unpack(">4I", raw[:16]) == (0xC1F1DCC1, 1, int(entry_size == 72), entry_size)
    assert len(raw) == 16 + count * entry_size
    offset = 0
    for number in range(count):
        wanted = INDEX.pack(*entry(number, offset))[:entry_size]
        assert raw[16 + number * entry_size :][:entry_size] == wanted
        offset += len(packet(number))
    assert data.read_bytes()[-4:] == bytes.fromhex("b1ea928f")


@pytest.mark.parametrize(("minor", "entry_size"), [(11, 72), (7, 56)])
def test_packets(chunk: Directory, tmp_path: Path, minor: int, entry_size: int) -> None:
    packets = opened(chunk, minor=minor)
    assert packets.last() is None
    store(packets, *range(5))
    plain = b"".join(map(packet, range(5)))
    assert (packets.count, packets.size) == (5, len(plain))
    for at, size in ((0, 84), (100, 9000), (len(plain) - 5, 100), (0, len(plain)), (len(plain), 1)):
        assert packets.read(at, size) == plain[at : at + size]
    assert packets.entry(3)[:6] == entry(3, plain.index(packet(3)))[:6]
    packets.close()
    # There for viewers, not for another packet.
    check(tmp_path, 5, entry_size)


def test_what_has_no_index_is_cut_and_comes_again(chunk: Directory, tmp_path: Path) -> None:
    packets = opened(chunk)
    store(packets, 0, 1)
    for number in (2, 3):
        packets.begin(len(packet(number)))
        packets.write(packet(number))
        packets.finish(0)
    packets.begin(4096)
    packets.write(b"half")
    packets.cut()
    packets.begin(4096)
    packets.write(b"another half")
    packets.abort()
    assert packets.size == len(packet(0) + packet(1))
    store(packets, 2)
    packets.close()
    check(tmp_path, 3)


@pytest.mark.parametrize("clean", [True, False])
def test_files_that_are_there_are_continued(chunk: Directory, tmp_path: Path, clean: bool) -> None:
    """After a clean end, and as a relay leaves them that is killed in the middle of a packet."""
    first = opened(chunk)
    store(first, 0, 1)
    if clean:
        first.close()
    else:
        first.begin(100)
        first.write(b"x" * 100)
        first.finish(0)
        with open(tmp_path / "ust/index/chan_0.idx.zst", "ab") as file:
            file.write(b"torn")
    second = opened(chunk, TRACE)
    last = second.last()
    assert last is not None
    assert (last.sequence, second.count, second.size) == (1, 2, len(packet(0) + packet(1)))
    store(second, 2, 3)
    second.close()
    check(tmp_path, 4)


def test_what_is_of_others_is_left_alone(chunk: Directory, tmp_path: Path) -> None:
    packets = opened(chunk)
    store(packets, 0)
    packets.close()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.zst")}
    with pytest.raises(FileExistsError):
        opened(chunk)
    with pytest.raises(RemoteProtocolError, match="another trace"):
        opened(chunk, bytes(16))
    (index,) = tmp_path.rglob("*.idx.zst")
    assert {path: path.read_bytes() for path in before} == before
    index.write_bytes(b"no index, but long enough to be one, and more")
    with pytest.raises(RemoteProtocolError, match="not one of ours"):
        opened(chunk, TRACE)
    assert {path: path.read_bytes() for path in before if path != index} == {
        path: raw for path, raw in before.items() if path != index
    }


def test_without_an_index(chunk: Directory, tmp_path: Path) -> None:
    packets = ZstdStores(1).packets(chunk, ("snap",), "chan_0", indexed=False, minor=11)
    offset = packets.begin(4096)
    packets.write(packet(0))
    packets.finish(0)
    assert packets.read(offset, 4096) == packet(0)
    packets.close()
    assert restored(tmp_path / "snap" / "chan_0.zst") == packet(0)
    assert not (tmp_path / "snap" / "index").exists()


def metadata(chunk: Directory, *, resume: bool = False) -> PackedMetadata:
    return ZstdStores(3).metadata(chunk, ("ust",), resume=resume)


def test_metadata(chunk: Directory, tmp_path: Path) -> None:
    path = tmp_path / "ust" / "metadata.zst"
    file = metadata(chunk)
    file.write(b"one;" * 2000, 0)
    file.write(b"two;", 8000)
    # At once, while it is open.
    assert restored(path) == b"one;" * 2000 + b"two;"
    assert file.read(7996, 100) == b"one;two;"
    # A part that came again, shorter; and one in the middle of another.
    file.write(b"2;", 8000)
    assert restored(path) == b"one;" * 2000 + b"2;"
    file.cut(4002)
    assert (file.size(), restored(path)) == (4002, b"one;" * 1000 + b"on")
    file.write(b"e;", 4002)
    file.close()
    assert restored(path) == b"one;" * 1001
    with open(path, "ab") as torn:
        torn.write(path.read_bytes()[:20])
    again = metadata(chunk, resume=True)
    assert again.read(0, 10_000) == b"one;" * 1001
    again.cut(0)
    again.write(b"new", 0)
    again.close()
    assert restored(path) == b"new"


def test_metadata_of_others_is_left_alone(chunk: Directory, tmp_path: Path) -> None:
    path = tmp_path / "ust" / "metadata.zst"
    metadata(chunk).close()
    with pytest.raises(FileExistsError):
        metadata(chunk)
    path.write_bytes(b"a letter to a friend")
    with pytest.raises(RemoteProtocolError, match="no zstd frame"):
        metadata(chunk, resume=True)
    assert path.read_bytes() == b"a letter to a friend"


def test_files_are_closed(chunk: Directory) -> None:
    before = os.listdir("/proc/self/fd")
    packets, file = opened(chunk), metadata(chunk)
    store(packets, 0)
    packets.close()
    file.close()
    # A relay forgets late: nothing happens to whoever has the descriptor now.
    packets.cut()
    file.cut(0)
    packets.close()
    assert os.listdir("/proc/self/fd") == before
