# SPDX-License-Identifier: MIT
"""``drtrace enable-event``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.options import add_domain, add_session, shown_channel
from ustconsumer.cli.values import loglevel, names
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]

_AT_LEAST, _EXACTLY = 1, 2


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "patterns",
        nargs="?",
        type=names,
        metavar="PATTERN[,PATTERN]...",
        help="event names; * matches anything; with -p names of loggers",
    )
    parser.add_argument("-a", "--all", action="store_true", help="all events")
    add_domain(parser, "what loggers of Python's logging say, in programs with lttngust")
    # What every rule here is: lttng has other kinds.
    parser.add_argument("--tracepoint", action="store_true", help=argparse.SUPPRESS)
    add_session(parser)
    parser.add_argument(
        "-c", "--channel", default="", help="default: the only channel, or a new channel0"
    )
    levels = parser.add_mutually_exclusive_group()
    levels.add_argument("--loglevel", metavar="LEVEL", help="only this level and more severe ones")
    levels.add_argument("--loglevel-only", metavar="LEVEL", help="only this level")
    parser.add_argument(
        "-x",
        "--exclude",
        type=names,
        default=[],
        metavar="PATTERN[,PATTERN]...",
        help="leave these names out of a pattern's",
    )
    parser.add_argument(
        "-f",
        "--filter",
        metavar="EXPRESSION",
        help="only events of which this is true, e.g. 'size > 4096 && name == \"a*\"'",
    )


def run(arguments: argparse.Namespace, context: Context) -> None:
    if arguments.all == bool(arguments.patterns):
        raise UsageError("Missing event name(s): give a pattern, or -a for all events")
    patterns = arguments.patterns or ["*"]
    kind, level = 0, -1
    if arguments.loglevel is not None:
        kind, level = _AT_LEAST, _level(arguments.loglevel, arguments.python)
    elif arguments.loglevel_only is not None:
        kind, level = _EXACTLY, _level(arguments.loglevel_only, arguments.python)
    if arguments.python and arguments.exclude:
        raise UsageError("Event name exclusions are not yet implemented for python events")
    domain = "python" if arguments.python else ""
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        for pattern in patterns:
            warnings = session.enable_event(
                pattern,
                arguments.channel,
                loglevel_type=kind,
                loglevel=level,
                exclusions=arguments.exclude,
                filter=arguments.filter,
                domain=domain,
            )
            for line in warnings:
                context.warn(line)
            channel = arguments.channel or shown_channel(session, domain)
            if arguments.filter is not None:
                named = "" if arguments.all else f"Event {pattern}: "
                context.say(f"{named}Filter '{arguments.filter}' successfully set")
            elif arguments.all:
                context.say(f"All {domain or 'ust'} events are enabled in channel {channel}")
            elif domain:
                context.say(f"python event {pattern} enabled")
            else:
                context.say(f"ust event {pattern} created in channel {channel}")
    context.dump(Done())


def _level(text: str, python: bool) -> int:
    if python:
        from ustconsumer.protocol.agent import python_level  # not for --help

        return python_level(text)
    try:
        return loglevel(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"argument --loglevel: {error}") from None
