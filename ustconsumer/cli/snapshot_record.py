# SPDX-License-Identifier: MIT
"""``drtrace snapshot record``: write what is in the buffers now, while everybody goes on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.destinations import add_port_options
from ustconsumer.cli.options import add_session
from ustconsumer.cli.places import snapshot_place
from ustconsumer.cli.values import size

if TYPE_CHECKING:
    from ustconsumer.consumer.snapshot import Snapshot

__all__ = ["OWN_OPTIONS", "configure", "run"]

#: As with ``lttng``, where the general one comes before the verb.
OWN_OPTIONS = ("-n",)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "output",
        nargs="?",
        metavar="DIR|URL",
        help="directory in which the snapshot gets one of its own, or a relay's "
        "net://HOST[:CTRL[:DATA]][/PATH] (default: the session's snapshot output, else its output)",
    )
    add_port_options(parser)
    add_session(parser)
    parser.add_argument(
        "-n",
        "--name",
        default="",
        help="first part of the name of the snapshot's directory (default: the output's)",
    )
    parser.add_argument(
        "-m",
        "--max-size",
        type=size,
        default=0,
        metavar="SIZE",
        help="bytes of packets at most, the newest; k/M/G allowed (default: the output's, or all)",
    )
    parser.add_argument(
        "--switch",
        action="store_true",
        help="close the packets being written first, as lttng does; what is in them is in the "
        "snapshot either way",
    )


def run(arguments: argparse.Namespace, context: Context) -> None:
    path, data_url = snapshot_place(arguments.output, arguments.ctrl_url, arguments.data_url)
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        snapshot = session.snapshot(
            path,
            name=arguments.name,
            max_size=arguments.max_size,
            switch=arguments.switch,
            data_url=data_url,
        )
    for line in snapshot.problems:
        context.warn(line, harmless=True)
    if not snapshot.packets:
        context.warn(_why_empty(snapshot))
    context.say(f"Snapshot recorded successfully for session {session.name}")
    packets = "1 packet" if snapshot.packets == 1 else f"{snapshot.packets} packets"
    context.say(f"{packets}, {snapshot.bytes} bytes")
    if snapshot.relay:
        context.say(snapshot.relay)
    if snapshot.path:
        context.say(snapshot.path)
    context.dump(snapshot)


def _why_empty(snapshot: Snapshot) -> str:
    if snapshot.lost:
        return "nothing in the buffers could be read"
    return "the buffers are empty: no program has recorded an event, see `drtrace apps`"
