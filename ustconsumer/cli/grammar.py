# SPDX-License-Identifier: MIT
"""What the command line consists of, as data: for completion and manual pages."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from ustconsumer.cli.run import parser_of
from ustconsumer.cli.verbs import VERBS

__all__ = ["Argument", "arguments_of", "describe", "verbs"]

#: What a value is, by the destination or the placeholder of its argument.
_KINDS = {
    "session": "session",
    "sessions": "session",
    "SESSION": "session",
    "channel": "channel",
    "DIR": "file",
    "FILE": "file",
    "PATH": "file",
    "DIR|URL": "file",
    "DIR[:SIZE]": "file",
    "LEVEL": "level",
    "TYPE[,TYPE]...": "context",
}
#: Whose first argument names something that is not there yet.
_NEW = ("create", "load")


class Argument(NamedTuple):
    """An option, or a positional argument.

    Attributes
    ----------
    flags : tuple of str
        Empty for positional ones.
    placeholder : str
        Of its value; empty: it has none.
    kind : str
        What completes the value: "session", "channel", "context", "level", "file", or nothing.
    """

    flags: tuple[str, ...]
    placeholder: str
    kind: str
    choices: tuple[str, ...]
    help: str
    required: bool
    group: str


def verbs() -> Iterator[tuple[str, str]]:
    """Yield each verb and its summary."""
    for name, verb in VERBS.items():
        yield name, verb.summary


def arguments_of(verb: str) -> list[Argument]:
    """Return the arguments of a verb, general options last; those that help hides are left out."""
    return describe(parser_of(verb), verb)


def describe(parser: argparse.ArgumentParser, verb: str = "") -> list[Argument]:
    """Return the arguments of a parser."""
    found = []
    for group in parser._action_groups:
        for action in group._group_actions:
            if action.help != argparse.SUPPRESS:
                found.append(_argument(parser, action, str(group.title or ""), verb))
    return found


def _argument(
    parser: argparse.ArgumentParser, action: argparse.Action, group: str, verb: str
) -> Argument:
    takes = action.nargs != 0
    choices = tuple(map(str, action.choices or ())) if takes else ()
    placeholder = ""
    if takes:
        said = action.metavar if isinstance(action.metavar, str) else None
        placeholder = said or (action.dest.upper() if action.option_strings else action.dest)
    kind = _KINDS.get(action.dest) or _KINDS.get(placeholder, "")
    if kind == "level" and verb != "enable-event":
        kind = ""
    if not action.option_strings and verb in _NEW:
        kind = ""
    expanded = parser._get_formatter()._expand_help(action) if action.help else ""
    return Argument(
        flags=tuple(action.option_strings),
        placeholder=placeholder if takes else "",
        kind="" if choices or not takes else kind,
        choices=choices,
        help=" ".join(expanded.split()),
        required=not action.option_strings and action.nargs not in ("?", "*", "..."),
        group=group,
    )
