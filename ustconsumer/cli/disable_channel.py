# SPDX-License-Identifier: MIT
"""``drtrace disable-channel``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.options import add_domain, add_session
from ustconsumer.cli.values import names
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("channels", type=names, metavar="NAME[,NAME]...", help="names of channels")
    add_domain(parser)
    add_session(parser)


def run(arguments: argparse.Namespace, context: Context) -> None:
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        for name in arguments.channels:
            try:
                warnings = session.disable_channel(name)
            except CommandError as error:
                if error.kind != "no-such-channel":
                    raise
                # As lttng: the others are disabled all the same, and that is status 4.
                context.error(str(error))
                context.warned = True
                continue
            for line in warnings:
                context.warn(line)
            context.say(f"ust channel {name} disabled for session {session.name}")
    context.dump(Done())
