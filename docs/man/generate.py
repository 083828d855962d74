# SPDX-License-Identifier: MIT
"""Write the manual pages from what the programs say of their options.

Run it after a change of options: `python docs/man/generate.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import consumerd.__main__
import consumerd.relay
import sessiond.__main__
from ustconsumer.cli.grammar import Argument, arguments_of, describe, verbs
from ustconsumer.cli.run import parser_of

__all__ = ["main", "pages"]

_HERE = Path(__file__).parent
_GENERAL = "general options"
_ENVIRONMENT = [
    ("LTTNG_HOME", "directory of the per-user registry and of traces, in place of HOME"),
    ("LTTNG_UST_CTL_PATH", "run directory of the registry, as of liblttng-ust 2.15"),
    ("DRTRACE_SESSION", "the current recording session, in place of the one last created"),
]
_FILES = [
    ("~/.lttng/", "run directory of the per-user registry; the current session; saved sessions"),
    ("/var/run/lttng/", "run directory of the global registry, root's"),
    ("~/lttng-traces/", "where traces go unless an output is named"),
]
_STATUSES = [
    ("0", "done"),
    ("1", "refused, or wrong options"),
    ("2", "no such command or option"),
    ("3", "no connection to the registry, or it broke; for add-context: no such context"),
    ("4", "done, with warnings"),
]
_RECORD_STATUSES = [
    ("that of the command", "128 + N if signal N ended it"),
    ("125", "our own failure; with --strict 3 if events were lost"),
    ("126, 127", "the command cannot be run, is not found"),
]


def pages() -> dict[str, str]:
    """Return each page by its file's name."""
    found = {"drtrace.1": _overview()}
    for verb, summary in verbs():
        found[f"{_page(verb)}.1"] = _verb(verb, summary)
    found["ltt-sessiond.8"] = _daemon(
        sessiond.__main__.make_parser(),
        "session registry: sessions, and the programs they record",
        "Programs that are linked with liblttng-ust, and Python programs with ustconsumer.tracer, "
        "register with it; drtrace starts one where none runs. Root's in its default directory is "
        "the global one, for the programs of every user; any other is its user's own.",
        ["drtrace(1)", "ust-consumerd(8)"],
    )
    found["ust-consumerd.8"] = _daemon(
        consumerd.__main__.make_parser(),
        "write a recording session to disk, send it to a relay, or take a snapshot",
        "The registry starts one for each session that is recorded; by hand it takes a session "
        "that has none, or a snapshot beside the one there is.",
        ["drtrace(1)", "drtrace-consume(1)", "ltt-sessiond(8)"],
    )
    found["ust-relayd.8"] = _daemon(
        consumerd.relay.make_parser(),
        "receive traces from a network",
        "Takes what drtrace, lttng-consumerd and their snapshots send, and serves live viewers, as "
        "lttng-relayd does; between it and drtrace also compressed, encrypted and resumed.",
        ["drtrace(1)"],
    )
    return found


def main() -> None:
    """Write the pages beside this file, and remove those of verbs that are gone."""
    made = pages()
    for path in _HERE.glob("*.[18]"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (_HERE / name).write_text(text)


def _page(verb: str) -> str:
    return f"drtrace-{verb.replace(' ', '-')}"


def _text(text: str) -> str:
    """Return a text that roff takes as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def _head(name: str, section: int, summary: str) -> list[str]:
    return [
        '.\\" Made by docs/man/generate.py: change what --help says, and run it.',
        f'.TH {name.upper().replace("-", chr(92) + "-")} {section} "" "ustconsumer" "ustconsumer"',
        ".SH NAME",
        f"{_text(name)} \\- {_text(summary)}",
    ]


def _overview() -> str:
    lines = _head("drtrace", 1, "record LTTng user-space events without lttng-tools")
    lines += [
        ".SH SYNOPSIS",
        "\\fBdrtrace\\fR [\\fIGENERAL OPTIONS\\fR] \\fICOMMAND\\fR [\\fIOPTIONS\\fR]",
        ".SH DESCRIPTION",
        _text(
            "Records what programs with LTTng's tracepoints and Python programs emit, with the "
            "verbs, options and trace format of lttng. `drtrace record -- ./app` is all it takes; "
            "`drtrace view` shows the trace."
        ),
        ".SH COMMANDS",
    ]
    for verb, summary in verbs():
        lines += [".TP", f"\\fB{_text(verb)}\\fR (see \\fB{_text(_page(verb))}\\fR(1))"]
        lines.append(_text(f"{summary}."))
    general = [each for each in arguments_of("list") if each.group == _GENERAL]
    lines += _options("GENERAL OPTIONS", general)
    lines += _rows("ENVIRONMENT", _ENVIRONMENT) + _rows("FILES", _FILES)
    lines += _rows("EXIT STATUS", _STATUSES)
    others = ["ltt-sessiond(8)", "ust-consumerd(8)", "ust-relayd(8)", "lttng(1)", "babeltrace2(1)"]
    return _end(lines, others)


def _verb(verb: str, summary: str) -> str:
    parser, arguments = parser_of(verb), arguments_of(verb)
    lines = _head(_page(verb), 1, summary[0].lower() + summary[1:])
    lines += [".SH SYNOPSIS", _synopsis(f"drtrace {verb}", arguments), ".SH DESCRIPTION"]
    lines.append(_text(f"{summary}."))
    if parser.epilog:
        lines += [".PP", _text(" ".join(parser.epilog.split()))]
    lines += _options("ARGUMENTS", [each for each in arguments if not each.flags])
    own = [each for each in arguments if each.flags and each.group != _GENERAL]
    lines += _options("OPTIONS", own)
    lines += _options("GENERAL OPTIONS", [each for each in arguments if each.group == _GENERAL])
    lines += _rows("EXIT STATUS", _RECORD_STATUSES if verb == "record" else _STATUSES)
    return _end(lines, ["drtrace(1)"])


def _daemon(parser: argparse.ArgumentParser, summary: str, text: str, also: list[str]) -> str:
    lines = _head(parser.prog, 8, summary)
    kinds = list(_kinds(parser))
    lines.append(".SH SYNOPSIS")
    for name, kind in kinds:
        lines += [_synopsis(f"{parser.prog} {name}", describe(kind)), ".br"]
    if not kinds:
        lines.append(_synopsis(parser.prog, describe(parser)))
    lines += [".SH DESCRIPTION", _text(text)]
    for name, kind in kinds:
        lines += _options(f"{name.upper()}", describe(kind))
    if not kinds:
        lines += _options("OPTIONS", describe(parser))
    lines += _rows("ENVIRONMENT", _ENVIRONMENT[:2])
    return _end(lines, also)


def _kinds(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _synopsis(command: str, arguments: list[Argument]) -> str:
    words = [f"\\fB{_text(command)}\\fR", "[\\fIOPTIONS\\fR]"]
    for each in arguments:
        if not each.flags:
            shown = f"\\fI{_text(_shown(each))}\\fR"
            words.append(shown if each.required else f"[{shown}]")
    return " ".join(words)


def _shown(argument: Argument) -> str:
    return "|".join(argument.choices) if argument.choices else argument.placeholder


def _options(title: str, arguments: list[Argument]) -> list[str]:
    if not arguments:
        return []
    lines = [f".SH {title}"]
    for each in arguments:
        value = f" \\fI{_text(_shown(each))}\\fR" if each.placeholder else ""
        flags = ", ".join(f"\\fB{_text(flag)}\\fR" for flag in each.flags)
        lines += [".TP", f"{flags}{value}".strip(), _text(each.help or "see above")]
    return lines


def _rows(title: str, rows: list[tuple[str, str]]) -> list[str]:
    lines = [f".SH {title}"]
    for name, what in rows:
        lines += [".TP", f"\\fB{_text(name)}\\fR", _text(what)]
    return lines


def _end(lines: list[str], also: list[str]) -> str:
    names = [f"\\fB{_text(each.partition('(')[0])}\\fR({each[-2]})" for each in also]
    return "\n".join([*lines, ".SH SEE ALSO", ", ".join(names), ""])


if __name__ == "__main__":
    main()
