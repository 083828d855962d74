# SPDX-License-Identifier: MIT
"""``drtrace save``."""

from __future__ import annotations

import argparse

from ustconsumer.cli.context import Context
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", nargs="?", metavar="NAME", help="default: all sessions")
    parser.add_argument("-a", "--all", action="store_true", help="all sessions (the default)")
    parser.add_argument(
        "-o", "--output-path", metavar="DIR", help="directory (default: ~/.lttng/sessions)"
    )
    parser.add_argument(
        "-f", "--force", action="store_true", help="overwrite what was saved before"
    )


def run(arguments: argparse.Namespace, context: Context) -> None:
    from ustconsumer.client.sessionfiles import sessions_directory

    if arguments.all and arguments.session:
        raise UsageError("--all and the name of a session: give one of them")
    directory = arguments.output_path or sessions_directory()
    with context.connect() as registry:
        names = (
            [arguments.session]
            if arguments.session
            else sorted(info.name for info in registry.sessions())
        )
        for name in names:
            for line in registry.session(name).save(directory, overwrite=arguments.force):
                context.warn(line, harmless=True)
            if arguments.session:
                context.say(f"Session {name} saved successfully in {directory}.")
        if not arguments.session:
            context.say(f"All sessions have been saved successfully in {directory}.")
    context.dump(Done())
