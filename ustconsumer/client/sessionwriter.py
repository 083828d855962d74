# SPDX-License-Identifier: MIT
"""Recording sessions as LTTng's session files say them (``lttng save``)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

import msgspec

from ustconsumer.client.saved import SavedSession
from ustconsumer.errors import UsageError
from ustconsumer.protocol.agent import PYTHON, PYTHON_CHANNEL, traced_as
from ustconsumer.protocol.contexts import parse_context
from ustconsumer.protocol.control import ChannelInfo, Destination, EventInfo, SnapshotOutput
from ustconsumer.protocol.destinations import relay_of

__all__ = ["OURS", "PLAIN_CONTEXTS", "write_session"]

#: Target of the processing instruction that says what LTTng has no element for; LTTng, and
#: whoever else reads the file, passes over it.
OURS = "ustconsumer"
#: Contexts that lttng 2.13 loads. Others it saves, and refuses to load.
PLAIN_CONTEXTS = ("pthread_id", "procname", "vpid", "vtid", "ip")
#: Trackers that it has.
_TRACKERS = ("vpid", "vuid", "vgid")
_LEVELS = {0: "ALL", 1: "RANGE", 2: "SINGLE"}


class _Writer:
    """An XML document in the making, a line for each element without children."""

    def __init__(self) -> None:
        self.lines = ['<?xml version="1.0" encoding="UTF-8"?>']
        self._open: list[str] = []

    def begin(self, name: str) -> None:
        self._line(f"<{name}>")
        self._open.append(name)

    def end(self) -> None:
        name = self._open.pop()
        self._line(f"</{name}>")

    def leaf(self, name: str, value: str | int) -> None:
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        bad = [sign for sign in shown if not (sign.isprintable() or sign in "\t\n\r")]
        if bad:
            raise UsageError(f"{shown!r}: a session file cannot have {bad[0]!r} in <{name}>")
        self._line(f"<{name}>{escape(shown)}</{name}>")

    def empty(self, name: str) -> None:
        self._line(f"<{name}/>")

    def instruction(self, value: object) -> None:
        # Nothing in it ends it.
        said = json.dumps(value, sort_keys=True).replace("?>", "?\\u003e")
        self._line(f"<?{OURS} {said}?>")

    def _line(self, text: str) -> None:
        self.lines.append("\t" * len(self._open) + text)


def write_session(saved: SavedSession) -> str:
    """Return a session file; what `lttng load` does not understand goes to ``warnings``.

    Raises
    ------
    UsageError
        A text in it has characters that XML cannot have.
    """
    writer = _Writer()
    writer.begin("sessions")
    writer.begin("session")
    ours = _ours(saved)
    if ours:
        writer.instruction(ours)
    writer.leaf("name", saved.name)
    if saved.shm_path:
        writer.leaf("shared_memory_path", saved.shm_path)
    if saved.channels:
        writer.begin("domains")
        loggers = [channel for channel in saved.channels if channel.name == PYTHON_CHANNEL]
        _domain(writer, saved, [each for each in saved.channels if each not in loggers])
        if loggers:
            _domain(writer, saved, loggers, "PYTHON")
        writer.end()
    writer.leaf("started", saved.started)
    _attributes(writer, saved)
    writer.begin("output")
    if saved.snapshot:
        _outputs(writer, saved.outputs)
    else:
        _destination(writer, saved.output, saved.destination)
    writer.end()
    writer.end()
    writer.end()
    return "\n".join([*writer.lines, ""])


def _domain(
    writer: _Writer, saved: SavedSession, channels: Sequence[ChannelInfo], kind: str = "UST"
) -> None:
    buffers = saved.channels[0].options.buffers
    writer.begin("domain")
    writer.leaf("type", kind)
    writer.leaf("buffer_type", f"PER_{buffers.upper()}")
    if channels:
        writer.begin("channels")
        for channel in channels:
            _channel(writer, channel, saved)
        writer.end()
    else:
        writer.empty("channels")
    if kind == "UST":
        _trackers(writer, saved)
    writer.end()


def _channel(writer: _Writer, channel: ChannelInfo, saved: SavedSession) -> None:
    options = channel.options
    writer.begin("channel")
    for name, value in (
        ("name", channel.name),
        ("enabled", channel.enabled),
        ("overwrite_mode", options.mode.upper()),
        ("subbuffer_size", options.subbuf_size),
        ("subbuffer_count", options.num_subbuf),
        ("switch_timer_interval", options.switch_timer_us),
        ("read_timer_interval", options.read_timer_us),
        ("output_type", "MMAP"),
        ("blocking_timeout", options.blocking_timeout_us),
        ("monitor_timer_interval", options.monitor_timer_us),
        ("tracefile_size", options.tracefile_size),
        ("tracefile_count", options.tracefile_count),
        ("live_timer_interval", saved.destination.live_us),
    ):
        writer.leaf(name, value)
    if channel.events:
        writer.begin("events")
        for event in channel.events:
            _event(writer, event)
        writer.end()
    else:
        writer.empty("events")
    contexts = [name for name in channel.contexts if name != "cpu_id"]
    if contexts:
        writer.begin("contexts")
        for name in contexts:
            _context(writer, name, saved)
        writer.end()
    else:
        writer.empty("contexts")
    writer.end()


def _event(writer: _Writer, event: EventInfo) -> None:
    writer.begin("event")
    writer.leaf("name", event.pattern)
    writer.leaf("enabled", event.enabled)
    writer.leaf("type", "TRACEPOINT")
    writer.leaf("loglevel_type", _LEVELS[event.loglevel_type])
    if event.loglevel_type:
        writer.leaf("loglevel", event.loglevel)
    condition = traced_as(event).filter if event.domain == PYTHON else event.filter
    if condition:
        writer.leaf("filter", condition)
    if event.exclusions:
        writer.begin("exclusions")
        for name in event.exclusions:
            writer.leaf("exclusion", name)
        writer.end()
    writer.end()


def _context(writer: _Writer, name: str, saved: SavedSession) -> None:
    context = parse_context(name)
    writer.begin("context")
    if context.perf is not None:
        kind, config, field = context.perf
        writer.begin("perf")
        writer.leaf("type", kind)
        writer.leaf("config", config)
        writer.leaf("name", field)
        writer.end()
    elif context.provider:
        writer.begin("app")
        writer.leaf("provider_name", context.provider)
        writer.leaf("ctx_name", context.field)
        writer.end()
    else:
        if name not in PLAIN_CONTEXTS:
            saved.warnings.append(f"lttng 2.13 does not load a session with context {name}")
        writer.leaf("type", name.upper())
    writer.end()


def _trackers(writer: _Writer, saved: SavedSession) -> None:
    known = {name: saved.trackers[name] for name in _TRACKERS if name in saved.trackers}
    if not known:
        writer.empty("process_attr_trackers")
        return
    writer.begin("process_attr_trackers")
    for name, values in known.items():
        writer.begin(f"{name}_process_attr_tracker")
        if values:
            writer.begin("process_attr_values")
            for value in values:
                writer.begin(name)
                writer.leaf("id" if value.isdigit() else "name", value)
                writer.end()
            writer.end()
        else:
            writer.empty("process_attr_values")
        writer.end()
    writer.end()


def _attributes(writer: _Writer, saved: SavedSession) -> None:
    rotation = saved.rotation
    if not (saved.snapshot or saved.destination.live_us or rotation.timer_us or rotation.size):
        return
    writer.begin("attributes")
    if saved.snapshot:
        writer.leaf("snapshot_mode", True)
    if saved.destination.live_us:
        writer.leaf("live_timer_interval", saved.destination.live_us)
    if rotation.timer_us or rotation.size:
        writer.begin("rotation_schedules")
        for kind, unit, value in (
            ("periodic", "time_us", rotation.timer_us),
            ("size_threshold", "bytes", rotation.size),
        ):
            if value:
                writer.begin(kind)
                writer.leaf(unit, value)
                writer.end()
        writer.end()
    writer.end()


def _outputs(writer: _Writer, outputs: Iterable[SnapshotOutput]) -> None:
    writer.begin("snapshot_outputs")
    for output in outputs:
        writer.begin("output")
        writer.leaf("name", output.name or f"snapshot-{output.id}")
        writer.leaf("max_size", output.max_size)
        relay = "://" in output.path
        destination = Destination(url=output.path, data_url=output.data_url)
        _destination(writer, "" if relay else output.path, destination if relay else Destination())
        writer.end()
    writer.end()


def _destination(writer: _Writer, path: str, destination: Destination) -> None:
    writer.begin("consumer_output")
    writer.leaf("enabled", True)
    writer.begin("destination")
    if destination.url:
        relay = relay_of(destination)
        family = 6 if relay.ipv6 else 4
        host = f"[{relay.host}]" if ":" in relay.host else relay.host
        data_host = relay.data_host or relay.host
        data_host = f"[{data_host}]" if ":" in data_host else data_host
        writer.begin("net_output")
        writer.leaf("control_uri", f"tcp{family}://{host}:{relay.control_port}/{relay.path}")
        writer.leaf("data_uri", f"tcp{family}://{data_host}:{relay.data_port}/")
        writer.end()
    else:
        writer.leaf("path", path)
    writer.end()
    writer.end()


def _ours(saved: SavedSession) -> dict[str, object]:
    """Return what LTTng has no element for."""
    ours: dict[str, object] = {}
    plain = {"url", "data_url", "live_us"}
    destination = msgspec.to_builtins(saved.destination)
    if set(destination) - plain or "+" in saved.destination.url.partition("://")[0]:
        ours["destination"] = destination
        saved.warnings.append(
            f"session {saved.name}: LTTng knows no compression, spool or secured relay"
        )
    if saved.output and (saved.destination.url or saved.snapshot):
        ours["output"] = saved.output
    if names := saved.trackers.get("name"):
        ours["name"] = names
        saved.warnings.append(f"session {saved.name}: LTTng does not track names of programs")
    cpus = [channel.name for channel in saved.channels if "cpu_id" in channel.contexts]
    if cpus:
        ours["cpu_id"] = cpus
    return ours
