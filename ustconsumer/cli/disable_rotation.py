# SPDX-License-Identifier: MIT
"""``drtrace disable-rotation``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.options import add_session
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_session(parser)
    parser.add_argument("--timer", action="store_true", help="not by time any more")
    parser.add_argument("--size", action="store_true", help="not by size any more")


def run(arguments: argparse.Namespace, context: Context) -> None:
    if not arguments.timer and not arguments.size:
        raise UsageError("No automatic rotation schedule specified: give --timer or --size")
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        session.disable_rotation(timer=arguments.timer, size=arguments.size)
        if arguments.timer:
            context.say(f"Disabled periodic rotation on session {session.name}")
        if arguments.size:
            context.say(f"Disabled size-based rotation on session {session.name}")
    context.dump(Done())
