# SPDX-License-Identifier: MIT
"""Bytes through a connection to a relay: as they are, compressed, encrypted; what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from helpers.wires import LOOPS, certificate, listening, run, server_context

from ustconsumer.errors import BrokenResourceError, RemoteProtocolError, UsageError
from ustconsumer.relay.dial import dial, read_token
from ustconsumer.relay.serve import Policy
from ustconsumer.relay.wire import Credentials, Wire

pytestmark = pytest.mark.parametrize("loop", LOOPS)

_CA = Credentials(ca_file=certificate("ca"))
#: Seconds.
_LONG = 60.0


def connect(
    port: int,
    *,
    host: str = "127.0.0.1",
    tls: bool = False,
    zstd: bool = False,
    credentials: Credentials = _CA,
    patience: float = _LONG,
) -> asyncio.Future[Wire]:
    return asyncio.ensure_future(
        dial(host, port, tls=tls, zstd=zstd, credentials=credentials, patience=patience)
    )


def content(size: int) -> bytes:
    """Return bytes that do not compress, the same each time."""
    return hashlib.shake_128(b"content").digest(size)


async def echo(wire: Wire) -> None:
    """Answer lengths (u32) with so many of the bytes that follow."""
    try:
        while True:
            (size,) = struct.unpack(">I", await wire.readexactly(4))
            wire.write(await wire.readexactly(size))
            await wire.drain()
    except EOFError:
        pass


def test_a_connection_that_is_lost_while_it_is_made(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who listened may be gone before the loop gets round to us."""
    opened = asyncio.open_connection

    async def lost(
        *arguments: Any, **keywords: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await opened(*arguments, **keywords)
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return reader, writer

    async def main() -> None:
        async with listening(echo) as server:
            monkeypatch.setattr(asyncio, "open_connection", lost)
            with pytest.raises(BrokenResourceError, match=f"^relay 127.0.0.1:{server.port}: "):
                await connect(server.port)

    run(loop, main())


@pytest.mark.parametrize("zstd", [False, True], ids=["", "zstd"])
@pytest.mark.parametrize("tls", [False, True], ids=["", "tls"])
def test_what_is_drained_arrives_without_more_behind_it(loop: str, tls: bool, zstd: bool) -> None:
    policy = Policy(tls=server_context() if tls else None)

    async def main() -> None:
        async with listening(echo, policy) as server:
            wire = await connect(server.port, tls=tls, zstd=zstd)
            for size in (0, 1, 3, 4, 255, 4096, 65537, 1 << 20):
                sent = content(size // 2).ljust(size, b"\0")
                wire.write(struct.pack(">I", size))
                wire.write(memoryview(sent))
                await wire.drain()
                assert await wire.readexactly(size) == sent
            wire.close()
            await wire.wait_closed()

    run(loop, main())


def test_only_what_the_producer_says_is_compressed(loop: str) -> None:
    """Seen from a peer that knows nothing of us but the format."""

    async def main() -> None:
        async with listening(echo) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            packer = zstandard.ZstdCompressor().compressobj()
            for word in (b"one", b"another one" * 1000):
                writer.write(packer.compress(struct.pack(">I", len(word)) + word))
                writer.write(packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
                assert await reader.readexactly(len(word)) == word
            writer.close()
            await writer.wait_closed()

    run(loop, main())


def test_a_compressed_connection_is_smaller(loop: str) -> None:
    async def main() -> bytes:
        taken: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            taken.set_result(await reader.read())
            writer.close()

        server = await asyncio.start_server(raw, "127.0.0.1", 0)
        async with server:
            wire = await connect(server.sockets[0].getsockname()[1], zstd=True)
            for _ in range(100):
                wire.write(b"the same again ")
                await wire.drain()
            wire.close()
            return await taken

    packed = run(loop, main())
    # One frame without an end.
    unpacked = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    assert unpacked == b"the same again " * 100
    assert len(packed) < len(unpacked)


@pytest.mark.parametrize("size", [1, 1 << 17, (1 << 17) + 1, 300000, 1 << 20])
def test_what_compresses_well_arrives_whole(loop: str, size: int) -> None:
    """Blocks of four bytes: the last one is not kept back until something follows."""

    async def main() -> None:
        async with listening(echo) as server:
            wire = await connect(server.port, zstd=True)
            wire.write(struct.pack(">I", size) + bytes(size))
            await wire.drain()
            assert await wire.readexactly(size) == bytes(size)
            wire.close()

    run(loop, main())


def zeros() -> tuple[bytes, int]:
    """Four bytes for each 128 KiB."""
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    packed = packer.compress(bytes(64 << 20)) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return packed, 64 << 20


def long_strings() -> tuple[bytes, int]:
    """What a program can emit: 1 to 5164."""
    events = b"".join(
        struct.pack("<Q", 977 * number + number * number % 300) + b"a" * 60000
        for number in range(1000)
    )
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    packed = packer.compress(events) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return packed, len(events)


@pytest.mark.parametrize("made", [zeros, long_strings])
def test_a_few_bytes_that_become_many_do_so_bit_by_bit(
    loop: str, made: Callable[[], tuple[bytes, int]]
) -> None:
    packed, size = made()
    assert size > 4096 * len(packed)

    async def main() -> int:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def count(wire: Wire) -> None:
            seen = 0
            while seen < size:
                seen += len(await wire.read(1 << 16))
            done.set_result(tracemalloc.get_traced_memory()[1])

        async with listening(count) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            tracemalloc.start()
            try:
                writer.write(packed)
                return await done
            finally:
                tracemalloc.stop()
                writer.close()

    # 8 MiB, some more of them while they are put together.
    assert run(loop, main()) < 36 << 20 < size


def garbage() -> bytes:
    return b"\x28\xb5\x2f\xfd" + b"\xff" * 100


def large_window() -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(19, window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(bytes(1 << 20)) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


def behind_the_end() -> bytes:
    return zstandard.ZstdCompressor().compress(b"") + bytes(100)


@pytest.mark.parametrize("made", [garbage, large_window, behind_the_end])
def test_compressed_input_that_is_refused(loop: str, made: Callable[[], bytes]) -> None:
    async def main() -> None:
        refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def handler(wire: Wire) -> None:
            with pytest.raises(RemoteProtocolError) as error:
                await wire.read(1 << 16)
            refused.set_result(str(error.value))

        async with listening(handler) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(made())
            assert "compressed stream" in await refused
            assert await reader.read() == b""
            writer.close()

    run(loop, main())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_handler_that_does_not_read_stops_the_producer(loop: str, tls: bool) -> None:
    policy = Policy(tls=server_context() if tls else None)
    part = content(1 << 16)
    count = 1000

    async def main() -> None:
        go, taken = asyncio.Event(), asyncio.Event()

        async def late(wire: Wire) -> None:
            await go.wait()
            for _ in range(count):
                assert await wire.readexactly(len(part)) == part
            taken.set()

        async with listening(late, policy) as server:
            wire = await connect(server.port, tls=tls)
            highest = 0

            async def send() -> None:
                nonlocal highest
                for _ in range(count):
                    wire.write(part)
                    highest = max(highest, wire.pending)
                    await wire.drain()

            sending = asyncio.ensure_future(send())
            done, _ = await asyncio.wait([sending], timeout=0.5)
            assert not done
            assert 0 < wire.pending < 4 << 20
            go.set()
            await sending
            await taken.wait()
            assert highest < 4 << 20
            wire.close()

    run(loop, main())


def test_the_end_of_a_connection(loop: str) -> None:
    async def main() -> None:
        async def two(wire: Wire) -> None:
            await wire.readexactly(1)
            wire.write(b"12")
            await wire.drain()

        async with listening(two) as server:
            wire = await connect(server.port)
            wire.write(b"what?")
            await wire.drain()
            with pytest.raises(EOFError):
                await wire.readexactly(3)
            assert await wire.read(1) == b""
            wire.close()

    run(loop, main())


async def keep_writing(wire: Wire) -> None:
    for _ in range(1000):
        wire.write(b"more")
        await wire.drain()


@pytest.mark.parametrize("zstd", [False, True], ids=["", "zstd"])
def test_a_connection_that_is_reset(loop: str, zstd: bool) -> None:
    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        with listener:
            wire = await connect(listener.getsockname()[1], zstd=zstd)
            accepted, _ = listener.accept()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()
            # Whoever comes first is told; no other error than the library's.
            with pytest.raises(BrokenResourceError, match=r"127\.0\.0\.1:\d+: connection"):
                await wire.read(1)
            with pytest.raises(BrokenResourceError, match=r"127\.0\.0\.1:\d+: .*connection"):
                await keep_writing(wire)
            wire.close()

    run(loop, main())


def test_nobody_listens(loop: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    async def main() -> None:
        with pytest.raises(BrokenResourceError) as refused:
            await connect(port)
        assert str(refused.value) == f"relay 127.0.0.1:{port}: connection refused"

    run(loop, main())


def test_no_such_host(loop: str) -> None:
    async def main() -> None:
        with pytest.raises(BrokenResourceError, match=r"relay nowhere\.invalid:1: no such host"):
            await connect(1, host="nowhere.invalid")

    run(loop, main())


def test_a_relay_that_says_nothing_to_tls(loop: str) -> None:
    async def main() -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            pytest.raises(BrokenResourceError, match=r"relay 127\.0\.0\.1:\d+: no answer in"),
        ):
            await connect(listener.getsockname()[1], tls=True, patience=0.2)

    run(loop, main())


@pytest.mark.parametrize(
    ("name", "host", "credentials", "problem"),
    [
        ("stranger", "127.0.0.1", _CA, "not trusted"),
        ("expired", "127.0.0.1", _CA, "not trusted.*expired"),
        ("elsewhere", "127.0.0.1", _CA, "not trusted.*127.0.0.1"),
        ("elsewhere", "localhost", _CA, "not trusted.*localhost"),
        ("relay", "127.0.0.1", Credentials(), "not trusted"),
    ],
)
def test_relays_that_are_not_trusted(
    loop: str, name: str, host: str, credentials: Credentials, problem: str
) -> None:
    called = []

    async def handler(wire: Wire) -> None:
        called.append(wire)

    async def main() -> None:
        async with listening(handler, Policy(tls=server_context(name))) as server:
            with pytest.raises(BrokenResourceError, match=problem) as refused:
                await connect(server.port, host=host, tls=True, credentials=credentials)
            assert "\n" not in str(refused.value)
            assert str(refused.value).startswith(f"relay {host}:{server.port}: its certificate")

    run(loop, main())
    assert not called


def test_a_name_that_the_certificate_has(loop: str) -> None:
    async def main() -> None:
        async with listening(echo, Policy(tls=server_context())) as server:
            wire = await connect(server.port, host="localhost", tls=True)
            wire.write(b"\0\0\0\x02ok")
            await wire.drain()
            assert await wire.readexactly(2) == b"ok"
            wire.close()

    run(loop, main())


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials(ca_file="/nowhere"),
        Credentials(ca_file=__file__),
        Credentials(cert_file=certificate("ca")),
        Credentials(cert_file=certificate("relay"), key_file=certificate("stranger")),
        Credentials(token_file=f"{__file__}/nowhere"),
    ],
)
def test_credentials_that_cannot_be_used(loop: str, credentials: Credentials) -> None:
    """They are said before anybody is asked."""

    async def main() -> None:
        with pytest.raises(UsageError):
            await connect(1, tls=True, credentials=credentials)

    run(loop, main())


class TestToken:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "token"
        path.write_bytes(b" secret\n")
        path.chmod(0o600)
        return path

    def test_without_white_space_around(self, loop: str, path: Path) -> None:
        assert read_token(str(path)) == b"secret"

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o602, 0o620, 0o601])
    def test_others_have_no_business_with_it(self, loop: str, path: Path, mode: int) -> None:
        path.chmod(mode)
        with pytest.raises(UsageError, match=r"others may read token file .*: chmod 600 it"):
            read_token(str(path))

    @pytest.mark.parametrize("text", [b"", b" \n", b"x" * 4097])
    def test_empty_or_far_too_long(self, loop: str, path: Path, text: bytes) -> None:
        path.write_bytes(text)
        with pytest.raises(UsageError, match="1 to 4096"):
            read_token(str(path))

    def test_not_there(self, loop: str, path: Path) -> None:
        with pytest.raises(UsageError, match="cannot read token file"):
            read_token(str(path / "not"))
