# SPDX-License-Identifier: MIT
"""A session in the words of ``lttng list``."""

from __future__ import annotations

from ustconsumer.protocol.control import ChannelInfo, EventInfo, SessionInfo

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
    lines += ["", "=== Domain: User space ===", "", f"Buffering scheme: {_scheme(info)}", ""]
    lines += ["Channels:", "-------------"]
    for channel in info.channels:
        lines += _channel(channel)
    if not info.channels:
        lines += ["None", ""]
    return "\n".join(lines[:-1])


def _consumer(info: SessionInfo) -> str:
    if info.consumer is None:
        return "none"
    return f"{info.consumer.kind} (pid {info.consumer.pid})"


def _scheme(info: SessionInfo) -> str:
    # One for all channels of a session, as with LTTng.
    per_process = any(channel.options.buffers == "pid" for channel in info.channels)
    return "per-process" if per_process else "per-user"


def _channel(channel: ChannelInfo) -> list[str]:
    options = channel.options
    lines = [f"- {channel.name}: [{_enabled(channel.enabled)}]", "", "    Attributes:"]
    lines += [
        f"      Event-loss mode:  {options.mode}",
        f"      Sub-buffer size:  {options.subbuf_size} bytes",
        f"      Sub-buffer count: {options.num_subbuf}",
        f"      Switch timer:     {_timer(options.switch_timer_us)}",
        f"      Read timer:       {_timer(options.read_timer_us)}",
    ]
    if options.mode == "discard":
        lines.append(f"      Blocking timeout: {_timeout(options.blocking_timeout_us)}")
    lines += [
        f"      Contexts:         {', '.join(channel.contexts) or 'none'}",
        "",
        "    Statistics:",
        f"      Discarded events: {channel.discarded}",
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


def _timeout(timeout_us: int) -> str:
    return "infinite" if timeout_us < 0 else f"{timeout_us} us"
