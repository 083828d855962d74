# SPDX-License-Identifier: MIT
"""``drtrace enable-channel``."""

from __future__ import annotations

import argparse
from functools import partial

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.options import (
    add_buffer_options,
    add_domain,
    add_output_mode,
    add_session,
    channel_options,
)
from ustconsumer.cli.values import names
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "channels", type=names, metavar="NAME[,NAME]...", help="names of the new channels"
    )
    add_domain(parser)
    add_session(parser)
    add_buffer_options(parser)
    add_output_mode(parser)


def run(arguments: argparse.Namespace, context: Context) -> None:
    # What is wrong is said without a registry.
    channel_options(arguments)
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        if arguments.mode is None and session.info().snapshot:
            arguments.mode = "overwrite"
        options = channel_options(arguments, warn=partial(context.warn, harmless=True))
        for name in arguments.channels:
            try:
                warnings = session.enable_channel(name, options)
            except CommandError as error:
                if error.kind != "channel-exists":
                    raise
                # As lttng: it is there, whatever it is like, and the others are to be.
                context.warn(str(error))
                continue
            for line in warnings:
                context.warn(line)
            context.say(f"ust channel {name} enabled for session {session.name}")
    context.dump(Done())
