# SPDX-License-Identifier: MIT
"""``drtrace consume``: give a session the consumer it has not, or one with options."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.values import workers
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", nargs="?", metavar="SESSION", help="default: the current one")
    parser.add_argument(
        "kind",
        nargs="?",
        choices=("disk", "network"),
        help="where packets go (default: to the session's relay if it has one, else to disk)",
    )
    parser.add_argument(
        "--workers",
        type=workers,
        default=0,
        metavar="N",
        help="most threads that move packets at a time (default: 1; to compress as many as CPUs)",
    )
    parser.add_argument(
        "--direct",
        action="store_true",
        help="write past the page cache where sub-buffers have 1 MiB or more",
    )


def run(arguments: argparse.Namespace, context: Context) -> None:
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        holder = session.info().consumer
        if holder is not None:
            raise CommandError(
                f"session {session.name} has a {holder.kind} consumer (pid {holder.pid}): what is "
                "recorded is written already, and options count before the first `drtrace start`",
                "busy",
            )
        warnings = session.spawn_consumer(
            arguments.kind or "", workers=arguments.workers, direct=arguments.direct
        )
        for line in warnings:
            context.warn(line)
        context.say(f"Consumer started for session {session.name}")
        context.dump(Done(warnings=warnings))
