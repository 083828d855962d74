# SPDX-License-Identifier: MIT
"""``ust-relayd``: receive the traces of other machines."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import logging
import os
import re
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from ustconsumer.cli.values import size
from ustconsumer.errors import UsageError
from ustconsumer.limits import raise_descriptor_limit
from ustconsumer.paths import traces_dir
from ustconsumer.protocol.relay import CONTROL_PORT, DATA_PORT, LIVE_PORT
from ustconsumer.relay.dial import read_token
from ustconsumer.relay.memory import MemoryDirectory, MemoryStores
from ustconsumer.relay.packed import ZstdStores
from ustconsumer.relay.serve import Policy, serve
from ustconsumer.relay.server import Relay
from ustconsumer.relay.sessions import Sessions
from ustconsumer.relay.viewers import Viewers

__all__ = ["main", "make_parser"]

_URL = re.compile(r"tcp6?://(\[[0-9A-Fa-f:.]+\]|[^/:\[\]]*)(?::(\d+))?")


def _address(text: str) -> tuple[str, int | None]:
    match = _URL.fullmatch(text)
    if match is None or int(match[2] or 0) > 65535:
        raise ValueError
    return match[1].strip("[]") or "127.0.0.1", None if match[2] is None else int(match[2])


_address.__name__ = "tcp://HOST[:PORT]"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="ust-relayd", description="Receive traces from a network."
    )
    for letter, name, default, what in (
        ("C", "control", CONTROL_PORT, "commands of producers"),
        ("D", "data", DATA_PORT, "packets of producers"),
        ("L", "live", LIVE_PORT, "live viewers"),
    ):
        parser.add_argument(
            f"-{letter}",
            f"--{name}-port",
            type=_address,
            default=("127.0.0.1", default),
            metavar="URL",
            help=f"where to listen for {what} (default: tcp://127.0.0.1:{default}; port 0: any)",
        )
    parser.add_argument("-o", "--output", help="directory (default: ~/lttng-traces)")
    parser.add_argument(
        "-s",
        "--group-output-by-session",
        action="store_true",
        help="SESSION/HOST-DATE instead of HOST/SESSION-DATE",
    )
    stored = parser.add_mutually_exclusive_group()
    stored.add_argument(
        "--memory",
        type=size,
        metavar="SIZE",
        help="keep the newest packets of all live sessions in so much memory, nothing on disk",
    )
    stored.add_argument(
        "--zstd",
        type=_level,
        nargs="?",
        const=3,
        default=0,
        metavar="LEVEL",
        help="compress the files, 1 to 22 (default: 3); for the way here: producers say net+zstd",
    )
    parser.add_argument(
        "--ready-fd", type=_fd, default=-1, metavar="FD", help="gets one byte when listening"
    )
    parser.add_argument("-x", "--disallow-clear", action="store_true", help="refuse `clear`")
    add = parser.add_argument_group("who may connect").add_argument
    add("--tls-cert", metavar="FILE", help="our certificate: producers must come with TLS")
    add("--tls-key", metavar="FILE", help="its key (default: in the same file)")
    add(
        "--tls-client-ca",
        metavar="FILE",
        help="producers need a certificate signed by one of these",
    )
    add("--token-file", metavar="FILE", help="a secret that producers, and viewers, must know")
    add(
        "--open-viewers",
        action="store_true",
        help="viewers need neither token nor certificate (Babeltrace has none)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; return its exit status."""
    arguments = make_parser().parse_args(argv)
    logging.basicConfig(format="ust-relayd: %(message)s", level=logging.INFO)
    raise_descriptor_limit()
    try:
        policies = _policies(arguments)
    except (UsageError, OSError) as error:
        print(f"ust-relayd: {error}", file=sys.stderr)
        return 1
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            output = Path(os.path.abspath(arguments.output or traces_dir()))
            runner.run(_serve(arguments, output, *policies))
        except OSError as error:
            print(f"ust-relayd: {error}", file=sys.stderr)
            return 1
    return 0


def _policies(arguments: argparse.Namespace) -> tuple[Policy, Policy]:
    """Return who may produce and who may view."""
    token = read_token(arguments.token_file) if arguments.token_file else b""
    if arguments.tls_cert is None:
        if arguments.tls_key is not None or arguments.tls_client_ca is not None:
            raise UsageError("--tls-key and --tls-client-ca need --tls-cert")
        producers = Policy(token=token)
    else:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(arguments.tls_cert, arguments.tls_key)
        if arguments.tls_client_ca is not None:
            context.load_verify_locations(arguments.tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        producers = Policy(tls=context, token=token)
    guarded = token or arguments.tls_client_ca is not None
    return producers, producers if guarded and not arguments.open_viewers else Policy()


async def _serve(
    arguments: argparse.Namespace, output: Path, producers: Policy, viewers: Policy
) -> None:
    sessions = _sessions(arguments, output)
    relay = Relay(sessions, allow_clear=not arguments.disallow_clear)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    control = await serve(*_place(arguments.control_port, CONTROL_PORT), relay.control, producers)
    # Nothing comes over it before the first packet.
    packets = dataclasses.replace(producers, silent=True, most_new=producers.most // 2)
    data = await serve(*_place(arguments.data_port, DATA_PORT), relay.data, packets)
    live = await serve(*_place(arguments.live_port, LIVE_PORT), Viewers(sessions).serve, viewers)
    print(f"listening: control {control.port}, data {data.port}, live {live.port}", flush=True)
    if arguments.ready_fd >= 0:
        os.write(arguments.ready_fd, b"\n")
        os.close(arguments.ready_fd)
    await ended.wait()
    for server in (control, data, live):
        server.close()
    for server in (control, data, live):
        await server.wait_closed()
    sessions.close()


def _sessions(arguments: argparse.Namespace, output: Path) -> Sessions:
    by_session = arguments.group_output_by_session
    if arguments.memory is not None:
        memory = MemoryStores(arguments.memory)
        return Sessions(output, by_session=by_session, stores=memory, root=MemoryDirectory())
    stores = ZstdStores(arguments.zstd) if arguments.zstd else None
    return Sessions(output, by_session=by_session, stores=stores)


def _fd(text: str) -> int:
    fd = int(text)
    try:
        os.fstat(fd)
    except (OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"{text!r} is no open descriptor") from None
    return fd


def _level(text: str) -> int:
    level = int(text)
    if not 1 <= level <= 22:
        raise ValueError
    return level


def _place(address: tuple[str, int | None], default: int) -> tuple[str, int]:
    host, port = address
    return host, default if port is None else port


if __name__ == "__main__":
    sys.exit(main())
