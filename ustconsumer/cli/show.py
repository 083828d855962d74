# SPDX-License-Identifier: MIT
"""A session in the words of ``lttng list``."""

from __future__ import annotations

from collections.abc import Iterable

from ustconsumer.protocol.control import ChannelInfo, EventInfo, SessionInfo, StreamInfo

__all__ = ["describe_session", "shown_state"]

_LEVEL_RELATIONS = {1: "<=", 2: "=="}


def shown_state(info: SessionInfo) -> str:
    """Return "active" or "inactive": LTTng has no other word for a session never started."""
    return "active" if info.state == "active" else "inactive"


def describe_session(info: SessionInfo) -> str:
    """Return the details of a session, many lines."""
    lines = [f"Recording session {info.name}: [{shown_state(info)}]"]
    lines += [f"    Trace output: {info.output}", ""]
    lines += [f"    Consumer:     {_consumer(info)}", f"    Processes:    {len(info.processes)}"]
    lines += [f"    Slow:         {line}" for line in info.slow]
    lines += [f"    Problem:      {line}" for line in info.problems]
    lines += ["", "=== Domain: User space ===", "", "Buffering scheme: per-user", ""]
    lines += ["Channels:", "-------------"]
    for channel in info.channels:
        streams = [stream for stream in info.streams if stream.channel == channel.name]
        lines += _channel(channel, streams)
    if not info.channels:
        lines += ["None", ""]
    return "\n".join(lines[:-1])


def _consumer(info: SessionInfo) -> str:
    if info.consumer is None:
        return "none"
    return f"{info.consumer.kind} (pid {info.consumer.pid})"


def _channel(channel: ChannelInfo, streams: Iterable[StreamInfo]) -> list[str]:
    options = channel.options
    discarded = sum(stream.lost_full + stream.lost_wrap + stream.lost_big for stream in streams)
    lines = [f"- {channel.name}: [{_enabled(channel.enabled)}]", "", "    Attributes:"]
    lines += [
        f"      Event-loss mode:  {options.mode}",
        f"      Sub-buffer size:  {options.subbuf_size} bytes",
        f"      Sub-buffer count: {options.num_subbuf}",
        f"      Switch timer:     {_timer(options.switch_timer_us)}",
        f"      Read timer:       {_timer(options.read_timer_us)}",
        f"      Blocking timeout: {options.blocking_timeout_us} us",
        f"      Contexts:         {', '.join(channel.contexts) or 'none'}",
        "",
        "    Statistics:",
        f"      Discarded events: {discarded}",
        "",
        "    Recording event rules:",
    ]
    lines += [f"      {_event(event)}" for event in channel.events] or ["      None"]
    return [*lines, ""]


def _event(event: EventInfo) -> str:
    level = ""
    if event.loglevel_type in _LEVEL_RELATIONS:
        level = f"loglevel {_LEVEL_RELATIONS[event.loglevel_type]} {event.loglevel}, "
    left_out = f" [excluding {','.join(event.exclusions)}]" if event.exclusions else ""
    return f"{event.pattern} ({level}type: tracepoint) [{_enabled(event.enabled)}]{left_out}"


def _enabled(enabled: bool) -> str:
    return "enabled" if enabled else "disabled"


def _timer(period_us: int) -> str:
    return f"{period_us} us" if period_us else "inactive"
