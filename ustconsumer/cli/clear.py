# SPDX-License-Identifier: MIT
"""``drtrace clear``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sessions", nargs="*", metavar="NAME", help="default: the current one")
    parser.add_argument("-a", "--all", action="store_true", help="all recording sessions")


def run(arguments: argparse.Namespace, context: Context) -> None:
    if arguments.all and arguments.sessions:
        raise UsageError("--all and names of sessions: give one of them")
    with context.connect() as registry:
        names = arguments.sessions
        if arguments.all:
            names = [info.name for info in registry.sessions()]
        for name in names or [current.choose(None, context.rundir)]:
            registry.session(name).clear()
            context.say(f'Session "{name}" cleared')
    context.dump(Done())
