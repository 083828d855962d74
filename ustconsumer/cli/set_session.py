# SPDX-License-Identifier: MIT
"""``drtrace set-session``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", metavar="NAME", help="an existing recording session")


def run(arguments: argparse.Namespace, context: Context) -> None:
    with context.connect() as registry:
        name = registry.session(arguments.session).name
    try:
        current.remember(name, context.rundir)
    except OSError as error:
        raise UsageError(
            f"cannot make {name} the current session ({error.strerror}): use -s {name}"
        ) from None
    context.say(f"Session set to {name}")
    context.dump(Done())
