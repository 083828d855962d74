# SPDX-License-Identifier: MIT
"""A relay's listener: who gets as far as its handler, and how long the others may try."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from helpers.wires import LOOPS, certificate, listening, run, server_context

from ustconsumer.errors import BrokenResourceError
from ustconsumer.relay.dial import dial
from ustconsumer.relay.serve import Policy, Server
from ustconsumer.relay.wire import Credentials, Wire

pytestmark = pytest.mark.parametrize("loop", LOOPS)

_TOKEN = b"between us"
_SAID = b"UST\x01" + struct.pack(">H", len(_TOKEN)) + _TOKEN
_CA = certificate("ca")
#: Seconds: what is waited for, and what must not be the reason that something ends.
_SHORT = 0.2
_LONG = 60.0


async def greet(wire: Wire) -> None:
    """Send what was read."""
    while part := await wire.read(100):
        wire.write(part)
        await wire.drain()


@contextlib.asynccontextmanager
async def peer(server: Server) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Return what comes; nothing if the connection is closed, however."""
    with contextlib.suppress(OSError):
        return await reader.read(100)
    return b""


def greeted(loop: str, policy: Policy, said: bytes) -> bytes:
    """Return what a connection is answered that begins with these bytes."""

    async def main() -> bytes:
        async with listening(greet, policy) as server, peer(server) as (reader, writer):
            writer.write(said)
            return await answer(reader)

    return run(loop, main())


_ANY = Policy(patience=_LONG)
_SECRET = Policy(token=_TOKEN, patience=_LONG)


@pytest.mark.parametrize(
    ("policy", "said", "expected"),
    [
        (_ANY, b"hello", b"hello"),
        # Shown without need.
        (_ANY, _SAID + b"hello", b"hello"),
        (_SECRET, _SAID + b"hello", b"hello"),
        (_SECRET, b"hello", b""),
        (_SECRET, _SAID[:-1] + b"?hello", b""),
        (_SECRET, b"UST\x01\0\0hello", b""),
        (_SECRET, b"UST\x01\0\x06betweenhello", b""),
        (_SECRET, b"\x28\xb5\x2f\xfd" + _SAID, b""),
        (_SECRET, b"UST\x02" + _SAID[4:], b""),
    ],
)
def test_the_first_bytes(loop: str, policy: Policy, said: bytes, expected: bytes) -> None:
    assert greeted(loop, policy, said) == expected


def test_a_plain_connection_to_tls_is_closed(loop: str) -> None:
    assert greeted(loop, Policy(tls=server_context(), patience=_LONG), b"hello") == b""


def test_tls_to_a_plain_relay_is_closed(loop: str) -> None:
    async def main() -> None:
        async with listening(greet, _ANY) as server:
            with pytest.raises(BrokenResourceError, match=r"relay 127\.0\.0\.1:"):
                await dial(
                    "127.0.0.1",
                    server.port,
                    tls=True,
                    credentials=Credentials(ca_file=_CA),
                    patience=_LONG,
                )

    run(loop, main())


@pytest.mark.parametrize("shown", ["", "stranger", "producer"])
def test_client_certificates(loop: str, shown: str) -> None:
    called = []

    async def handler(wire: Wire) -> None:
        called.append(await wire.readexactly(5))
        wire.write(b"hello")
        await wire.drain()

    async def main() -> bool:
        policy = Policy(tls=server_context(client_ca="ca"), patience=_LONG)
        async with listening(handler, policy) as server:
            files = Credentials(ca_file=_CA, cert_file=certificate(shown) if shown else "")
            # With TLS 1.3 the client is through before the other end has looked.
            with contextlib.suppress(BrokenResourceError):
                wire = await dial(
                    "127.0.0.1", server.port, tls=True, credentials=files, patience=_LONG
                )
                wire.write(b"hello")
                await wire.drain()
                return await wire.read(5) == b"hello"
            return False

    assert run(loop, main()) == (shown == "producer")
    assert bool(called) == (shown == "producer")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_token_inside_tls(loop: str, tmp_path: Path, version: ssl.TLSVersion) -> None:
    secret = tmp_path / "token"
    secret.write_bytes(_TOKEN)
    secret.chmod(0o600)
    context = server_context()
    context.maximum_version = version

    async def main() -> None:
        policy = Policy(tls=context, token=_TOKEN, patience=_LONG)
        async with listening(greet, policy) as server:
            for file, expected in ((str(secret), b"hello"), ("", b"")):
                wire = await dial(
                    "127.0.0.1",
                    server.port,
                    tls=True,
                    zstd=True,
                    credentials=Credentials(ca_file=_CA, token_file=file),
                    patience=_LONG,
                )
                wire.write(b"hello")
                await wire.drain()
                with contextlib.suppress(BrokenResourceError):
                    assert await wire.read(5) == expected
                wire.close()

    run(loop, main())


_TLS_HELLO = b"\x16\x03\x01\x02\0"


@pytest.mark.parametrize("silent", [False, True], ids=["", "silent"])
@pytest.mark.parametrize(
    ("tls", "token", "said"),
    [
        (False, _TOKEN, b""),
        (False, _TOKEN, b"US"),
        (False, _TOKEN, _SAID[:-1]),
        (True, b"", b""),
        (True, b"", _TLS_HELLO),
    ],
)
def test_who_shows_nothing_is_closed_after_a_while(
    loop: str, caplog: pytest.LogCaptureFixture, tls: bool, token: bytes, said: bytes, silent: bool
) -> None:
    policy = Policy(
        tls=server_context() if tls else None, token=token, patience=_SHORT, silent=silent
    )
    with caplog.at_level(logging.WARNING):
        assert greeted(loop, policy, said) == b""
    assert "127.0.0.1" in caplog.text


def test_control_connections_speak_at_once(loop: str) -> None:
    assert greeted(loop, Policy(patience=_SHORT), b"") == b""


@pytest.mark.parametrize(("token", "said"), [(b"", b""), (b"", b"h"), (_TOKEN, _SAID)])
def test_data_connections_may_wait_for_their_first_packet(
    loop: str, token: bytes, said: bytes
) -> None:
    async def main() -> None:
        policy = Policy(token=token, patience=_SHORT, silent=True)
        async with listening(greet, policy) as server, peer(server) as (reader, writer):
            writer.write(said)
            await asyncio.sleep(4 * _SHORT)
            rest = b"hello"[1:] if said == b"h" else b"hello"
            writer.write(rest)
            assert await answer(reader) == b"hello"

    run(loop, main())


def test_data_connections_may_wait_in_tls(loop: str) -> None:
    # Long enough for a handshake on a busy machine.
    patience = 2.0

    async def main() -> None:
        policy = Policy(tls=server_context(), patience=patience, silent=True)
        async with listening(greet, policy) as server:
            wire = await dial(
                "127.0.0.1",
                server.port,
                tls=True,
                credentials=Credentials(ca_file=_CA),
                patience=_LONG,
            )
            await asyncio.sleep(1.5 * patience)
            wire.write(b"hello")
            await wire.drain()
            assert await wire.readexactly(5) == b"hello"
            wire.close()

    run(loop, main())


def test_connections_of_one_address_that_show_nothing_are_few(loop: str) -> None:
    async def main() -> None:
        policy = Policy(patience=_LONG, most_new=2)
        async with listening(greet, policy) as server, contextlib.AsyncExitStack() as stack:
            waiting = [await stack.enter_async_context(peer(server)) for _ in range(2)]
            reader, _ = await stack.enter_async_context(peer(server))
            assert await answer(reader) == b""
            # One has shown what it is: there is room for another.
            reader, writer = waiting[0]
            writer.write(b"hello")
            assert await answer(reader) == b"hello"
            reader, writer = await stack.enter_async_context(peer(server))
            writer.write(b"hello")
            assert await answer(reader) == b"hello"

    run(loop, main())


def test_connections_at_a_time(loop: str) -> None:
    async def main() -> None:
        async with listening(greet, Policy(patience=_LONG, most=1)) as server:
            async with peer(server) as (reader, writer):
                writer.write(b"hello")
                assert await answer(reader) == b"hello"
                async with peer(server) as (other, _):
                    assert await answer(other) == b""
                writer.write(b"still there")
                assert await answer(reader) == b"still there"
            # When it is gone there is room again.
            while True:
                async with peer(server) as (reader, writer):
                    writer.write(b"hello")
                    if await answer(reader):
                        break

    run(loop, main())


def test_the_end_of_a_listener_ends_its_connections(loop: str) -> None:
    async def main() -> None:
        async with listening(greet, _ANY) as server, contextlib.AsyncExitStack() as stack:
            # One that is served, and one that has said nothing.
            reader, writer = await stack.enter_async_context(peer(server))
            writer.write(b"hello")
            assert await answer(reader) == b"hello"
            silent, _ = await stack.enter_async_context(peer(server))
            server.close()
            await server.wait_closed()
            assert await answer(reader) == await answer(silent) == b""
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", server.port)

    run(loop, main())
