# SPDX-License-Identifier: MIT
"""``drtrace disable-event``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.options import add_domain, add_session, shown_channel
from ustconsumer.cli.values import names
from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "patterns",
        nargs="?",
        type=names,
        metavar="PATTERN[,PATTERN]...",
        help="as they were enabled; every rule with that pattern, whatever its filter",
    )
    parser.add_argument(
        "-a",
        "--all-events",
        "--all",
        dest="all",
        action="store_true",
        help="all rules of the channel",
    )
    add_domain(parser, "rules of loggers")
    add_session(parser)
    parser.add_argument("-c", "--channel", default="", help="default: the only channel")


def run(arguments: argparse.Namespace, context: Context) -> int | None:
    if arguments.all == bool(arguments.patterns):
        raise UsageError("Missing event name(s): give a pattern, or -a for all events")
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        failed = False
        domain = "python" if arguments.python else ""
        kind = domain or "ust"
        for pattern in arguments.patterns or [""]:
            try:
                warnings = session.disable_event(
                    [pattern] if pattern else [], arguments.channel, domain=domain
                )
            except CommandError as error:
                if error.kind != "no-such-event":
                    raise
                # As lttng: the others are disabled all the same.
                context.error(str(error))
                failed = True
                continue
            for line in warnings:
                context.warn(line)
            channel = arguments.channel or shown_channel(session, domain)
            if pattern:
                where = f"channel {channel} for session {session.name}"
                context.say(f"{kind} {pattern} of type any disabled in {where}")
            else:
                context.say(f"All {kind} events of type any are disabled in channel {channel}")
    if failed:
        return 1
    context.dump(Done())
    return None
