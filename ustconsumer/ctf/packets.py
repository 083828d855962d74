# SPDX-License-Identifier: MIT
"""Metadata packets: the text of a trace's metadata, cut into packets as LTTng does."""

from __future__ import annotations

import re

from ustconsumer.abi.packet import METADATA_MAGIC, METADATA_PACKET
from ustconsumer.errors import DecodeError

__all__ = ["PACKET_SIZE", "MetadataPacketWriter", "begins", "metadata_text"]

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


#: What metadata without packets begins with.
_SIGNATURE = re.compile(rb"/\*\s*CTF\s+1\.8\s*\*/")


def begins(text: bytes | bytearray) -> bool:
    """Return whether a text is the beginning of a trace's metadata, not more of it."""
    return bool(_SIGNATURE.match(text))


def metadata_text(raw: bytes) -> bytes:
    """Return the text of a metadata file: of its packets, or the file as it is.

    Raises
    ------
    DecodeError
        Neither packets of LTTng for this byte order nor text, or a packet that is cut
        off or says something impossible.
    """
    if _SIGNATURE.match(raw):
        return raw
    if raw[:1] == b"\x1e":
        raise DecodeError("metadata of CTF 2 is not read, only of CTF 1.8")
    parts = []
    at = number = 0
    uuid = b""
    while at < len(raw):
        where = f"metadata packet {number} at byte {at}"
        if len(raw) - at < METADATA_PACKET.size:
            raise DecodeError(f"{where}: header cut off")
        header = METADATA_PACKET.get_all(raw, at)
        if header["magic"] != METADATA_MAGIC:
            raise DecodeError(f"{where}: magic is {header['magic']:#x}, not {METADATA_MAGIC:#x}")
        if (header["major"], header["minor"]) != (_CTF_MAJOR, _CTF_MINOR):
            raise DecodeError(f"{where}: CTF {header['major']}.{header['minor']}, not 1.8")
        if any(header[name] for name in _SCHEMES):
            raise DecodeError(f"{where}: compressed, encrypted or with a checksum")
        if uuid not in (b"", header["uuid"]):
            raise DecodeError(f"{where}: of another trace than the packets before it")
        uuid = header["uuid"]
        content, size = header["content_size"] // 8, header["packet_size"] // 8
        if not METADATA_PACKET.size <= content <= size <= len(raw) - at:
            left = len(raw) - at
            raise DecodeError(f"{where}: content of {content}, packet of {size}, file {left} bytes")
        parts.append(raw[at + METADATA_PACKET.size : at + content])
        at += size
        number += 1
    return b"".join(parts)


_SCHEMES = ("compression_scheme", "encryption_scheme", "checksum_scheme")
