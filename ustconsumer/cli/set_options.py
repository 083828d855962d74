# SPDX-License-Identifier: MIT
"""``drtrace set-options``: attributes of channels that exist."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.options import add_buffer_options, add_domain, add_session, changed_options
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Done, SetOptions

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Change attributes of channels: before the first start of their session all of them, "
        "afterwards the periods of --switch-timer, --read-timer and --monitor-timer."
    )
    add_domain(parser)
    add_session(parser)
    parser.add_argument("-c", "--channel", default="", help="default: all channels")
    add_buffer_options(parser)


def run(arguments: argparse.Namespace, context: Context) -> None:
    options = changed_options(arguments)
    if not options:
        raise UsageError("Missing option: say what is to change, for example --switch-timer=1s")
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        request = SetOptions(session=session.name, channel=arguments.channel, options=options)
        registry.connection.request(request)
        where = f"channel {arguments.channel}" if arguments.channel else "all channels"
        context.say(f"ust options of {where} set for session {session.name}")
    context.dump(Done())
