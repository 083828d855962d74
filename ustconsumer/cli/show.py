# SPDX-License-Identifier: MIT
"""A session in the words of ``lttng list``."""

from __future__ import annotations

from collections.abc import Iterable

from ustconsumer.abi.loglevels import LOGLEVELS
from ustconsumer.cli.places import shown_places
from ustconsumer.cli.terminal import folded
from ustconsumer.protocol.agent import PYTHON_LEVELS, traced_as
from ustconsumer.protocol.control import (
    ChannelInfo,
    Destination,
    EventInfo,
    LoggingProgram,
    SessionInfo,
    StreamInfo,
)

__all__ = ["describe_session", "shown_state", "trace_outputs"]

_TRACKED = {
    "vpid": "Virtual process IDs",
    "vuid": "Virtual user IDs",
    "vgid": "Virtual group IDs",
    "name": "Program names",
}
_LEVEL_RELATIONS = {1: "<=", 2: "=="}


def shown_state(info: SessionInfo) -> str:
    """Return "active", "paused", or "inactive": LTTng's word also for one never started."""
    state = info.state if info.state in ("active", "paused") else "inactive"
    return f"{state} snapshot" if info.snapshot else state


def describe_session(info: SessionInfo, *, load: bool = False) -> str:
    """Return the details of a session, many lines; with ``load``, how full its buffers are."""
    lines = [f"Recording session {info.name}: [{shown_state(info)}]"]
    lines += trace_outputs(info)
    lines += _ways(info.destination)
    if info.shm_path:
        lines.append(f"    Buffer files: {info.shm_path}")
    lines += _schedules(info)
    lines.append("")
    lines += [f"    Consumer:     {_consumer(info)}", f"    Processes:    {len(info.processes)}"]
    lines += _written(info)
    for label, texts in (("Slow", info.slow), ("Problem", info.problems)):
        for text in texts:
            lines += folded(f"    {label + ':':<14}", text)
    lines += ["", "=== Domain: User space ===", "", f"Buffering scheme: {_scheme(info)}", ""]
    lines += _tracked(info)
    lines += ["Channels:", "-------------"]
    for channel in info.channels:
        streams = [stream for stream in info.streams if stream.channel == channel.name]
        lines += _channel(channel, streams, load)
    if not info.channels:
        lines += ["None", ""]
    rules = [rule for channel in info.channels for rule in channel.events if rule.domain]
    if rules:
        lines += ["=== Domain: Python logging ===", "", "Events (Logger name):"]
        lines += ["---------------------", *(f"    - {_logger(rule)}" for rule in rules), ""]
    return "\n".join(lines[:-1])


def describe_loggers(programs: Iterable[LoggingProgram]) -> str:
    """Return the loggers of programs, as ``lttng list --python`` has them."""
    lines = ["python events (Logger name):", "-------------------------", ""]
    for program in programs:
        lines.append(f"PID: {program.pid} - Name: {program.name}")
        lines += [f"      - {name}" for name in program.loggers]
        lines.append("")
    return "\n".join(lines if len(lines) > 3 else [*lines[:2], "None"])


def trace_outputs(info: SessionInfo) -> list[str]:
    """Return the lines on where the trace goes, and how often viewers hear of idle streams."""
    if info.snapshot:
        return []
    places = shown_places(info.output, info.destination)
    lines = [f"    Trace output: {place}" for place in places]
    if info.destination.live_us:
        lines.append(f"    Live timer interval: {info.destination.live_us} us")
    return lines


def _schedules(info: SessionInfo) -> list[str]:
    schedule, lines = info.rotation, []
    if schedule.timer_us:
        lines.append(f"    timer period: {schedule.timer_us} us")
    if schedule.size:
        lines.append(f"    size threshold: {schedule.size} bytes")
    return ["", "Automatic rotation schedules:", *lines] if lines else []


def _ways(destination: Destination) -> list[str]:
    lines = []
    if destination.zstd:
        lines.append(f"    Compression:  zstd, level {destination.zstd}")
    if destination.spool:
        limit = f" (at most {destination.spool_size} bytes)" if destination.spool_size else ""
        lines.append(f"    Spool:        {destination.spool}{limit}")
    return lines


def _consumer(info: SessionInfo) -> str:
    if info.consumer is None:
        return "none"
    return f"{info.consumer.kind} (pid {info.consumer.pid})"


def _written(info: SessionInfo) -> list[str]:
    if info.consumer is None:
        return []
    stats, lines = info.consumer.stats, []
    # Counted at each stop.
    if stats.packets and info.state != "active":
        label = "Written:" if info.output else "Sent:"
        lines.append(f"    {label:<14}{stats.packets} packets, {stats.bytes} bytes")
    if stats.place:
        lines.append(f"    At the relay: {stats.place}")
    if stats.repaired:
        lines += folded(
            "    Repaired:     ",
            f"{stats.repaired} packets that a killed process had left unfinished",
        )
    if stats.unwritten_bytes:
        lines += folded(
            "    Not written:  ",
            f"{stats.unwritten_events} events, {stats.unwritten_bytes} bytes that the output did "
            "not take",
        )
    return lines


def _tracked(info: SessionInfo) -> list[str]:
    """Return what programs are recorded; ``name`` is ours, and shown where it is used."""
    lines = ["Tracked process attributes"]
    for attribute, label in _TRACKED.items():
        values = info.trackers.get(attribute)
        if values is None and attribute == "name":
            continue
        shown = "all" if values is None else ", ".join(map(_quoted, values)) or "none"
        lines.append(f"  {label + ':':<21} {shown}")
    return [*lines, ""]


def _quoted(value: str) -> str:
    return value if value.isdigit() else f"`{value}`"


def _scheme(info: SessionInfo) -> str:
    # One for all channels of a session, as with LTTng.
    per_process = any(channel.options.buffers == "pid" for channel in info.channels)
    return "per-process" if per_process else "per-user"


def _channel(channel: ChannelInfo, streams: Iterable[StreamInfo], load: bool) -> list[str]:
    options = channel.options
    lines = [f"- {channel.name}: [{_enabled(channel.enabled)}]", "", "    Attributes:"]
    lines += [
        f"      Event-loss mode:  {options.mode}",
        f"      Sub-buffer size:  {options.subbuf_size} bytes",
        f"      Sub-buffer count: {options.num_subbuf}",
        f"      Switch timer:     {_timer(options.switch_timer_us)}",
        f"      Read timer:       {_timer(options.read_timer_us)}",
        f"      Monitor timer:    {_timer(options.monitor_timer_us)}",
    ]
    if options.mode == "discard":
        lines.append(f"      Blocking timeout: {_timeout(options.blocking_timeout_us)}")
    size = f"{options.tracefile_size} bytes" if options.tracefile_size else "unlimited"
    lines += [
        # One where it says nothing, also if there are any number of them: so does `lttng`.
        f"      Trace file count: {options.tracefile_count or 1} per stream",
        f"      Trace file size:  {size}",
        "      Output mode:      mmap",
        f"      Contexts:         {', '.join(channel.contexts) or 'none'}",
        "",
        "    Statistics:",
        f"      Discarded events: {channel.discarded}",
        *_reasons(streams),
        *(_load(channel) if load else []),
        "",
        "    Recording event rules:",
    ]
    rules = [event for event in channel.events if not event.domain]
    lines += [f"      {_event(event)}" for event in rules] or ["      None"]
    return [*lines, ""]


def _reasons(streams: Iterable[StreamInfo]) -> list[str]:
    """Return why events were discarded, where it is not for want of room."""
    too_big = sum(stream.lost_big for stream in streams)
    # No number of sub-buffers helps these.
    return [f"        too big for a sub-buffer: {too_big}"] if too_big else []


def shown_size(size: int) -> str:
    """Return a power of two as options take it."""
    for letter, factor in (("G", 1 << 30), ("M", 1 << 20), ("k", 1 << 10)):
        if size % factor == 0:
            return f"{size // factor}{letter}"
    return str(size)


def _load(channel: ChannelInfo) -> list[str]:
    """Return how fast it is written and how full it gets, as far as that was looked at."""
    load = channel.load
    if load is None:
        return []
    lost = f", {load.discarded_rate} events/s discarded" if load.discarded_rate else ""
    lines = [f"      Written:          {load.rate} bytes/s (highest {load.highest_rate}){lost}"]
    if load.capacity and channel.options.mode == "discard":
        now, most = (
            round(100 * filled / load.capacity) for filled in (load.fill, load.highest_fill)
        )
        lines.append(f"      Fullest buffer:   {now} % (highest {most} %)")
    if load.advised_num_subbuf:
        size = shown_size(load.advised_subbuf_size)
        lines += folded(
            "      Advice:           ",
            f"--subbuf-size={size} --num-subbuf={load.advised_num_subbuf} would have held the "
            f"largest burst ({load.needed} bytes for each CPU)",
        )
    elif load.needed:
        lines += folded(
            "      Advice:           ",
            "programs wrote faster than was read for too long: no buffer holds that",
        )
    if load.history_us:
        lines.append(f"      Holds the last:   {load.history_us / 1e6:.3g} s")
    return lines


def _event(event: EventInfo) -> str:
    level = ""
    if event.loglevel_type in _LEVEL_RELATIONS:
        relation, number = _LEVEL_RELATIONS[event.loglevel_type], event.loglevel
        level = f" (loglevel {relation} TRACE_{LOGLEVELS[number]} ({number}))"
    left_out = f" [exclusions: {','.join(event.exclusions)}]" if event.exclusions else ""
    # One line, whatever it holds.
    shown = event.filter.translate({ord("\n"): " ", ord("\t"): " "})
    filtered = f" [filter: '{shown}']" if shown else ""
    state = _enabled(event.enabled)
    return f"{event.pattern}{level} (type: tracepoint) [{state}]{left_out}{filtered}"


def _logger(event: EventInfo) -> str:
    level = ""
    if event.loglevel_type in _LEVEL_RELATIONS:
        names = {number: name for name, number in PYTHON_LEVELS.items()}
        name = names.get(event.loglevel, str(event.loglevel))
        level = f" (loglevel {_LEVEL_RELATIONS[event.loglevel_type]} PYTHON_{name})"
    whole = traced_as(event).filter
    filtered = f" [filter: '{whole}']" if whole else ""
    return f"{event.pattern} [{_enabled(event.enabled)}]{level}{filtered}"


def _enabled(enabled: bool) -> str:
    return "enabled" if enabled else "disabled"


def _timer(period_us: int) -> str:
    return f"{period_us} us" if period_us else "inactive"


def _timeout(timeout_us: int) -> str:
    return "infinite" if timeout_us < 0 else f"{timeout_us} us"
