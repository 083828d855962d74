# SPDX-License-Identifier: MIT
"""``drtrace rotate``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", nargs="?", metavar="NAME", help="default: the current one")
    parser.add_argument(
        "-n", "--no-wait", action="store_true", help="do not wait until the chunk is complete"
    )


#: Before the verb it is the general one.
OWN_OPTIONS = ("-n",)


def run(arguments: argparse.Namespace, context: Context) -> None:
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        rotated = session.rotate(wait=not arguments.no_wait)
        where = f"Output files of session {session.name} rotated to {rotated.path}"
        if rotated.at_relay:
            where = (
                f"Trace chunk archive for session {session.name} is now readable on the relay: "
                f"{rotated.path}"
            )
        if rotated.complete:
            context.say(f"Session {session.name} successfully rotated\n{where}")
        else:
            to = "" if rotated.at_relay else f", to {rotated.path}"
            context.say(f"Rotation of session {session.name} under way{to}")
    context.dump(rotated)
