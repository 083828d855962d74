# SPDX-License-Identifier: MIT
"""``drtrace list``."""

from __future__ import annotations

import argparse

from ustconsumer.cli.context import Context
from ustconsumer.cli.options import add_domain
from ustconsumer.cli.show import describe_loggers, describe_session, shown_state, trace_outputs
from ustconsumer.errors import UsageError

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", nargs="?", metavar="SESSION", help="show this one in detail")
    add_domain(parser, "loggers of running programs with lttngust")


def run(arguments: argparse.Namespace, context: Context) -> None:
    if arguments.userspace and not arguments.session:
        raise UsageError(
            "tracepoints of running programs cannot be listed: "
            "`drtrace apps` lists the programs, `drtrace list` the sessions"
        )
    with context.connect() as registry:
        if arguments.python and not arguments.session:
            programs = registry.loggers()
            context.say(describe_loggers(programs))
            context.dump(programs)
            return
        if arguments.session:
            info = registry.session(arguments.session).info()
            context.say(describe_session(info))
            context.dump(info)
            return
        sessions = sorted(registry.sessions(), key=lambda session: session.name)
    context.dump(sessions)
    if not sessions:
        context.say("Currently no available recording session")
        return
    lines = ["Available recording sessions:"]
    for number, info in enumerate(sessions, 1):
        lines.append(f"  {number}) {info.name} [{shown_state(info)}]")
        lines += trace_outputs(info)
        lines.append("")
    lines.append("Use drtrace list <session_name> for more details")
    context.say("\n".join(lines))
