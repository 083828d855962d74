# SPDX-License-Identifier: MIT
"""``drtrace add-context``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.options import add_domain, add_session
from ustconsumer.cli.values import names
from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-t",
        "--type",
        action="extend",
        type=names,
        dest="contexts",
        metavar="TYPE[,TYPE]...",
        help="context fields, such as vpid, perf:thread:task-clock, perf:thread:raw:rN:NAME or "
        "$app.PROVIDER:NAME; may be repeated",
    )
    parser.add_argument("--list", action="store_true", help="list the context fields, and exit")
    add_domain(parser)
    add_session(parser)
    parser.add_argument("-c", "--channel", default="", help="default: all channels")


def run(arguments: argparse.Namespace, context: Context) -> int | None:
    if arguments.list:
        from ustconsumer.protocol.contexts import CONTEXT_NAMES  # not for --help

        context.say("\n".join(CONTEXT_NAMES))
        context.dump(CONTEXT_NAMES)
        return None
    if not arguments.contexts:
        raise UsageError("Missing context type: give one with -t, for example -t vpid")
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        try:
            warnings = session.add_context(arguments.contexts, arguments.channel)
        except UsageError as error:
            # Statuses of lttng: what is no context at all, and what this session cannot have.
            context.error(str(error))
            return 3
        except CommandError as error:
            context.error(str(error))
            return 4
        for line in warnings:
            context.warn(line)
        where = f"channel {arguments.channel}" if arguments.channel else "all channels"
        for name in arguments.contexts:
            context.say(f"ust context {name} added to {where}")
    context.dump(Done())
    return None
