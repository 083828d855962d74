# SPDX-License-Identifier: MIT
from __future__ import annotations

import struct

import pytest
from helpers import captured

from ustconsumer.ctf.packets import PACKET_SIZE, MetadataPacketWriter, metadata_text
from ustconsumer.errors import DecodeError

HEADER = 37


def test_first_packet_is_lttngs() -> None:
    """lttng-consumerd fills the first packet too; later ones end where the daemon flushed."""
    theirs = (captured.FIXTURES / "metadata").read_bytes()
    ours = MetadataPacketWriter(theirs[4:20]).append(captured.metadata().encode())
    assert ours[:PACKET_SIZE] == theirs[:PACKET_SIZE]


@pytest.mark.parametrize("length", [0, 1, 4058, 4059, 4060, 3 * 4059])
def test_lengths(length: int) -> None:
    text = bytes(1 + at % 255 for at in range(length))
    packets = MetadataPacketWriter(bytes(16)).append(text)
    # 4059 bytes of text in each packet of 4096.
    assert len(packets) == 4096 * -(-length // 4059)
    read = b""
    for at in range(0, len(packets), 4096):
        content, size = struct.unpack_from("<II", packets, at + 24)
        assert size == 8 * 4096
        end = at + content // 8
        read += packets[at + HEADER : end]
        assert not any(packets[end : at + 4096])
    assert read == text


def made(text: bytes, size: int, **other: int) -> bytes:
    """Return a metadata packet of any size, with a header that may say something else."""
    values = {"magic": 0x75D11D57, "checksum": 0, "content": 8 * (HEADER + len(text))}
    values |= {"packet": 8 * size, "compression": 0, "encryption": 0, "scheme": 0}
    values |= {"major": 1, "minor": 8, "uuid": 7, **other}
    header = struct.pack(
        "<I16sIIIBBBBB",
        values["magic"],
        bytes([values["uuid"]] * 16),
        *(values[name] for name in ("checksum", "content", "packet")),
        *(values[name] for name in ("compression", "encryption", "scheme", "major", "minor")),
    )
    return (header + text).ljust(size, b"\0")


def test_text_of_packets() -> None:
    theirs = (captured.FIXTURES / "metadata").read_bytes()
    assert metadata_text(theirs).decode() == captured.metadata()
    # Of any size, the last without padding.
    assert metadata_text(made(b"ab", 100) + made(b"", 40) + made(b"c", 38)) == b"abc"
    assert metadata_text(b"/* CTF 1.8 */ text") == b"/* CTF 1.8 */ text"
    assert metadata_text(b"") == b""


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (made(b"", 37)[:36], "metadata packet 0 at byte 0: header cut off"),
        (made(b"", 50) + b"\0", "metadata packet 1 at byte 50: header cut off"),
        (made(b"a", 50)[:-1], "packet 0 at byte 0: content of 38, packet of 50, file 49 bytes"),
        (made(b"a", 50, content=8 * 51), "content of 51, packet of 50"),
        (made(b"a", 50, content=8 * 36), "content of 36, packet of 50"),
        (made(b"a", 50, packet=0), "content of 38, packet of 0"),
        (made(b"a", 50, magic=0x571DD175), "magic is 0x571dd175, not 0x75d11d57"),
        (made(b"a", 50, major=2, minor=0), r"CTF 2\.0, not 1\.8"),
        (made(b"a", 50, compression=1), "compressed, encrypted or with a checksum"),
        (made(b"a", 50) + made(b"a", 50, uuid=8), "packet 1 at byte 50: of another trace"),
        (b"\x1e{}", "metadata of CTF 2 is not read"),
        (b"\n/* CTF 1.8 */" + bytes(40), "magic"),
    ],
)
def test_packets_that_make_no_sense(raw: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        metadata_text(raw)
