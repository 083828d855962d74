# SPDX-License-Identifier: MIT
from __future__ import annotations

import struct

import pytest
from helpers import captured

from ustconsumer.ctf.packets import PACKET_SIZE, MetadataPacketWriter

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
