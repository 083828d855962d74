# SPDX-License-Identifier: MIT
"""``drtrace start``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", nargs="?", metavar="NAME", help="default: the current one")
    parser.add_argument("-s", dest="session_option", metavar="SESSION", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace, context: Context) -> None:
    with context.connect() as registry:
        named = arguments.session or arguments.session_option
        session = registry.session(current.choose(named, context.rundir))
        warnings = session.start()
        destination = session.info().destination
        if destination.url:
            from ustconsumer.client.reach import why_unreachable

            if problem := why_unreachable(destination):
                warnings.append(f"{problem}: events wait in the buffers, then they are discarded")
        for line in warnings:
            context.warn(line)
        context.say(f"Tracing started for session {session.name}")
        context.dump(Done(warnings=warnings))
