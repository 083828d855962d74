# SPDX-License-Identifier: MIT
"""``drtrace create``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.client.output import claim, default_output, given_output, timestamped, unclaim
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", nargs="?", metavar="NAME", help="default: auto-YYYYmmdd-HHMMSS")
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="directory of the trace (default: a new one below ~/lttng-traces)",
    )


def run(arguments: argparse.Namespace, context: Context) -> None:
    name = timestamped("auto") if arguments.session is None else arguments.session
    if arguments.output is None:
        # As LTTng: an automatic name has its date already.
        output = default_output(name if arguments.session is None else timestamped(name))
    else:
        output = given_output(arguments.output)
        # Refuse now what the consumer could not write to later.
        unclaim(claim(output))
    with context.connect(start=True) as registry:
        registry.create(name, output)
    try:
        current.remember(name, context.rundir)
    except OSError as error:
        context.warn(f"cannot make {name} the current session ({error.strerror}): use -s {name}")
    context.say(f"Session {name} created.\nTraces will be output to {output}")
    context.dump(Done())
