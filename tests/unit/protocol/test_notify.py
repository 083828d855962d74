# SPDX-License-Identifier: MIT
"""Requests of the notify socket: a real program's, and everything that is none."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from helpers import captured
from hypothesis import given
from hypothesis import strategies as st

from ustconsumer.ctf.types import (
    Array,
    EnumEntry,
    Enumeration,
    Field,
    FloatingPoint,
    Integer,
    Sequence,
    String,
)
from ustconsumer.errors import LocalProtocolError, RemoteProtocolError
from ustconsumer.protocol.application import (
    ChannelRequest,
    EnumRequest,
    EventRequest,
    NotifyDecoder,
    Request,
    channel_reply,
    enum_reply,
    event_reply,
)

WIRE = b"".join(captured.notify_messages())


def requests() -> list[Request]:
    return [item.request for item in captured.answered()]


def event_of(name: str) -> EventRequest:
    (request,) = (
        r for r in requests() if isinstance(r, EventRequest) and (r.name, r.channel) == (name, 6)
    )
    return request


def test_answers_are_those_of_lttng_sessiond() -> None:
    for request, answer, number in captured.answered():
        if isinstance(request, EventRequest):
            assert event_reply(0, number) == answer
        elif isinstance(request, ChannelRequest):
            assert channel_reply(0, number) == answer
        else:
            assert enum_reply(0, number) == answer


def test_requests_are_what_the_program_declares() -> None:
    """Against tests/apps/fields_tp.h."""
    shape = (Field("width", Integer(32, signed=True)), Field("name", String()))
    assert event_of("fields:square") == EventRequest(
        session=3,
        channel=6,
        name="fields:square",
        loglevel=5,
        signature="int, width, const char *, name",
        fields=shape,
        model_emf_uri="http://example.com/model?shape=square",
    )
    assert event_of("fields:emerg").loglevel == 0
    assert event_of("fields:empty").fields == ()
    assert event_of("fields:reals").fields == (
        Field("f32", FloatingPoint(8, 24)),
        Field("f64", FloatingPoint(11, 53)),
    )
    hexadecimal = event_of("fields:hex").fields[0]
    assert hexadecimal == Field("s8", Integer(8, signed=True, base=16))
    network = event_of("fields:network").fields[3]
    assert network == Field("u16", Integer(16, signed=False, reverse_byte_order=True))
    letter = Integer(8, signed=True, encoding="UTF8")
    assert event_of("fields:arrays").fields[-1] == Field("letters", Array(letter, 6))
    assert event_of("fields:sequences").fields[-2:] == (
        Field("_text64_length", Integer(64, signed=False)),
        Field("text64", Sequence(letter, "_text64_length")),
    )
    enums = {r.name: r.entries for r in requests() if isinstance(r, EnumRequest)}
    assert enums["fields_automatic"] == (
        EnumEntry("A", 0, 0, automatic=True),
        EnumEntry("B", 0, 0, automatic=True),
        EnumEntry("J", 10, 10),
        EnumEntry("K", 0, 0, automatic=True),
        EnumEntry("R", 20, 29),
        EnumEntry("S", 0, 0, automatic=True),
    )
    assert enums["fields_plain"][2:5] == (
        EnumEntry("two to nine", 2, 9),
        EnumEntry("minus three", -3, -3),
        EnumEntry("far below", -100, -50),
    )
    assert enums["fields_large"][1] == EnumEntry("huge", 0x8000000000000000, 0xFFFFFFFFFFFFFFFE)
    container = event_of("fields:enumerations").fields[0].type
    assert isinstance(container, Enumeration)
    assert container.container == Integer(8, signed=True)
    (with_contexts,) = (r for r in requests() if isinstance(r, ChannelRequest) and r.channel == 6)
    assert with_contexts.contexts == (
        Field("vpid", Integer(32, signed=True)),
        Field("vtid", Integer(32, signed=True)),
        Field("procname", Array(letter, 17)),
    )


@pytest.mark.parametrize("major", [8, 9, 10])
def test_every_abi(major: int) -> None:
    assert list(NotifyDecoder(major).feed(WIRE)) == requests()


def test_byte_by_byte() -> None:
    decoder = NotifyDecoder()
    decoded = [r for at in range(len(WIRE)) for r in decoder.feed(WIRE[at : at + 1])]
    assert decoded == requests()


@given(st.lists(st.integers(0, len(WIRE)), max_size=8))
def test_splits(cuts: list[int]) -> None:
    decoder = NotifyDecoder()
    decoded = [
        request
        for start, end in pairwise([0, *sorted(cuts), len(WIRE)])
        for request in decoder.feed(WIRE[start:end])
    ]
    assert decoded == requests()


@given(st.integers(0, 2), st.binary(max_size=1500))
def test_random_bytes(number: int, raw: bytes) -> None:
    for start in (b"", struct.pack("<I", number)):
        try:
            for request in NotifyDecoder().feed(start + raw):
                assert isinstance(request, Request)
        except RemoteProtocolError:
            pass


@given(st.sampled_from(captured.notify_messages()), st.data())
def test_damaged_requests(message: bytes, data: st.DataObject) -> None:
    damaged = bytearray(message)
    # Zeros are most of a message: damage mostly what says something.
    places = [at for at, byte in enumerate(message) if byte]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.sampled_from(places) | st.integers(0, len(message) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        for request in NotifyDecoder().feed(bytes(damaged)):
            assert isinstance(request, Request)
    except RemoteProtocolError:
        pass


@pytest.mark.parametrize(
    ("request_type", "offset", "value", "complaint"),
    [
        (EventRequest, 0, 3, "unknown request 3"),
        (EventRequest, 272, 1 << 31, "signature_length 2147483648"),
        (EventRequest, 276, 919, "not whole ones"),
        (EventRequest, 276, 920 * 2049, "fields_length"),
        (EventRequest, 280, (1 << 16) + 1, "uri_length"),
        (EventRequest, 272, 0, "signature"),
        (ChannelRequest, 12, 921, "not whole ones"),
        (EnumRequest, 264, 337, "337 bytes"),
        (EnumRequest, 264, 1 << 31, "entries_length"),
    ],
)
def test_lengths(request_type: type, offset: int, value: int, complaint: str) -> None:
    position = next(i for i, r in enumerate(requests()) if isinstance(r, request_type))
    raw = bytearray(captured.notify_messages()[position] + bytes(8192))
    struct.pack_into("<I", raw, offset, value)
    with pytest.raises(RemoteProtocolError, match=complaint):
        list(NotifyDecoder().feed(bytes(raw)))


def test_answers_have_negative_codes() -> None:
    assert event_reply(-22, 0) == struct.pack("<IiI32x", 0, -22, 0)
    with pytest.raises(LocalProtocolError):
        event_reply(22, 0)
