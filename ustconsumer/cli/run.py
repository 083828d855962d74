# SPDX-License-Identifier: MIT
"""From a command line to a verb, and from its outcome to an exit status."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ustconsumer.cli.context import Context
from ustconsumer.cli.terminal import HelpFormatter
from ustconsumer.cli.verbs import VERBS, Verb
from ustconsumer.errors import (
    CommandError,
    ConnectionClosedError,
    ProtocolError,
    UsageError,
    UstConsumerError,
)

__all__ = ["parser_of", "run"]

_FAILED, _UNDEFINED, _FATAL, _WARNING = 1, 2, 3, 4
_WITH_VALUE = ("--rundir", "--group")
_PROGRAM = "drtrace"
_MODULE = str.maketrans("- ", "__")
#: First words of verbs of two words.
_GROUPS = {name.split()[0] for name in VERBS if " " in name}


class _Parser(argparse.ArgumentParser):
    """Reports a wrong option in one line; with ``-q`` before it in none, as ``lttng``."""

    failure = _FAILED

    def parse(self, argv: list[str]) -> argparse.Namespace:
        """Parse a whole command line."""
        self._parsed = argparse.Namespace()
        return self.parse_args(argv, self._parsed)

    def error(self, message: str) -> NoReturn:
        status = self.failure
        if status == _FAILED and message.startswith("unrecognized arguments"):
            status = _UNDEFINED
        if getattr(self._parsed, "quiet", False):
            self.exit(status)
        # An argument may have line ends in it.
        self.exit(status, f"Error: {' '.join(message.split())}: see `{self.prog} --help`\n")


class _TextFormatter(HelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Leaves the table of commands as it is."""


def run(argv: list[str]) -> int:
    """Run one command line; return the exit status."""
    name, rest = _split(argv)
    if name == "help":
        name, rest = _split(rest)
        rest = [*rest, "--help"]
    if name in _GROUPS:
        action, rest = _split(rest)
        if action is None and {"-h", "--help"} & {*rest}:
            print(_actions(name))
            return 0
        if action is None:
            print(f"Error: {name}: say what to do: see `{_PROGRAM} {name} --help`", file=sys.stderr)
            return _FAILED
        name = f"{name} {action}"
    if name is not None and name not in VERBS:
        shown = " ".join(name.split())
        if not {"-q", "--quiet"} & {*rest}:
            print(
                f"{_PROGRAM}: {shown} is not a {_PROGRAM} command. See `{_PROGRAM} --help`.",
                file=sys.stderr,
            )
        return _UNDEFINED
    try:
        status = _status(name, rest)
        # Now, while it can be handled: the interpreter's own flush at exit comes too late.
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read our output has enough; keep the interpreter from complaining at exit.
        _discard_output()
        return _FAILED
    except OSError as error:
        # What a verb has no word for: the disk behind our output is full, memory is short.
        _discard_output()
        print(f"Error: {error.strerror or error}{_named(error)}", file=sys.stderr)
        return VERBS[name].failure if name else _FAILED


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _named(error: OSError) -> str:
    return f": {error.filename}" if error.filename else ""


def _status(name: str | None, rest: list[str]) -> int:
    try:
        if name is None:
            return _without_verb(rest)
        return _run_verb(name, VERBS[name], rest)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else _FAILED


def _split(argv: list[str]) -> tuple[str | None, list[str]]:
    """Take the verb out of the arguments: the first that is no option and no option's value."""
    position = 0
    while position < len(argv):
        argument = argv[position]
        if not argument.startswith("-"):
            # Before the verb it is the general one, whatever the verb means by it.
            general = ["--no-sessiond" if each == "-n" else each for each in argv[:position]]
            return argument, general + argv[position + 1 :]
        position += 2 if argument in _WITH_VALUE else 1
    return None, argv


def _module_of(name: str) -> Any:
    return importlib.import_module(f"ustconsumer.cli.{name.translate(_MODULE)}")


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of a verb, general options included."""
    return _parser_of(name)


def _parser_of(name: str) -> _Parser:
    verb, module = VERBS[name], _module_of(name)
    parser = _Parser(
        prog=f"{_PROGRAM} {name}",
        description=f"{verb.summary}.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.failure = verb.failure
    module.configure(parser)
    _add_global_options(parser, getattr(module, "OWN_OPTIONS", ()))
    return parser


def _run_verb(name: str, verb: Verb, argv: list[str]) -> int:
    module, parser = _module_of(name), _parser_of(name)
    prepare = getattr(module, "prepare", None)
    arguments = parser.parse(argv if prepare is None else prepare(argv))
    if arguments.version and name != "version":
        return _run_verb("version", VERBS["version"], [])
    context = Context(arguments)
    try:
        status: int | None = module.run(arguments, context)
        # A reader that went away must be noticed here, not at the interpreter's exit.
        sys.stdout.flush()
    except UstConsumerError as error:
        if getattr(error, "kind", "") == "already":
            # As with `lttng`: nothing was to be done, and that is worth a word.
            context.warn(str(error))
            return _WARNING
        context.error(str(error))
        return _status_of(error, verb)
    if status is not None:
        return status
    return _WARNING if context.warned else 0


def _status_of(error: UstConsumerError, verb: Verb) -> int:
    own = getattr(error, "status", None)
    if isinstance(own, int):
        return own
    if verb.failure != _FAILED or isinstance(error, UsageError | CommandError):
        return verb.failure
    if isinstance(error, ConnectionClosedError | ProtocolError):
        return _FATAL
    return verb.failure


def _add_global_options(parser: argparse.ArgumentParser, taken: Sequence[str] = ()) -> None:
    """Add them, but for short names that the verb has taken."""
    group = parser.add_argument_group("general options")
    add = group.add_argument
    add("--rundir", metavar="DIR", help="run directory of the session daemon")
    add("--group", help="Unix group that may use a global session daemon started by us")
    flags = [flag for flag in ("-n", "--no-sessiond") if flag not in taken]
    add(*flags, action="store_true", help="do not start a session daemon")
    add("-q", "--quiet", action="store_true", help="print nothing, not even errors")
    add("-v", "--verbose", action="count", default=0, help="say more")
    add("--json", action="store_true", help="print results as JSON")
    add("-V", "--version", action="store_true", help="show version information")


def _without_verb(argv: list[str]) -> int:
    parser = _Parser(
        prog=_PROGRAM,
        usage=f"{_PROGRAM} [GENERAL OPTIONS] COMMAND [COMMAND OPTIONS]",
        description="Record LTTng user-space events without lttng-tools.",
        epilog=_commands(),
        formatter_class=_TextFormatter,
        allow_abbrev=False,
    )
    _add_global_options(parser)
    arguments = parser.parse(argv)
    if arguments.version:
        return _run_verb("version", VERBS["version"], [])
    parser.print_help()
    return _FAILED


def _commands() -> str:
    lines = []
    section = ""
    for name, verb in VERBS.items():
        if verb.section != section:
            section = verb.section
            lines += ["", f"{section}:"]
        lines.append(_row(name, verb))
    return "\n".join([*lines[1:], "", f"`{_PROGRAM} COMMAND --help` shows the help of a command."])


def _actions(group: str) -> str:
    """Return the help of the verbs that begin with a word."""
    rows = [_row(name, verb) for name, verb in VERBS.items() if name.startswith(f"{group} ")]
    usage = f"usage: {_PROGRAM} {group} ACTION [OPTIONS]"
    return "\n".join([usage, "", *rows, "", f"`{_PROGRAM} {group} ACTION --help` shows more."])


def _row(name: str, verb: Verb) -> str:
    return f"  {name:<22}{verb.summary}"
