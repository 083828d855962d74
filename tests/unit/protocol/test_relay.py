# SPDX-License-Identifier: MIT
"""The relay protocol's layouts: what real daemons sent, and everything that is none of them.

``SENT_*`` came from lttng-sessiond and lttng-consumerd 2.13.9 on x86-64, to a receiver that
announced 2.13, 2.10 and 2.4 (``tests/helpers/standin.py``): ``lttng create cap --set-url=...``,
``enable-channel -u --tracefile-size=8192 --tracefile-count=3 ch1``, start, a program, rotate,
stop, destroy; with ``--live=100000``, and with ``--snapshot`` and ``snapshot record``.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustconsumer.errors import LocalProtocolError, RemoteProtocolError
from ustconsumer.protocol import relay
from ustconsumer.protocol.relay import (
    NO_SEQUENCE,
    AddStream,
    CloseChunk,
    CloseCommand,
    Command,
    CreateChunk,
    CreateSession,
    DataHeader,
    Index,
    Rotate,
    Status,
    StreamAdded,
)

UUID = bytes.fromhex("a8268849279bc497985c97dc74000000")
DATE = 0x6B046D32
PATH = "ust/uid/42422/64-bit"

SENT_SESSION = bytes.fromhex(
    "000000040000000300000001000000000000"
    "1a077da8268849279bc497985c97dc740000000000000000000000006b046d320000000000000000"
    "0063617000766d0000"
)
SESSION = CreateSession(
    name="cap",
    host="vm",
    uuid=bytes.fromhex("1a077da8268849279bc497985c97dc74"),
    created=DATE,
)
SENT_LIVE = bytes.fromhex(
    "000000040000000300000001000186a000004f9d96f9c6b647849607122cbb4ad956"
    "0000000000000000000000006b046d3400000000000000000063617000766d0000"
)
SENT_SNAPSHOT = bytes.fromhex(
    "000000040000000300000001000000000100f0822f66e5e340f385ee4e41b99e8573"
    "0000000000000000000000006b046d3600000000000000000063617000766d0000"
)
SENT_CHUNK = bytes.fromhex("0000000000000000000000006b046d3300000000")
SENT_NAMED_CHUNK = bytes.fromhex(
    "0000000000000000000000006b046d360000001d"
    "736e617073686f742d312d32303236313132332d3136343333342d3000"
)
SENT_STREAM = bytes.fromhex(
    "00000006000000150000000000002000000000000000000300000000000000006368315f3000"
    "7573742f7569642f34323432322f36342d62697400"
)
STREAM = AddStream(name="ch1_0", path=PATH, tracefile_size=8192, tracefile_count=3)
SENT_INDEX = bytes.fromhex(
    "00000000000000010000000000000001000000000000800000000000000002a0"
    "000040246eb9eb1d000040246eb9eb1d00000000000000000000000000000000"
    "00000000000000000000000000000001"
)
INDEX = Index(1, 1, 32768, 672, 0x40246EB9EB1D, 0x40246EB9EB1D, 0, 0, 0, 1)
SENT_OLD_INDEX = bytes.fromhex(
    "0000000000000001000000000000000000000000000080000000000000007fe0"
    "000040260ced057300004026192f7ebb00000000000000000000000000000000"
)
OLD_INDEX = Index(1, 0, 32768, 0x7FE0, 0x40260CED0573, 0x4026192F7EBB, 0, 0)
#: The compiler's padding is what was on the stack.
SENT_ROTATE = bytes.fromhex(
    "0000000201000000df52fd3500000000000000010000000000000001000000000000000100000000"
    "000000020000000000000001"
)
SENT_ROTATE_METADATA = bytes.fromhex(
    "00000001017f00003982f735000000000000000100000000000000030000000000000000"
)
SENT_ROTATE_TO_NONE = bytes.fromhex(
    "0000000200000000df02f8d8000000000000000000000000000000010000000000000002"
    "00000000000000020000000000000002"
)
SENT_CLOSE = bytes.fromhex("0000000000000000000000006b046d330100000000")
SENT_CLOSE_SNAPSHOT = bytes.fromhex("0000000000000000000000006b046d360000000000")
SENT_METADATA = "0000000000000003000004e6571dd1754a3f8edb02914475b5efeffd0c91bb2700000000"
SENT_DATA_HEADERS = [
    ("00000000000000000000000000000001000000000000000000000ffc00000004", (1, 0, 0xFFC, 4)),
    ("0000000000000000000000000000000100000000000000010000005400000fac", (1, 1, 84, 4012)),
]
#: Length of the payload and number of the command, as sent before those above.
SENT_HEADERS = {
    Command.VERSION: "000000000000000000000000000000080000000500000000",
    Command.GET_CONFIGURATION: "000000000000000000000000000000080000001600000000",
    Command.CREATE_SESSION: "000000000000000000000000000000430000000200000000",
    Command.CREATE_TRACE_CHUNK: "000000000000000000000000000000140000001300000000",
}

# To receivers before 2.11 the fields are arrays; what the daemon sent behind a name was zero
# here, and is not elsewhere.
SENT_OLD_SESSION = b"cap".ljust(255, b"\0") + b"vm".ljust(64, b"\0") + bytes(8)
SENT_OLD_LIVE = SENT_OLD_SESSION[:-8] + bytes.fromhex("000186a000000000")
SENT_OLD_SNAPSHOT = SENT_OLD_SESSION[:-8] + bytes.fromhex("0000000000000001")
OLD_PATH = "/vm/cap-20261123-164334//ust/uid/42422/64-bit"
SENT_OLD_STREAM = (
    b"ch1_0".ljust(264, b"\0")
    + OLD_PATH.encode().ljust(4096, b"\0")
    + bytes.fromhex("00000000000020000000000000000003")
)

OLD, NEW = (4, 7, 8, 10), (11, 12, 13, 14)


def split(request: bytes) -> tuple[int, bytes]:
    """Return command and payload of a request; facts 3.1."""
    circuit, size, command, version = struct.unpack_from(">QQII", request)
    assert (circuit, size, version) == (0, len(request) - 24, 0)
    return command, request[24:]


def test_numbers() -> None:
    """Facts 3.1, 4, 6.8, 14."""
    assert relay.HEADER.size == 24
    assert relay.DATA_HEADER.size == 32
    assert relay.MAX_CONTROL == 134_217_728
    for command, header in SENT_HEADERS.items():
        raw = bytes.fromhex(header)
        size = int.from_bytes(raw[8:16], "big")
        assert relay.request(command, bytes(size)) == raw + bytes(size)
    names = "ADD_STREAM CREATE_SESSION START_DATA - VERSION SEND_METADATA CLOSE_STREAM DATA_PENDING"
    names += " QUIESCENT_CONTROL BEGIN_DATA_PENDING END_DATA_PENDING - SEND_INDEX - -"
    names += " STREAMS_SENT RESET_METADATA ROTATE_STREAMS CREATE_TRACE_CHUNK CLOSE_TRACE_CHUNK"
    names += " TRACE_CHUNK_EXISTS GET_CONFIGURATION"
    expected = {name: n for n, name in enumerate(names.split(), 1) if name != "-"}
    assert {c.name: int(c) for c in Command if c is not Command.RESUME} == expected
    # Ours is none of LTTng's, nor will be soon.
    assert Command.RESUME > 1 << 30
    assert [int(status) for status in Status] == [10, 11, 25, 26, 97, 152, 153]
    # LTTng's peers look at bit 0 alone.
    assert relay.CLEAR_ALLOWED == 1
    assert not relay.RESUMABLE & 1


def test_sessions_as_lttng_sends_them() -> None:
    assert relay.decode_create_session(13, SENT_SESSION) == SESSION
    live = relay.decode_create_session(13, SENT_LIVE)
    assert (live.live_us, live.snapshot, live.name, live.chunk) == (100_000, False, "cap", None)
    snapshot = relay.decode_create_session(13, SENT_SNAPSHOT)
    assert (snapshot.live_us, snapshot.snapshot) == (0, True)
    for wanted, sent in ((SESSION, SENT_SESSION), (live, SENT_LIVE), (snapshot, SENT_SNAPSHOT)):
        for minor in NEW:
            assert split(relay.create_session(minor, wanted)) == (2, sent)
            assert relay.decode_create_session(minor, sent) == wanted


@pytest.mark.parametrize("minor", OLD)
def test_sessions_as_lttng_sends_them_to_old_relays(minor: int) -> None:
    for sent, live, snapshot in (
        (SENT_OLD_SESSION, 0, False),
        (SENT_OLD_LIVE, 100_000, False),
        (SENT_OLD_SNAPSHOT, 0, True),
    ):
        wanted = CreateSession(name="cap", host="vm", live_us=live, snapshot=snapshot)
        assert relay.decode_create_session(minor, sent) == wanted
        assert split(relay.create_session(minor, wanted)) == (2, sent)
        # Facts 6.3: what is behind the end of a name is whatever was there before.
        dirty = bytearray(sent)
        dirty[4:255], dirty[258:319] = b"\xfe" * 251, b"x" * 61
        assert relay.decode_create_session(minor, bytes(dirty)) == wanted


def test_session_of_a_current_chunk() -> None:
    """Facts 6.3: present at 50, the id at 51."""
    wanted = CreateSession(name="n", host="h", base_path="a/b", chunk=7, id=3, uuid=UUID)
    _, raw = split(relay.create_session(13, wanted))
    assert raw[34:42] == (3).to_bytes(8, "big")
    assert raw[50:59] == b"\x01" + (7).to_bytes(8, "big")
    assert raw[59:] == b"n\0h\0a/b\0"
    assert relay.decode_create_session(13, raw) == wanted
    # An id that is not "present" is none.
    assert relay.decode_create_session(13, raw[:50] + b"\0" + raw[51:]).chunk is None
    # A base path of no bytes is accepted, and empty.
    raw = raw[:8] + bytes(4) + raw[12:59] + b"n\0h\0"
    assert relay.decode_create_session(13, raw).base_path == ""


def test_session_of_a_newer_minor_says_its_format() -> None:
    """Facts 6.3: from 2.15 on 1 is CTF 1.8, between the fixed part and the names."""
    _, raw = split(relay.create_session(15, SESSION))
    assert raw == SENT_SESSION[:59] + b"\0\0\0\x01" + SENT_SESSION[59:]
    assert relay.decode_create_session(15, raw) == SESSION


def test_chunks_as_lttng_sends_them() -> None:
    for sent, chunk in (
        (SENT_CHUNK, CreateChunk(0, DATE + 1)),
        (SENT_NAMED_CHUNK, CreateChunk(0, DATE + 4, "snapshot-1-20261123-164334-0")),
    ):
        assert relay.decode_create_chunk(sent) == chunk
        assert split(relay.create_chunk(chunk)) == (19, sent)
    for sent, closed in (
        (SENT_CLOSE, CloseChunk(0, DATE + 1, CloseCommand.MOVE_TO_COMPLETED)),
        (SENT_CLOSE_SNAPSHOT, CloseChunk(0, DATE + 4)),
    ):
        assert relay.decode_close_chunk(sent) == closed
        assert split(relay.close_chunk(closed)) == (20, sent)


def test_streams_as_lttng_sends_them() -> None:
    for minor in NEW:
        assert relay.decode_add_stream(minor, SENT_STREAM) == STREAM
        assert split(relay.add_stream(minor, STREAM)) == (1, SENT_STREAM)
    old = AddStream(name="ch1_0", path=OLD_PATH, tracefile_size=8192, tracefile_count=3)
    for minor in OLD:
        assert relay.decode_add_stream(minor, SENT_OLD_STREAM) == old
        assert split(relay.add_stream(minor, old)) == (1, SENT_OLD_STREAM)
    assert len(SENT_OLD_STREAM) == 4376


def test_stream_of_ours_has_its_trace_behind_the_names() -> None:
    wanted = AddStream(name="c_0", path="ust", uuid=UUID)
    _, raw = split(relay.add_stream(13, wanted))
    assert raw == struct.pack(">IIQQQ", 4, 4, 0, 0, 0) + b"c_0\0ust\0" + UUID
    assert relay.decode_add_stream(13, raw, resumed=True) == wanted
    with pytest.raises(RemoteProtocolError, match="UUID"):
        relay.decode_add_stream(13, raw[:32], resumed=True)


def test_answers_of_streams() -> None:
    """Facts 6.5; ours says what it has."""
    plain = StreamAdded(5, Status.OK)
    assert relay.stream_added(plain) == bytes.fromhex("00000000000000050000000a")
    assert relay.decode_stream_added(bytes.fromhex("00000000000000050000000a")) == plain
    said = StreamAdded(5, Status.OK, 12, 7, 4096)
    raw = relay.stream_added(said, resumed=True)
    assert raw == struct.pack(">QIQQQ", 5, 10, 12, 7, 4096)
    assert relay.decode_stream_added(raw, resumed=True) == said
    nothing = relay.stream_added(plain, resumed=True)
    assert nothing[12:] == b"\xff" * 8 + bytes(16)


def test_indexes_as_lttng_sends_them() -> None:
    for minor in (8, 10, 13):
        assert relay.decode_index(minor, SENT_INDEX) == INDEX
        assert split(relay.index(minor, INDEX)) == (13, SENT_INDEX)
    for minor in (4, 7):
        assert relay.decode_index(minor, SENT_OLD_INDEX) == OLD_INDEX
        assert split(relay.index(minor, OLD_INDEX)) == (13, SENT_OLD_INDEX)
        # What such a peer does not know is not sent to it.
        assert len(relay.index(minor, INDEX)) == 24 + 64
    assert not INDEX.is_beacon
    assert Index(1, NO_SEQUENCE, 0, 0, 0, 99, 0, 4, 0, 0).is_beacon


def test_rotations_as_lttng_sends_them() -> None:
    for sent, expected in (
        (SENT_ROTATE, Rotate(1, {1: 1, 2: 1})),
        (SENT_ROTATE_METADATA, Rotate(1, {3: 0})),
        (SENT_ROTATE_TO_NONE, Rotate(None, {1: 2, 2: 2})),
    ):
        assert relay.decode_rotate(sent) == expected
        # Ours: the same with zeros for what the compiler left.
        clean = sent[:5] + bytes(7) + sent[12:]
        assert split(relay.rotate(expected)) == (18, clean)
        # Facts 6.15: a 32-bit peer's header has 16 bytes, a packed one 13.
        for left_out in (4, 7):
            assert relay.decode_rotate(sent[:5] + sent[5 + left_out :]) == expected


@pytest.mark.parametrize(("raw", "expected"), SENT_DATA_HEADERS)
def test_data_headers_as_lttng_sends_them(raw: str, expected: tuple[int, ...]) -> None:
    header = relay.decode_data_header(bytes.fromhex(raw))
    assert header == DataHeader(*expected)
    assert relay.DATA_HEADER.pack(0, *header) == bytes.fromhex(raw)


def test_metadata_as_lttng_sends_it() -> None:
    raw = bytes.fromhex(SENT_METADATA)
    assert relay.send_metadata(3, raw[12:], 1254) == (
        bytes.fromhex("000000000000000000000000000000240000000600000000") + raw
    )


# -- what is none ------------------------------------------------------------------------

DECODERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "session": (lambda raw: relay.decode_create_session(13, raw), SENT_LIVE),
    "session 15": (
        lambda raw: relay.decode_create_session(15, raw),
        SENT_LIVE[:59] + b"\0\0\0\x01" + SENT_LIVE[59:],
    ),
    "session 4": (lambda raw: relay.decode_create_session(4, raw), SENT_OLD_LIVE),
    "stream": (lambda raw: relay.decode_add_stream(13, raw), SENT_STREAM),
    "stream of ours": (
        lambda raw: relay.decode_add_stream(13, raw, resumed=True),
        SENT_STREAM + UUID,
    ),
    "stream 10": (lambda raw: relay.decode_add_stream(10, raw), SENT_OLD_STREAM),
    "index": (lambda raw: relay.decode_index(13, raw), SENT_INDEX),
    "index 4": (lambda raw: relay.decode_index(4, raw), SENT_OLD_INDEX),
    "chunk": (relay.decode_create_chunk, SENT_NAMED_CHUNK),
    "end of chunk": (relay.decode_close_chunk, SENT_CLOSE),
    "rotation": (relay.decode_rotate, SENT_ROTATE),
    "data": (relay.decode_data_header, bytes.fromhex(SENT_DATA_HEADERS[0][0])),
    "added": (relay.decode_stream_added, bytes.fromhex("00000000000000050000000a")),
    "added, ours": (
        lambda raw: relay.decode_stream_added(raw, resumed=True),
        struct.pack(">QIQQQ", 5, 10, 12, 7, 4096),
    ),
}


@pytest.mark.parametrize("what", DECODERS)
def test_every_piece_of_a_message_is_too_short(what: str) -> None:
    decode, sent = DECODERS[what]
    decode(sent)
    # A rotation with less padding in its header is one of another compiler.
    whole = (len(sent) - 4, len(sent) - 7) if what == "rotation" else ()
    for size in sorted({*range(len(sent))} - {*whole}):
        with pytest.raises(RemoteProtocolError):
            decode(sent[:size])


@pytest.mark.parametrize("what", DECODERS)
@given(data=st.data())
def test_whatever_comes_is_understood_or_refused(what: str, data: st.DataObject) -> None:
    decode, sent = DECODERS[what]
    raw = bytearray(sent)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(raw), 120)))
        piece = data.draw(st.binary(max_size=12) | st.sampled_from([b"\xff" * 8, bytes(8), b"\0"]))
        raw[at : at + data.draw(st.sampled_from((0, 1, len(piece))))] = piece
    for message in (bytes(raw), data.draw(st.binary(max_size=100))):
        with contextlib.suppress(RemoteProtocolError):
            decode(message)


def test_names_that_are_none() -> None:
    def session(lengths: tuple[int, int, int], names: bytes) -> CreateSession:
        raw = struct.pack(">III", *lengths) + SENT_SESSION[12:59] + names
        return relay.decode_create_session(13, raw)

    assert session((4, 3, 0), b"cap\0vm\0").base_path == ""
    for lengths, names in (
        ((4, 3, 1), b"cap\0vm\0x"),  # without its end
        ((3, 3, 2), b"cap\0vm\0\0"),  # the lengths are shifted
        ((4, 3, 5), b"cap\0vm\0a\0b\0\0"),  # an end within
        ((4, 3, 1 << 31), b"cap\0vm\0\0"),  # more than there is
        ((256, 3, 1), b"c" * 255 + b"\0vm\0\0"),  # facts: 255 with the NUL
        ((4, 257, 1), b"cap\0" + b"h" * 256 + b"\0\0"),  # 256
        ((4, 3, 1), b"ca\xff\0vm\0\0"),  # no text
    ):
        with pytest.raises(RemoteProtocolError):
            session(lengths, names)
    assert session((255, 256, 1), b"c" * 254 + b"\0" + b"h" * 255 + b"\0\0").name == "c" * 254

    def stream(name: bytes, path: bytes) -> AddStream:
        raw = struct.pack(">IIQQQ", len(name), len(path), 0, 0, 0) + name + path
        return relay.decode_add_stream(13, raw)

    assert stream(b"n" * 263 + b"\0", b"p" * 254 + b"\0").path == "p" * 254
    for name, path in ((b"n" * 264 + b"\0", b"p\0"), (b"n\0", b"p" * 255 + b"\0")):
        with pytest.raises(RemoteProtocolError):
            stream(name, path)


@pytest.mark.parametrize("minor", OLD)
def test_names_without_an_end_in_old_messages(minor: int) -> None:
    for start, size in ((0, 255), (255, 64)):
        raw = SENT_OLD_SESSION[:start] + b"x" * size + SENT_OLD_SESSION[start + size :]
        with pytest.raises(RemoteProtocolError, match="no end"):
            relay.decode_create_session(minor, raw)


def test_errors_do_not_repeat_everything_that_came() -> None:
    """They go to a log."""
    raw = SENT_OLD_STREAM[:264] + b"\xff" * 4095 + b"\0" + bytes(16)
    with pytest.raises(RemoteProtocolError) as raised:
        relay.decode_add_stream(10, raw)
    assert len(str(raised.value)) < 500


def test_rotations_that_contradict_themselves() -> None:
    for count in (0, 1, 3, (1 << 32) - 1):
        with pytest.raises(RemoteProtocolError):
            relay.decode_rotate(count.to_bytes(4, "big") + SENT_ROTATE[4:])


# -- there and back ------------------------------------------------------------------------

u64 = st.integers(0, (1 << 64) - 1)
u32 = st.integers(0, (1 << 32) - 1)


def texts(size: int) -> st.SearchStrategy[str]:
    """Return names of at most so many bytes."""
    characters = st.characters(codec="utf-8", exclude_characters="\0")
    return st.text(characters, min_size=1, max_size=size // 4)


@given(
    name=texts(254),
    host=texts(63),
    base=texts(400),
    live=u32,
    flags=st.tuples(*[st.booleans()] * 2),
)
@pytest.mark.parametrize("minor", [*OLD, *NEW, 15])
def test_sessions_there_and_back(
    minor: int, name: str, host: str, base: str, live: int, flags: tuple[bool, bool]
) -> None:
    wanted = CreateSession(name=name, host=host, live_us=live, snapshot=flags[0])
    if minor >= 11:
        wanted = CreateSession(
            name=name,
            host=host,
            live_us=live,
            snapshot=flags[0],
            base_path=base,
            name_has_time=flags[1],
            uuid=UUID,
            id=live << 32,
            created=DATE,
            chunk=live if flags[1] else None,
        )
    assert relay.decode_create_session(minor, relay.create_session(minor, wanted)[24:]) == wanted


@given(name=texts(263), path=texts(254), numbers=st.tuples(u64, u64))
@pytest.mark.parametrize("minor", [4, 10, 11, 13])
def test_streams_there_and_back(minor: int, name: str, path: str, numbers: tuple[int, int]) -> None:
    wanted = AddStream(name=name, path=path, tracefile_size=numbers[0], tracefile_count=numbers[1])
    assert relay.decode_add_stream(minor, relay.add_stream(minor, wanted)[24:]) == wanted


@given(numbers=st.tuples(*[u64] * 10))
def test_indexes_there_and_back(numbers: tuple[int, ...]) -> None:
    entry = Index(*numbers)
    assert relay.decode_index(13, relay.index(13, entry)[24:]) == entry
    assert relay.decode_index(4, relay.index(4, entry)[24:]) == Index(*numbers[:8])


@given(chunk=st.none() | u64, streams=st.dictionaries(u64, u64, max_size=20))
def test_rotations_there_and_back(chunk: int | None, streams: dict[int, int]) -> None:
    wanted = Rotate(chunk, streams)
    assert relay.decode_rotate(relay.rotate(wanted)[24:]) == wanted


@given(name=st.text("ab-0", max_size=40), numbers=st.tuples(u64, u64), command=st.none() | u32)
def test_chunks_there_and_back(name: str, numbers: tuple[int, int], command: int | None) -> None:
    created = CreateChunk(*numbers, name)
    assert relay.decode_create_chunk(relay.create_chunk(created)[24:]) == created
    closed = CloseChunk(*numbers, command)
    assert relay.decode_close_chunk(relay.close_chunk(closed)[24:]) == closed


def test_names_too_long_to_send() -> None:
    """A receiver would refuse them: that is said before, and by us."""
    for request in (
        lambda: relay.create_session(13, CreateSession(name="n" * 255, host="h")),
        lambda: relay.create_session(13, CreateSession(name="n", host="h" * 256)),
        lambda: relay.create_chunk(CreateChunk(0, 0, "c" * 255)),
        lambda: relay.add_stream(13, AddStream(name="n", path="p" * 255)),
        lambda: relay.add_stream(13, AddStream(name="n" * 264, path="p")),
        lambda: relay.add_stream(10, AddStream(name="n", path="p" * 4096)),
        lambda: relay.create_session(13, CreateSession(name="n\0m", host="h")),
    ):
        with pytest.raises(LocalProtocolError):
            request()


@pytest.mark.parametrize("minor", OLD)
def test_names_too_long_for_old_relays_are_cut(minor: int) -> None:
    """Their directories come from the streams' paths: such a name is only shown."""
    request = relay.create_session(minor, CreateSession(name="é" * 200, host="h" * 100))
    assert len(request) == 24 + 327
    found = relay.decode_create_session(minor, request[24:])
    assert (found.name, found.host) == ("é" * 127, "h" * 63)
