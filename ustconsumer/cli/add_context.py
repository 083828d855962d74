# SPDX-License-Identifier: MIT
"""``drtrace add-context``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.options import add_domain, add_session
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-t",
        "--type",
        action="append",
        dest="contexts",
        metavar="TYPE",
        help="context field, such as vpid, vtid or procname; may be repeated",
    )
    add_domain(parser)
    add_session(parser)
    parser.add_argument("-c", "--channel", default="", help="default: all channels")


def run(arguments: argparse.Namespace, context: Context) -> None:
    if not arguments.contexts:
        raise UsageError("Missing context type: give one with -t, for example -t vpid")
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        for line in session.add_context(arguments.contexts, arguments.channel):
            context.warn(line)
        where = f"channel {arguments.channel}" if arguments.channel else "all channels"
        for name in arguments.contexts:
            context.say(f"ust context {name} added to {where}")
    context.dump(Done())
