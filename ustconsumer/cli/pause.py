# SPDX-License-Identifier: MIT
"""``drtrace pause``: record nothing until the next start; buffers and trace stay as they are."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", nargs="?", metavar="NAME", help="default: the current one")


def run(arguments: argparse.Namespace, context: Context) -> None:
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        warnings = session.pause()
        for line in warnings:
            context.warn(line)
        context.say(f"Tracing paused for session {session.name}")
        context.dump(Done(warnings=warnings))
