# SPDX-License-Identifier: MIT
"""``drtrace enable-rotation``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.options import add_session
from ustconsumer.cli.values import size, timer
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_session(parser)
    parser.add_argument(
        "--timer", type=timer, metavar="PERIOD", help="so often: us, or with ms, s, m, h"
    )
    parser.add_argument(
        "--size", type=size, metavar="SIZE", help="when so much is written, k/M/G allowed"
    )


def run(arguments: argparse.Namespace, context: Context) -> None:
    if not arguments.timer and not arguments.size:
        raise UsageError("No automatic rotation schedule specified: give --timer or --size")
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        session.enable_rotation(timer_us=arguments.timer or 0, size=arguments.size or 0)
        if arguments.timer:
            context.say(
                f"Enabled periodic rotations every {arguments.timer} us on session {session.name}"
            )
        if arguments.size:
            context.say(
                f"Enabled size-based rotations every {arguments.size} bytes written on session "
                f"{session.name}"
            )
    context.dump(Done())
