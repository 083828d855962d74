# SPDX-License-Identifier: MIT
"""``drtrace record``: run a command, record it, say what was recorded."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from ustconsumer.cli.context import Context
from ustconsumer.cli.destinations import (
    add_relay_options,
    as_typed,
    say_values,
    to_directory,
    to_relay,
)
from ustconsumer.cli.options import add_buffer_options, channel_options
from ustconsumer.cli.terminal import interrupt_raises
from ustconsumer.cli.values import names, workers
from ustconsumer.errors import UsageError
from ustconsumer.profiles import PROFILES

if TYPE_CHECKING:
    from ustconsumer.client.record import Recording
    from ustconsumer.client.totals import Totals

__all__ = ["configure", "prepare", "run"]

_STRICT = 3
#: Two events a call: a full buffer is the rule with the default of 2 MiB per CPU.
_CALLS_CHANNEL: dict[str, Any] = {"subbuf_size": 2 << 20, "num_subbuf": 8}


def prepare(argv: list[str]) -> list[str]:
    return say_values(argv)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = f"{parser.prog} [OPTIONS] [--] CMD [ARGS]..."
    parser.description = (
        "Run a command and record it, with a session daemon of its own, which ends with it: "
        "--rundir, --group and -n change nothing."
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD", help="what to run")
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="directory of the trace, absent or empty "
        "(default: ~/lttng-traces/CMD-YYYYmmdd-HHMMSS, or none with --to)",
    )
    parser.add_argument(
        "--to",
        metavar="URL",
        help="send the trace to this relay, net://HOST[:CTRL[:DATA]][/PATH], with -o also to DIR; "
        "net6:// for IPv6; to ust-relayd net+zstd, net+tls, net+tls+zstd",
    )
    parser.add_argument(
        "-e",
        "--event",
        action="append",
        type=names,
        dest="events",
        metavar="PATTERN",
        help="record these events; may be repeated (default: all the "
        "programs emit, without state dumps: -e '*' has these too; or the profile's)",
    )
    parser.add_argument(
        "-c",
        "--context",
        action="append",
        type=names,
        dest="contexts",
        metavar="TYPE",
        help="record these context fields; may be repeated (default: vpid, vtid, procname, or "
        "the profile's)",
    )
    profiles = "; ".join(f"{name}: {row.summary}" for name, row in PROFILES.items())
    parser.add_argument(
        "--profile",
        choices=PROFILES,
        metavar="NAME",
        help=f"what programs of a kind need, -e and -c add to it ({profiles})",
    )
    parser.add_argument(
        "--preload",
        action="append",
        type=names,
        metavar="LIST",
        help="libraries of LTTng-UST to start CMD with: libc, pthread, dl, cyg or cyg-fast, fork; "
        "fork is added unless none is in the list or CMD is Python",
    )
    parser.add_argument(
        "--python-calls",
        nargs="*",
        type=names,
        metavar="MODULE",
        help="record calls of functions in Python programs that need not know of it, of these "
        "modules and packages (default: of all); -- before CMD ends the list; records python:*, "
        "to which -e adds, unless -e names events of python",
    )
    parser.add_argument(
        "--wait-all",
        action="store_true",
        help="record until CMD and all traced programs it started have ended (default: until CMD "
        "has); a signal then ends the recording",
    )
    parser.add_argument(
        "--workers",
        type=workers,
        default=0,
        metavar="N",
        help="most threads that write the trace (default: 1; with --zstd as many as CPUs)",
    )
    parser.add_argument(
        "--direct",
        action="store_true",
        help="write past the page cache where sub-buffers have 1 MiB or more",
    )
    add = parser.add_argument_group("flight recorder").add_argument
    add(
        "--snapshot",
        action="store_true",
        help="keep the newest events in memory (default: 8 sub-buffers of 512k per CPU, with "
        "--buffers-pid of 64k) and write nothing until something happens",
    )
    add(
        "--snapshot-on",
        action="append",
        type=names,
        metavar="WHAT",
        help="write them on this, and go on; may be repeated. exit: CMD has ended (with "
        "--wait-all: all have; the default); crash: a signal killed CMD or a program it left "
        "behind, or CMD ended with 128 + a signal's number, as shells do; not any other status; a "
        "signal to drtrace, by name or number (USR1): CMD does not get it; an event of a program, "
        "a pattern with a colon ('shop:error'): at most one snapshot a second",
    )
    add(
        "--snapshot-filter",
        default="",
        metavar="EXPRESSION",
        help="of the events of --snapshot-on only those of which this is true ('code > 4')",
    )
    add_buffer_options(parser)
    add_relay_options(parser)
    parser.add_argument(
        "--strict",
        action="store_true",
        help=f"exit with {_STRICT} if an event was discarded, or a snapshot lacks a packet",
    )


def run(arguments: argparse.Namespace, context: Context) -> int:
    from ustconsumer.client.defaults import CONTEXTS
    from ustconsumer.client.flight import flight_channel
    from ustconsumer.client.record import record_command
    from ustconsumer.protocol.control import ChannelOptions

    interrupt_raises()
    command = as_typed(arguments.command)
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        if arguments.python_calls:
            raise UsageError(
                "no command to record: put -- between the modules of --python-calls and the command"
            )
        raise UsageError("no command to record: put one behind the options")
    profile = PROFILES.get(arguments.profile)
    base = None if profile is None else ChannelOptions(**profile.channel)
    events, contexts = _flat(arguments.events), _flat(arguments.contexts)
    calls = None if arguments.python_calls is None else _flat(arguments.python_calls)
    if calls is not None:
        base = base or ChannelOptions(**_CALLS_CHANNEL)
        if not any(pattern.startswith("python:") for pattern in events):
            events = ["python:*", *events]
    on = _flat(arguments.snapshot_on)
    snapshot = arguments.snapshot or bool(on)
    if snapshot:
        base = flight_channel(base, arguments.buffers or "uid")
    if profile is not None:
        events = [*profile.events, *events]
        contexts = [*dict.fromkeys([*profile.contexts, *contexts])]
    output, url = to_directory(arguments.output, arguments.to, "--to")
    recording = record_command(
        command,
        output=output,
        events=events,
        channel=channel_options(arguments, base, partial(context.warn, harmless=True)),
        contexts=contexts or CONTEXTS,
        warn=context.warn,
        take_over=True,
        wait_all=arguments.wait_all,
        preload=[*(profile.preload if profile else ()), *_flat(arguments.preload)],
        variables=profile.environment if profile else None,
        workers=arguments.workers,
        direct=arguments.direct,
        python_calls=calls,
        snapshot_on=on if snapshot else None,
        snapshot_filter=arguments.snapshot_filter,
        destination=to_relay(arguments, url or "", "", 0),
    )
    context.say(f"{_summary(recording)}, {recording.seconds:.3f} s")
    if recording.relay:
        context.say(recording.relay)
    if recording.relay_path:
        context.say(recording.relay_path)
    if recording.output:
        context.say(recording.output)
    context.dump(recording)
    sys.stdout.flush()
    lossless = (
        recording.totals is not None
        and not recording.totals.discarded
        and not any(snapshot.lost for snapshot in recording.snapshots)
    )
    if arguments.strict and not lossless and recording.status == 0:
        return _STRICT
    return recording.status


def _summary(recording: Recording) -> str:
    if recording.no_snapshot:
        return recording.no_snapshot
    totals = recording.totals
    taken = len(recording.snapshots)
    kept = f"in {_number(taken, 'snapshot')}" if taken else "recorded"
    if totals is None:
        return f"unknown number of events {kept}"
    processes = _number(totals.processes, "process", "es")
    packets, size = _number(totals.packets, "packet"), _number(totals.bytes, "byte")
    if totals.recorded is None:
        return (
            f"{packets} sent, {_number(totals.discarded, 'event')} discarded, {processes}, {size}"
        )
    return (
        f"{_number(totals.recorded, 'event')} {kept}, {totals.discarded} discarded, {processes}, "
        f"{packets}, {size}{_ratio(totals)}"
    )


def _ratio(totals: Totals) -> str:
    if totals.stored in (0, totals.bytes):
        return ""
    return f", compressed {totals.bytes / totals.stored:.1f}x"


def _flat(lists: list[list[str]] | None) -> list[str]:
    return [name for names_ in lists or () for name in names_]


def _number(count: int, noun: str, plural: str = "s") -> str:
    return f"{count} {noun}{'' if count == 1 else plural}"
