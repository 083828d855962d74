# SPDX-License-Identifier: MIT
"""A snapshot's directory sent to relays that are old, refuse, hang or go away."""

from __future__ import annotations

import asyncio
import struct
import time
from pathlib import Path

import pytest
from helpers.handmade import UUID, Packet, tick, write_ticks
from helpers.standin import StandIn, stand_in

from ustconsumer.consumer import ship
from ustconsumer.consumer.relaylink import Identity
from ustconsumer.consumer.ship import ship_snapshot
from ustconsumer.ctf.packets import MetadataPacketWriter
from ustconsumer.errors import BrokenResourceError, DecodeError, RemoteProtocolError
from ustconsumer.protocol.relayurl import RelayUrl
from ustconsumer.relay.wire import Credentials

NAME = "snapshot-1-20261122-201106-0"
IDENTITY = Identity("host", "s", bytes(range(16)), 1, snapshot=True)
PATH = Path("ust/uid/1000/64-bit")
ADD_STREAM, SEND_METADATA, CLOSE_STREAM, DATA_PENDING, SEND_INDEX = 1, 6, 7, 8, 13
CREATE_CHUNK, CLOSE_CHUNK, CREATE_SESSION = 19, 20, 2


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A snapshot of a stream with two packets, and one with one."""
    trace = tmp_path / "snapshot" / PATH
    packets = [Packet(10 * n, 10 * n + 9, tick(10 * n, n), sequence=n) for n in (1, 2)]
    write_ticks(trace, channel0_0=packets, channel0_1=packets[:1])
    text = (trace / "metadata").read_bytes()
    uuid = bytes.fromhex(UUID.replace("-", ""))
    (trace / "metadata").write_bytes(MetadataPacketWriter(uuid).append(text))
    return tmp_path / "snapshot"


def sent(relay: StandIn, snapshot: Path) -> str:
    url = RelayUrl(host="127.0.0.1", control_port=relay.control_port, data_port=relay.data_port)
    return asyncio.run(ship_snapshot(snapshot, url, Credentials(), IDENTITY, NAME))


def check_files(directory: Path, snapshot: Path) -> None:
    """The relay has the same files; the data connection may be a moment behind."""
    names = sorted(path.name for path in (snapshot / PATH).iterdir())
    deadline = time.monotonic() + 20
    for name in names:
        wanted = (snapshot / PATH / name).read_bytes()
        while (found := (directory / name).read_bytes()) != wanted:
            assert time.monotonic() < deadline, (name, len(found), len(wanted))
            time.sleep(0.01)
    assert sorted(path.name for path in directory.iterdir()) == names


def test_the_order_of_lttng(snapshot: Path, tmp_path: Path) -> None:
    with stand_in(13, tmp_path / "relay") as relay:
        assert sent(relay, snapshot) == "s/1"
        check_files(tmp_path / "relay" / PATH, snapshot)
        stream = [ADD_STREAM, DATA_PENDING, CLOSE_STREAM]
        metadata = [ADD_STREAM, SEND_METADATA, CLOSE_STREAM]
        assert relay.commands()[-11:] == [CREATE_CHUNK, *stream, *stream, *metadata, CLOSE_CHUNK]
        assert SEND_INDEX not in relay.commands()
        by_command = {message.command: message.payload for message in relay.messages}
        # Id, time, length of the name with its end, the name.
        assert by_command[CREATE_CHUNK][16:] == struct.pack(">I", 29) + NAME.encode() + b"\0"
        # The flag of a snapshot.
        assert by_command[CREATE_SESSION][16] == 1
        # The last number of each stream; metadata has none.
        closed = [m.payload for m in relay.messages if m.command == CLOSE_STREAM]
        assert [struct.unpack(">QQ", payload)[1] for payload in closed] == [1, 0, (1 << 64) - 1]


def test_an_old_relay_is_told_the_whole_path(snapshot: Path, tmp_path: Path) -> None:
    with stand_in(10, tmp_path / "relay") as relay:
        assert sent(relay, snapshot) == NAME
        (directory,) = (path.parent for path in (tmp_path / "relay").rglob("metadata"))
        assert directory.relative_to(tmp_path / "relay").parts[2:] == (NAME, *PATH.parts)
        check_files(directory, snapshot)
        assert CREATE_CHUNK not in relay.commands()


def test_a_stream_without_packets(snapshot: Path, tmp_path: Path) -> None:
    (snapshot / PATH / "channel0_1").write_bytes(b"")
    with stand_in(13, tmp_path / "relay") as relay:
        sent(relay, snapshot)
        check_files(tmp_path / "relay" / PATH, snapshot)


class Refusing(StandIn):
    """Refuses every stream."""

    def _add_stream(self, payload: bytes) -> bytes:
        return struct.pack(">QI", 0, 11)


class Hanging(StandIn):
    """Never has what was sent."""

    def _answer(self, command: int, payload: bytes) -> bytes:
        if command == DATA_PENDING:
            return (1).to_bytes(4, "big")
        return super()._answer(command, payload)


class Silent(StandIn):
    """Does not answer to a stream."""

    def _add_stream(self, payload: bytes) -> bytes:
        return b""


class Leaving(StandIn):
    """Goes away when it is asked for the first time."""

    def _answer(self, command: int, payload: bytes) -> bytes:
        if command == DATA_PENDING:
            raise EOFError
        return super()._answer(command, payload)


@pytest.mark.parametrize(
    ("kind", "error", "word"),
    [
        (Refusing, RemoteProtocolError, "refuses stream"),
        (Hanging, BrokenResourceError, "takes nothing"),
        (Silent, BrokenResourceError, "takes nothing"),
        (Leaving, BrokenResourceError, "closed the connection"),
    ],
)
def test_relays_that_do_not_take_it(
    kind: type[StandIn],
    error: type[Exception],
    word: str,
    snapshot: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ship, "_PATIENCE", 0.3)
    relay = kind(13, tmp_path / "relay")
    try:
        with pytest.raises(error, match=word):
            sent(relay, snapshot)
    finally:
        relay.close()


def test_a_file_that_is_none(snapshot: Path, tmp_path: Path) -> None:
    (snapshot / PATH / "channel0_1").write_bytes(bytes(4096))
    with stand_in(13, tmp_path / "relay") as relay, pytest.raises(DecodeError, match="magic"):
        sent(relay, snapshot)
