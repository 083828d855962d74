# SPDX-License-Identifier: MIT
"""``drtrace add-trigger``: options belong to the ``--condition`` or ``--action`` before them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ustconsumer.cli.context import Context
from ustconsumer.errors import UsageError

__all__ = ["configure", "prepare", "run"]

_CONDITION = "event-rule-matches"
_ACTIONS = "notify, snapshot-session, start-session or stop-session"


class _Ordered(argparse.Action):
    """Keeps options in their order: where one stands says what it belongs to."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        texts = [values] if isinstance(values, str) else [str(each) for each in values or ()]
        ordered = getattr(namespace, "ordered", None) or []
        namespace.ordered = [*ordered, (self.option_strings[-1], texts)]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        f"{parser.prog} [--name NAME] [--owner-uid UID] --condition {_CONDITION} "
        "--type=user [RULE OPTIONS] --action ACTION [ACTION OPTIONS] [--action ...]"
    )

    def add(group: Any, *flags: str, metavar: str, help_: str, nargs: str | None = None) -> None:
        group.add_argument(*flags, action=_Ordered, metavar=metavar, help=help_, nargs=nargs)

    add(parser, "--name", metavar="NAME", help_="of the trigger (default: triggerN); behind "
        "--condition a pattern of event names (default: *); behind --action snapshot-session the "
        "first part of the name of the snapshot's directory")  # fmt: skip
    add(parser, "--owner-uid", metavar="UID", help_="whose trigger it is (root only)")
    rule = parser.add_argument_group("condition")
    add(rule, "--condition", metavar="CONDITION", help_=_CONDITION)
    add(rule, "-t", "--type", metavar="TYPE", help_="user, or user:tracepoint")
    add(rule, "-x", "--exclude-name", metavar="PATTERN", help_="event names left out; may be "
        "repeated, commas between several")  # fmt: skip
    add(rule, "-l", "--log-level", metavar="RANGE", help_="INFO: exactly; INFO..: at least as "
        "severe; ..: all")  # fmt: skip
    add(rule, "-f", "--filter", metavar="EXPR", help_="only events of which this is true")
    add(rule, "--capture", metavar="EXPR", help_="field or context that a notification carries: "
        "name, name[3], $ctx.vpid, $app.provider:name; may be repeated")  # fmt: skip
    action = parser.add_argument_group("actions, in their order")
    add(action, "--action", metavar="ACTION", nargs="+", help_=f"{_ACTIONS}; all but the first "
        "with a session behind")  # fmt: skip
    add(action, "--rate-policy", metavar="POLICY", help_="every:N, each Nth time; once-after:N, "
        "the Nth time only (default: always)")  # fmt: skip
    add(action, "--max-size", metavar="SIZE", help_="of a snapshot: bytes of packets at most, "
        "k/M/G allowed")  # fmt: skip
    add(action, "--path", metavar="DIR", help_="of a snapshot: where it gets its directory")
    add(action, "--url", metavar="URL", help_="of a snapshot: of a relay, or file:// and DIR")


def prepare(argv: Sequence[str]) -> list[str]:
    """Take ``--action=NAME`` apart: argparse would not look for a session behind it."""
    prepared = []
    for argument in argv:
        option, sign, value = argument.partition("=")
        prepared += [option, value] if option == "--action" and sign else [argument]
    return prepared


def run(arguments: argparse.Namespace, context: Context) -> None:
    from ustconsumer.cli.triggers import Option, trigger_of

    options = [Option(*each) for each in getattr(arguments, "ordered", None) or ()]
    try:
        wanted = trigger_of(options)
    except argparse.ArgumentTypeError as error:
        raise UsageError(str(error)) from None
    event = wanted.event
    with context.connect(start=True) as registry:
        trigger = registry.add_trigger(
            event.pattern,
            name=wanted.name,
            actions=wanted.actions,
            captures=wanted.captures,
            loglevel_type=event.loglevel_type,
            loglevel=event.loglevel,
            exclusions=event.exclusions,
            filter=event.filter or None,
            uid=wanted.uid,
        )
    for line in trigger.problems:
        context.warn(line)
    context.say(f"Added trigger `{trigger.name}`.")
    context.dump(trigger)
