# SPDX-License-Identifier: MIT
"""Metadata packets: the text of a trace's metadata, cut into packets as LTTng does."""

from __future__ import annotations

from ustconsumer.abi.packet import METADATA_MAGIC, METADATA_PACKET

__all__ = ["PACKET_SIZE", "MetadataPacketWriter"]

#: Bytes of every packet on disk, header and padding included.
PACKET_SIZE = 4096
_CTF_MAJOR, _CTF_MINOR = 1, 8


class MetadataPacketWriter:
    """Cut metadata text into packets.

    Parameters
    ----------
    uuid : bytes, length 16
        Of the trace.
    """

    def __init__(self, uuid: bytes) -> None:
        self._uuid = uuid

    def append(self, text: bytes) -> bytes:
        """Return whole packets that carry the text; the last one is padded.

        Text may be cut at any byte: readers put the packets' texts together first.
        """
        room = PACKET_SIZE - METADATA_PACKET.size
        packets = []
        for at in range(0, len(text), room):
            part = text[at : at + room]
            header = METADATA_PACKET.pack(
                {
                    "magic": METADATA_MAGIC,
                    "uuid": self._uuid,
                    "content_size": (METADATA_PACKET.size + len(part)) * 8,
                    "packet_size": PACKET_SIZE * 8,
                    "major": _CTF_MAJOR,
                    "minor": _CTF_MINOR,
                }
            )
            packets.append((header + part).ljust(PACKET_SIZE, b"\0"))
        return b"".join(packets)
