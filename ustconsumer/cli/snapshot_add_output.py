# SPDX-License-Identifier: MIT
"""``drtrace snapshot add-output``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.destinations import add_port_options
from ustconsumer.cli.options import add_session
from ustconsumer.cli.places import shown_output, snapshot_place
from ustconsumer.cli.values import size
from ustconsumer.errors import UsageError

__all__ = ["OWN_OPTIONS", "configure", "run"]

#: As with ``lttng``, where the general one comes before the verb.
OWN_OPTIONS = ("-n",)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "output",
        nargs="?",
        metavar="DIR|URL",
        help="directory of the session's snapshots, or a relay's net://HOST[:CTRL[:DATA]][/PATH]",
    )
    add_port_options(parser)
    add_session(parser)
    parser.add_argument(
        "-n",
        "--name",
        default="",
        help="first part of the names of its snapshots (default: snapshot-ID)",
    )
    parser.add_argument(
        "-m",
        "--max-size",
        type=size,
        default=0,
        metavar="SIZE",
        help="bytes of packets in one snapshot at most, the newest; k/M/G allowed (default: all)",
    )


def run(arguments: argparse.Namespace, context: Context) -> None:
    path, data_url = snapshot_place(arguments.output, arguments.ctrl_url, arguments.data_url)
    if path is None:
        raise UsageError("no snapshot output: name a directory, or the URL of a relay")
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        output = session.add_snapshot_output(
            path, name=arguments.name, max_size=arguments.max_size, data_url=data_url
        )
    context.say(f"Snapshot output successfully added for session {session.name}")
    context.say(f"  {shown_output(output)}")
    context.dump(output)
