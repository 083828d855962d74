# SPDX-License-Identifier: MIT
"""Packet headers as the tracer writes them, and LTTng's packet index.

Only x86-64 (packed, little endian) so far. CTF packet header and packet context are
one block of bytes in the ring buffer, hence one structure here.
"""

from __future__ import annotations

from ustconsumer.abi.rows import Layout, Row

__all__ = [
    "CTF_MAGIC",
    "DATA_PACKET",
    "INDEX_ENTRY",
    "INDEX_HEADER",
    "INDEX_MAGIC",
    "INDEX_MAJOR",
    "INDEX_MINOR",
    "METADATA_MAGIC",
    "METADATA_PACKET",
    "UNKNOWN_SIZE",
    "index_entry_size",
    "index_header",
]

CTF_MAGIC = 0xC1FC1FC1
METADATA_MAGIC = 0x75D11D57
INDEX_MAGIC = 0xC1F1DCC1
INDEX_MAJOR = 1
INDEX_MINOR = 1
#: Content and packet size of a packet that is still open.
UNKNOWN_SIZE = (1 << 64) - 1

_CLIENT = "lttng-ust de624c20 (v2.13.5) src/common/ringbuffer-clients/template.h"

#: Header and context of a data packet. Sizes in bits, times in clock cycles.
DATA_PACKET = Layout(
    "data packet header",
    84,  # header_end; sizeof(struct packet_header) is larger
    1,
    _CLIENT,
    [
        Row("magic", "<u4", 0, "packet_header.magic"),
        Row("uuid", "V16", 4, "packet_header.uuid"),
        Row("stream_id", "<u4", 20, "packet_header.stream_id"),
        Row("stream_instance_id", "<u8", 24, "packet_header.stream_instance_id"),
        Row("timestamp_begin", "<u8", 32, "packet_header.ctx.timestamp_begin"),
        Row("timestamp_end", "<u8", 40, "packet_header.ctx.timestamp_end"),
        Row("content_size", "<u8", 48, "packet_header.ctx.content_size"),
        Row("packet_size", "<u8", 56, "packet_header.ctx.packet_size"),
        Row("packet_seq_num", "<u8", 64, "packet_header.ctx.packet_seq_num"),
        Row("events_discarded", "<u8", 72, "packet_header.ctx.events_discarded"),
        Row("cpu_id", "<u4", 80, "packet_header.ctx.cpu_id"),
    ],
)

#: Header of a metadata packet. Sizes in bits.
METADATA_PACKET = Layout(
    "metadata packet header",
    37,
    1,
    "lttng-ust de624c20 (v2.13.5) src/common/ringbuffer-clients/metadata-template.h",
    [
        Row("magic", "<u4", 0, "metadata_packet_header.magic"),
        Row("uuid", "V16", 4, "metadata_packet_header.uuid"),
        Row("checksum", "<u4", 20, "metadata_packet_header.checksum"),
        Row("content_size", "<u4", 24, "metadata_packet_header.content_size"),
        Row("packet_size", "<u4", 28, "metadata_packet_header.packet_size"),
        Row("compression_scheme", "u1", 32, "metadata_packet_header.compression_scheme"),
        Row("encryption_scheme", "u1", 33, "metadata_packet_header.encryption_scheme"),
        Row("checksum_scheme", "u1", 34, "metadata_packet_header.checksum_scheme"),
        Row("major", "u1", 35, "metadata_packet_header.major"),
        Row("minor", "u1", 36, "metadata_packet_header.minor"),
    ],
)

_INDEX = "lttng-tools 2ff03857 (v2.13.9) src/common/index/ctf-index.h"

#: Header of an index file, all big endian.
INDEX_HEADER = Layout(
    "index header",
    16,
    1,
    _INDEX,
    [
        Row("magic", ">u4", 0, "ctf_packet_index_file_hdr.magic"),
        Row("major", ">u4", 4, "ctf_packet_index_file_hdr.index_major"),
        Row("minor", ">u4", 8, "ctf_packet_index_file_hdr.index_minor"),
        Row("entry_size", ">u4", 12, "ctf_packet_index_file_hdr.packet_index_len"),
    ],
)

#: Index entry of version 1.1, one per packet. Offset in bytes, sizes in bits.
INDEX_ENTRY = Layout(
    "index entry",
    72,
    1,
    _INDEX,
    [
        Row("offset", ">u8", 0, "ctf_packet_index.offset"),
        Row("packet_size", ">u8", 8, "ctf_packet_index.packet_size"),
        Row("content_size", ">u8", 16, "ctf_packet_index.content_size"),
        Row("timestamp_begin", ">u8", 24, "ctf_packet_index.timestamp_begin"),
        Row("timestamp_end", ">u8", 32, "ctf_packet_index.timestamp_end"),
        Row("events_discarded", ">u8", 40, "ctf_packet_index.events_discarded"),
        Row("stream_id", ">u8", 48, "ctf_packet_index.stream_id"),
        Row("stream_instance_id", ">u8", 56, "ctf_packet_index.stream_instance_id"),
        Row("packet_seq_num", ">u8", 64, "ctf_packet_index.packet_seq_num"),
    ],
)


def index_entry_size(minor: int = INDEX_MINOR) -> int:
    """Return the bytes of an entry: those of version 1.0 end before the stream's instance."""
    return INDEX_ENTRY.size if minor else INDEX_ENTRY.offset("stream_instance_id")


def index_header(minor: int = INDEX_MINOR) -> bytes:
    """Return what an index file of this version begins with."""
    return INDEX_HEADER.pack(
        {
            "magic": INDEX_MAGIC,
            "major": INDEX_MAJOR,
            "minor": minor,
            "entry_size": index_entry_size(minor),
        }
    )
