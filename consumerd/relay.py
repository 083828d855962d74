# SPDX-License-Identifier: MIT
"""``ust-relayd``: receive the traces of other machines."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ustconsumer.limits import raise_descriptor_limit
from ustconsumer.paths import traces_dir
from ustconsumer.protocol.relay import CONTROL_PORT, DATA_PORT, LIVE_PORT
from ustconsumer.relay.server import Relay
from ustconsumer.relay.sessions import Sessions
from ustconsumer.relay.viewers import Viewers
from ustconsumer.relay.wire import serve

__all__ = ["main"]

_URL = re.compile(r"tcp6?://(\[[0-9A-Fa-f:.]+\]|[^/:\[\]]*)(?::(\d+))?")


def _address(text: str) -> tuple[str, int | None]:
    match = _URL.fullmatch(text)
    if match is None or int(match[2] or 0) > 65535:
        raise ValueError
    return match[1].strip("[]") or "127.0.0.1", None if match[2] is None else int(match[2])


_address.__name__ = "tcp://HOST[:PORT]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; return its exit status."""
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
    parser.add_argument("-x", "--disallow-clear", action="store_true", help="refuse `clear`")
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="ust-relayd: %(message)s", level=logging.INFO)
    raise_descriptor_limit()
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(arguments, Path(os.path.abspath(arguments.output or traces_dir()))))
        except OSError as error:
            print(f"ust-relayd: {error}", file=sys.stderr)
            return 1
    return 0


async def _serve(arguments: argparse.Namespace, output: Path) -> None:
    sessions = Sessions(output, by_session=arguments.group_output_by_session)
    relay = Relay(sessions, allow_clear=not arguments.disallow_clear)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    control = await serve(*_place(arguments.control_port, CONTROL_PORT), relay.control)
    data = await serve(*_place(arguments.data_port, DATA_PORT), relay.data)
    live = await serve(*_place(arguments.live_port, LIVE_PORT), Viewers(sessions).serve)
    print(f"listening: control {control.port}, data {data.port}, live {live.port}", flush=True)
    await ended.wait()
    for server in (control, data, live):
        server.close()
    sessions.close()


def _place(address: tuple[str, int | None], default: int) -> tuple[str, int]:
    host, port = address
    return host, default if port is None else port


if __name__ == "__main__":
    sys.exit(main())
