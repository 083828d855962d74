# SPDX-License-Identifier: MIT
"""``drtrace destroy``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.losses import warn_of_losses
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", nargs="?", metavar="NAME", help="default: the current one")
    parser.add_argument("-s", dest="session_option", metavar="SESSION", help=argparse.SUPPRESS)
    parser.add_argument("-a", "--all", action="store_true", help="destroy all sessions")


def run(arguments: argparse.Namespace, context: Context) -> None:
    named = arguments.session or arguments.session_option
    if arguments.all and named:
        raise UsageError("all sessions, or one: leave out --all or the name")
    with context.connect() as registry:
        if arguments.all:
            names = [session.name for session in registry.sessions()]
        else:
            names = [current.choose(named, context.rundir)]
        for name in names:
            session = registry.session(name)
            # Events lost before a stop were reported by it.
            active = session.info().state == "active"
            context.say(f"Destroying session {name}..")
            warnings = session.stop() if active else []
            if active:
                warn_of_losses(session, context)
            for line in warnings + session.destroy():
                context.warn(line)
            current.forget(name, context.rundir)
            context.say(f"Session {name} destroyed")
        if not names:
            context.say("No session to destroy")
    context.dump(Done())
