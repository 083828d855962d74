# SPDX-License-Identifier: MIT
"""``drtrace create``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.destinations import (
    add_port_options,
    add_relay_options,
    live_timer,
    relay_urls,
    say_values,
    to_directory,
    to_relay,
)
from ustconsumer.cli.places import shown_places
from ustconsumer.client.output import claim, default_output, given_output, timestamped, unclaim
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Done

if TYPE_CHECKING:
    from ustconsumer.protocol.control import Destination

__all__ = ["configure", "prepare", "run"]


def prepare(argv: list[str]) -> list[str]:
    return say_values(argv)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", nargs="?", metavar="NAME", help="default: auto-YYYYmmdd-HHMMSS")
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="directory of the trace (default: a new one below ~/lttng-traces, or none if a "
        "relay gets it)",
    )
    parser.add_argument(
        "-U",
        "--set-url",
        metavar="URL",
        help="send the trace to this relay, net://HOST[:CTRL[:DATA]][/PATH], also to the directory "
        "of --output; net6:// for IPv6; to ust-relayd net+zstd, net+tls, net+tls+zstd",
    )
    add_port_options(parser)
    parser.add_argument(
        "--live",
        type=live_timer,
        default=0,
        metavar="USEC",
        help="viewers at the relay follow the trace, an idle stream says so every USEC, or with "
        "ms, s (--live without =USEC: 1s; without a relay: net://127.0.0.1)",
    )
    parser.add_argument(
        "--snapshot",
        action="store_true",
        help="snapshot mode: write nothing until `drtrace snapshot record`; buffers overwrite the "
        "oldest events by default",
    )
    parser.add_argument(
        "--no-output",
        action="store_true",
        help="with --snapshot: no place for snapshots that do not name one",
    )
    parser.add_argument(
        "--shm-path",
        metavar="DIR",
        help="keep the buffers in files below this directory: `drtrace recover` reads them after a "
        "crash",
    )
    add_relay_options(parser)


def run(arguments: argparse.Namespace, context: Context) -> None:
    name = timestamped("auto") if arguments.session is None else arguments.session
    if arguments.live and arguments.snapshot:
        raise UsageError("Snapshot and live modes are mutually exclusive.")
    arguments.output, url = to_directory(arguments.output, arguments.set_url, "--set-url")
    url, data_url = relay_urls(url, arguments.ctrl_url, arguments.data_url, option="--set-url")
    destination = to_relay(arguments, url, data_url, arguments.live)
    if arguments.no_output:
        if arguments.output is not None or destination.url or not arguments.snapshot:
            raise UsageError("--no-output is for --snapshot without --output")
        output = None
    elif arguments.output is None and destination.url:
        output = None
    elif arguments.output is None:
        # As LTTng: an automatic name has its date already.
        output = default_output(name if arguments.session is None else timestamped(name))
    else:
        output = given_output(arguments.output)
        # Refuse now what the consumer could not write to later.
        unclaim(claim(output))
    if arguments.shm_path == "":
        raise UsageError("--shm-path: an empty name is no directory")
    shm_path = None if arguments.shm_path is None else os.path.abspath(arguments.shm_path)
    with context.connect(start=True) as registry:
        session = registry.create(
            name,
            output or "",
            snapshot=arguments.snapshot,
            shm_path=shm_path,
            destination=destination,
        )
        buffers = session.info().shm_path if shm_path is not None else ""
    try:
        current.remember(name, context.rundir)
    except OSError as error:
        context.warn(f"cannot make {name} the current session ({error.strerror}): use -s {name}")
    context.say(_created(name, output, destination, arguments.snapshot))
    if buffers:
        context.say(f"Shared memory path set to {buffers}")
    context.dump(Done())


def _created(name: str, output: Path | None, destination: Destination, snapshot: bool) -> str:
    directory = "" if output is None else str(output)
    places = shown_places(directory, destination, snapshot=snapshot)
    if snapshot:
        lines = [f"Default snapshot output set to {place}" for place in places]
        return "\n".join(
            [
                f"Snapshot session {name} created.",
                *lines,
                "Every channel enabled for this session will be set to mmap output and default to "
                "overwrite mode.",
            ]
        )
    live = "Live session" if destination.live_us else "Session"
    lines = [f"Traces will be output to {place}" for place in places]
    if destination.live_us:
        lines.append(f"Live timer interval set to {destination.live_us} us")
    return "\n".join([f"{live} {name} created.", *lines])
