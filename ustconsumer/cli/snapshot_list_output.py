# SPDX-License-Identifier: MIT
"""``drtrace snapshot list-output``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.options import add_session
from ustconsumer.cli.places import shown_output

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_session(parser)


def run(arguments: argparse.Namespace, context: Context) -> None:
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        outputs = session.snapshot_outputs()
    lines = [f"Snapshot output list for session {session.name}"]
    lines += [f"    {shown_output(output)}" for output in outputs] or ["    None"]
    context.say("\n".join(lines))
    context.dump(outputs)
