# SPDX-License-Identifier: MIT
"""``drtrace snapshot del-output``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.options import add_session
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="ID|NAME", help="of the output to remove")
    add_session(parser)


def run(arguments: argparse.Namespace, context: Context) -> None:
    output = arguments.output
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        session.del_snapshot_output(output)
    named = f"id {output}" if output.isdigit() else output
    context.say(f"Snapshot output {named} successfully deleted for session {session.name}")
    context.dump(Done())
