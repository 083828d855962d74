# SPDX-License-Identifier: MIT
"""What ``drtrace track`` and ``drtrace untrack`` share."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.options import add_domain, add_session
from ustconsumer.cli.values import names
from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.control import Done

__all__ = ["ATTRIBUTES", "add_attributes", "run_tracking"]

#: attribute -> LTTng's words for it
ATTRIBUTES = {
    "vpid": "virtual process ID",
    "vuid": "virtual user ID",
    "vgid": "virtual group ID",
    "name": "program name",
}


def add_attributes(parser: argparse.ArgumentParser) -> None:
    """Add an option for each attribute of processes."""
    add = parser.add_argument
    for flags, attribute, what in (
        (("--vpid", "--pid"), "vpid", "process ids"),
        (("--vuid",), "vuid", "user ids or names"),
        (("--vgid",), "vgid", "group ids or names"),
        (("--name",), "name", "names of programs, * matches anything"),
    ):
        add(
            *flags,
            dest=attribute,
            nargs="?",
            type=names,
            const=[],
            metavar="VALUE[,VALUE]...",
            help=f"{what}; with --all and no value: all of them",
        )
    add("-a", "--all", action="store_true", help="all values of the attributes named")
    add_domain(parser)
    add_session(parser)


def run_tracking(arguments: argparse.Namespace, context: Context, *, remove: bool) -> None:
    """Change the trackers."""
    wanted: dict[str, list[str]] = {
        name: getattr(arguments, name)
        for name in ATTRIBUTES
        if getattr(arguments, name) is not None
    }
    if not wanted:
        raise UsageError("At least one process attribute must be specified: such as --vpid=42")
    for name, values in wanted.items():
        if arguments.all and values:
            raise UsageError(f"--all and values of --{name}: give one of them")
        if not arguments.all and not values:
            raise UsageError(
                f"No process attribute value specified for the {ATTRIBUTES[name]} tracker: "
                "give values, or --all"
            )
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        change = session.untrack if remove else session.track
        for name, values in wanted.items():
            for value in values or [""]:
                try:
                    warnings = change(name, value)
                except CommandError as error:
                    if error.kind != "already":
                        raise
                    # It is as it was to be: worth a word, and no more, as with lttng.
                    context.warn(str(error), harmless=True)
                    continue
                for line in warnings:
                    context.warn(line)
                context.say(_said(name, value, remove))
    context.dump(Done())


def _said(name: str, value: str, remove: bool) -> str:
    title = ATTRIBUTES[name]
    if not value:
        policy = "exclude all" if remove else "include all"
        return f"{title[0].upper()}{title[1:]} tracking policy set to `{policy}`"
    if remove:
        return f"Removed {value} from the {title} tracker inclusion set"
    return f"Added {value} to the {title} tracker inclusion set"
