# SPDX-License-Identifier: MIT
"""The live viewer protocol's layouts, byte by byte as LTTng 2.13 and Babeltrace 2 have them."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol import viewer


def numbers(*values: tuple[int, int]) -> bytes:
    """Return numbers of so many bytes, big-endian."""
    return b"".join(value.to_bytes(size, "big") for value, size in values)


def test_numbers_of_the_commands() -> None:
    names = (
        "CONNECT LIST_SESSIONS ATTACH_SESSION GET_NEXT_INDEX GET_PACKET "
        "GET_METADATA GET_NEW_STREAMS CREATE_SESSION DETACH_SESSION"
    )
    assert [each.name for each in viewer.Command] == names.split()
    assert list(viewer.Command) == list(range(1, 10))


def test_a_request_has_a_header_of_16_bytes() -> None:
    assert viewer.request(4, b"12345678") == numbers((8, 8), (4, 4), (0, 4)) + b"12345678"


def test_what_viewers_ask() -> None:
    connect = numbers((2**64 - 1, 8), (2, 4), (4, 4), (1, 4))
    assert viewer.decode_connect(connect) == (2**64 - 1, 2, 4, 1)
    assert viewer.decode_attach(numbers((7, 8), (0, 8), (2, 4))) == (7, viewer.Seek.LAST)
    assert viewer.decode_get_packet(numbers((4, 8), (4096, 8), (262144, 4))) == (4, 4096, 262144)
    assert viewer.decode_number(numbers((9, 8))) == 9


@pytest.mark.parametrize(
    ("decode", "size"),
    [
        (viewer.decode_connect, 20),
        (viewer.decode_attach, 20),
        (viewer.decode_get_packet, 20),
        (viewer.decode_number, 8),
    ],
)
def test_requests_of_another_size_are_errors(decode: Callable[[bytes], object], size: int) -> None:
    decode(bytes(size))
    for wrong in (0, size - 1, size + 1):
        with pytest.raises(RemoteProtocolError):
            decode(bytes(wrong))


def test_the_answer_to_connect() -> None:
    assert viewer.connected(2) == numbers((2, 8), (2, 4), (13, 4), (0, 4))


def test_sessions_have_names_in_arrays() -> None:
    rows = [
        viewer.SessionRow(2, 1_000_000, 1, 3, "vm", "sB"),
        viewer.SessionRow(3, 0, 0, 0, "h" * 100, "é" * 200),
    ]
    raw = viewer.sessions(rows)
    assert len(raw) == 4 + 2 * 339
    assert raw[:4] == numbers((2, 4))
    first, second = raw[4:343], raw[343:]
    assert first[:20] == numbers((2, 8), (1_000_000, 4), (1, 4), (3, 4))
    assert first[20:84] == b"vm".ljust(64, b"\0")
    assert first[84:] == b"sB".ljust(255, b"\0")
    # What is too long is cut, the end stays.
    assert second[20:84] == b"h" * 63 + b"\0"
    assert second[84:] == "é".encode() * 127 + b"\0"


@pytest.mark.parametrize("encode", [viewer.streams, viewer.attached])
def test_streams(encode: Callable[..., bytes]) -> None:
    row = viewer.StreamRow(6, 2, True, "ust/uid/1004/64-bit", "metadata")
    raw = encode(1, [row])
    assert len(raw) == 8 + 4371
    assert raw[:28] == numbers((1, 4), (1, 4), (6, 8), (2, 8), (1, 4))
    assert raw[28 : 28 + 4096] == b"ust/uid/1004/64-bit".ljust(4096, b"\0")
    assert raw[28 + 4096 :] == b"metadata".ljust(255, b"\0")
    assert encode(4) == numbers((4, 4), (0, 4))


def test_an_index() -> None:
    answer = viewer.IndexAnswer(
        1,
        viewer.Flag.NEW_STREAMS,
        offset=4096,
        packet_size=32768,
        content_size=672,
        begin=935090100119,
        end=936090321411,
        discarded=5,
        class_id=1,
    )
    values = (4096, 32768, 672, 935090100119, 936090321411, 5, 1)
    assert viewer.index_answer(answer) == struct.pack(">7QII", *values, 1, 2)
    assert len(viewer.index_answer(viewer.IndexAnswer(2))) == 64


def test_packets_and_metadata_say_how_much_they_are() -> None:
    assert viewer.packet(1, b"abc") == numbers((1, 4), (3, 4), (0, 4)) + b"abc"
    assert viewer.packet(3) == numbers((3, 4), (0, 4), (0, 4))
    assert viewer.metadata(1, b"abc") == numbers((3, 8), (1, 4)) + b"abc"
    assert viewer.metadata(2) == numbers((0, 8), (2, 4))


def test_a_status() -> None:
    assert viewer.status(11) == numbers((11, 4))
