# SPDX-License-Identifier: MIT
"""What producers and viewers say to a relay, to be damaged."""

from __future__ import annotations

import random
import struct

from helpers.relaypeer import Packet, index_of, packet_of

from ustconsumer.protocol import relay, viewer
from ustconsumer.protocol.relay import (
    NO_SEQUENCE,
    AddStream,
    CloseChunk,
    Command,
    CreateChunk,
    CreateSession,
    Index,
    Rotate,
)

__all__ = ["dialogue", "packets_and_words", "viewing"]

_MINORS = (0, 1, 3, 4, 8, 10, 11, 12, 13, 13, 13, 15, 99)
_PATH = "ust/uid/7/64-bit"


def dialogue(choose: random.Random, guess: int, number: int) -> list[bytes]:
    """Return what a producer says, from its version to its end.

    Parameters
    ----------
    guess : int
        Handle of its first stream: nobody has told it.
    number : int
        Of the case: names of its own.
    """
    minor = choose.choice(_MINORS)
    spoken = min(minor, 13)
    resumes = choose.random() < 0.2
    packet = packet_of(number % 1000)
    script = [
        relay.request(Command.VERSION, struct.pack(">II", 2, minor)),
        relay.request(Command.GET_CONFIGURATION, bytes(8)),
    ]
    if resumes:
        script.append(relay.request(Command.RESUME))
    uuid = (number if choose.random() < 0.9 else 1).to_bytes(16, "big")
    script.append(
        relay.create_session(
            spoken,
            CreateSession(
                name=f"n{number % 50}",
                host="fuzz",
                live_us=choose.choice((0, 1_000_000)),
                snapshot=choose.random() < 0.2,
                base_path=choose.choice(("", "", "base/path")),
                uuid=uuid,
                created=1_700_000_000 + number,
            ),
        )
    )
    script.append(relay.create_chunk(CreateChunk(0, 1, choose.choice(("", "chunk")))))
    for name, size in (("c_0", 0), ("c_1", 8192), ("metadata", 0)):
        path = _PATH if spoken >= 11 else f"/fuzz/n{number}/{_PATH}"
        stream = AddStream(
            name=name,
            path=path,
            tracefile_size=size,
            tracefile_count=choose.choice((0, 3)),
            uuid=uuid if resumes else b"",
        )
        script.append(relay.add_stream(spoken, stream))
    # After the answers the handles would be known: of a few thousand numbers some are right.
    script += [
        relay.request(Command.STREAMS_SENT),
        relay.send_metadata(guess, b"/* CTF 1.8 */", 100),
        relay.index(spoken, index_of(guess, 0, packet)),
        relay.index(spoken, Index(guess, NO_SEQUENCE, 0, 0, 0, 99, 0, 0, 0, 0)),
        relay.request(Command.RESET_METADATA, struct.pack(">QQ", guess, 1)),
        relay.create_chunk(CreateChunk(1, 2)),
        relay.rotate(Rotate(1, {guess: 1, guess + 1: 0})),
        relay.close_chunk(CloseChunk(0, 3, choose.choice((None, 0, 1, 2)))),
        relay.request(Command.TRACE_CHUNK_EXISTS, bytes(8)),
        relay.request(Command.BEGIN_DATA_PENDING, bytes(8)),
        relay.request(Command.DATA_PENDING, struct.pack(">QQ", guess, 0)),
        relay.request(Command.QUIESCENT_CONTROL, struct.pack(">Q", guess)),
        relay.request(Command.END_DATA_PENDING, bytes(8)),
        relay.request(Command.CLOSE_STREAM, struct.pack(">QQ", guess, 0)),
        relay.request(choose.choice((0, 4, 12, 23, 1 << 31)), bytes(8)),
    ]
    return script


def packets_and_words(choose: random.Random, handle: int) -> tuple[list[bytes], list[bytes]]:
    """Return three packets of a stream, and what is said of them."""
    packets = [packet_of(n, choose.choice((4, 400, 4096))) for n in range(3)]
    data = [_data(handle, n, packet) for n, packet in enumerate(packets)]
    said = [relay.index(13, index_of(handle, n, packet)) for n, packet in enumerate(packets)]
    said += [
        relay.request(Command.DATA_PENDING, struct.pack(">QQ", handle, 2)),
        relay.rotate(Rotate(0, {handle: 2})),
        relay.request(Command.CLOSE_STREAM, struct.pack(">QQ", handle, 2)),
        relay.send_metadata(handle, b"text", 92),
    ]
    return data, said


def viewing(choose: random.Random, session: int, stream: int) -> list[bytes]:
    """Return what a viewer says; the metadata is the stream behind this one."""
    number_of = struct.Struct(">Q").pack
    return [
        viewer.request(1, struct.pack(">QIII", NO_SEQUENCE, 2, 4, 1)),
        viewer.request(8),
        viewer.request(2),
        viewer.request(3, struct.pack(">QQI", session, 0, choose.choice((1, 2)))),
        viewer.request(6, number_of(stream + 1)),
        viewer.request(7, number_of(session)),
        viewer.request(4, number_of(stream)),
        viewer.request(5, struct.pack(">QQI", stream, 0, 4096)),
        viewer.request(4, number_of(stream)),
        viewer.request(5, struct.pack(">QQI", stream, 4096, choose.choice((100, 4096, 1 << 31)))),
        viewer.request(9, number_of(session)),
    ]


def _data(handle: int, net: int, packet: Packet) -> bytes:
    head = relay.DATA_HEADER.pack(0, handle, net, len(packet.content), packet.padding)
    return head + packet.content
