# SPDX-License-Identifier: MIT
"""LTTng's session files (``lttng save``) read back, whoever wrote them.

They come from anywhere: no entities, no document types, bounds on everything, and each
value is checked, with the line it stands in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

import msgspec

from ustconsumer.abi.application import CONTEXTS
from ustconsumer.abi.perf import PERF_COUNTERS, PERF_RAW
from ustconsumer.client.saved import SavedSession
from ustconsumer.client.sessionwriter import OURS
from ustconsumer.errors import UsageError
from ustconsumer.protocol.agent import PYTHON, asked_for
from ustconsumer.protocol.control import (
    ChannelInfo,
    ChannelOptions,
    Destination,
    EventInfo,
    RotationSchedule,
    SnapshotOutput,
)
from ustconsumer.protocol.destinations import of_ports

__all__ = ["read_sessions"]

#: Of a file; a session of ten thousand rules has about two.
_MAX_SIZE = 16 << 20
_MAX_DEPTH = 32
_LARGEST = (1 << 63) - 1
_LEVELS = {"ALL": 0, "RANGE": 1, "SINGLE": 2}
_TRUE = {"true": True, "1": True, "false": False, "0": False}
_COUNTERS = {
    f"perf_thread_{name.replace('-', '_')}": (f"perf:thread:{name}", *counter)
    for name, counter in PERF_COUNTERS.items()
}


@dataclass
class _Element:
    """An element with its children; ``said`` are our processing instructions in it."""

    name: str
    line: int
    text: str = ""
    children: list[_Element] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def find(self, *path: str) -> _Element | None:
        """Return the first element at a path below this one."""
        found: _Element | None = self
        for name in path:
            assert found is not None
            found = next((child for child in found.children if child.name == name), None)
            if found is None:
                return None
        return found

    def all(self, *path: str) -> Iterator[_Element]:
        """Yield the elements of the last name in the first one of the others."""
        parent = self.find(*path[:-1])
        if parent is not None:
            yield from (child for child in parent.children if child.name == path[-1])

    def error(self, what: str) -> UsageError:
        return UsageError(f"session file, line {self.line}, <{self.name}>: {what}")

    @property
    def value(self) -> str:
        return self.text.strip()

    def said_at(self, *path: str, default: str = "") -> str:
        """Return the text of an element, the default if there is none."""
        found = self.find(*path)
        return default if found is None else found.value

    def number(self, *path: str, default: int = 0, least: int = 0) -> int:
        """Return the number in an element, the default if there is none."""
        found = self.find(*path)
        if found is None:
            return default
        try:
            number = int(found.value)
        except ValueError:
            raise found.error(f"{found.value[:40]!r} is no number") from None
        if not least <= number <= _LARGEST:
            raise found.error(f"{number} is not in {least} to {_LARGEST}")
        return number

    def flag(self, *path: str, default: bool = False) -> bool:
        """Return the truth value in an element, the default if there is none."""
        found = self.find(*path)
        if found is None:
            return default
        if found.value not in _TRUE:
            raise found.error(f"{found.value[:40]!r} is neither true nor false")
        return _TRUE[found.value]


def read_sessions(raw: bytes) -> list[SavedSession]:
    """Return the sessions of a file; what we cannot do is in their ``warnings``.

    Raises
    ------
    UsageError
        It is no session file, or a value in it cannot be.
    """
    root = _tree(raw)
    if root.name != "sessions":
        raise root.error("no session file of LTTng: it begins with <sessions>")
    return [_session(each) for each in root.all("session")]


def _tree(raw: bytes) -> _Element:
    if len(raw) > _MAX_SIZE:
        raise UsageError(f"a session file of {len(raw)} bytes: at most {_MAX_SIZE}")
    parser = expat.ParserCreate()
    top = _Element("", 0)
    stack = [top]

    def begin(name: str, attributes: dict[str, str]) -> None:
        element = _Element(name, parser.CurrentLineNumber)
        if len(stack) > _MAX_DEPTH:
            raise element.error(f"more than {_MAX_DEPTH} elements in each other")
        stack[-1].children.append(element)
        stack.append(element)

    def end(name: str) -> None:
        stack.pop()

    def text(data: str) -> None:
        stack[-1].text += data

    def instruction(target: str, data: str) -> None:
        if target == OURS:
            stack[-1].said.append(data)

    def refuse(*_: object) -> None:
        # Entities are how a small file becomes a large one.
        raise UsageError("session file: document types and entities are not accepted")

    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.ProcessingInstructionHandler = instruction
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.buffer_text = True
    try:
        parser.Parse(raw, True)
    except expat.ExpatError as error:
        raise UsageError(f"session file, line {error.lineno}: {error}") from None
    except (LookupError, ValueError) as error:
        # Of the encoding that its first line declares.
        raise UsageError(f"session file, line {parser.CurrentLineNumber}: {error}") from None
    return top.children[0]


def _session(element: _Element) -> SavedSession:
    name = element.said_at("name")
    if not name:
        raise element.error("it has no name")
    saved = SavedSession(
        name=name,
        shm_path=element.said_at("shared_memory_path"),
        started=element.flag("started"),
        snapshot=element.flag("attributes", "snapshot_mode"),
        rotation=RotationSchedule(
            timer_us=element.number("attributes", "rotation_schedules", "periodic", "time_us"),
            size=element.number("attributes", "rotation_schedules", "size_threshold", "bytes"),
        ),
    )
    live_us = element.number("attributes", "live_timer_interval")
    consumer = element.find("output", "consumer_output")
    if consumer is not None:
        saved.output, saved.destination = _destination(consumer, live_us)
    for output in element.all("output", "snapshot_outputs", "output"):
        saved.outputs.append(_output(output))
    for domain in element.all("domains", "domain"):
        _domain(domain, saved)
    for said in element.said:
        _ours(element, said, saved)
    return saved


def _destination(element: _Element, live_us: int = 0) -> tuple[str, Destination]:
    network = element.find("destination", "net_output")
    if network is None:
        return element.said_at("destination", "path"), Destination()
    control, data = network.said_at("control_uri"), network.said_at("data_uri")
    if not control:
        return "", Destination()
    try:
        url, data_url = of_ports(_port(control), _port(data or control))
    except UsageError as error:
        raise network.error(str(error)) from None
    return "", Destination(url=url, data_url=data_url, live_us=live_us)


def _port(uri: str) -> str:
    # LTTng writes the family as a number, we as LTTng's users do.
    return uri.replace("tcp4://", "tcp://", 1).removesuffix("/")


def _output(element: _Element) -> SnapshotOutput:
    consumer = element.find("consumer_output")
    path, destination = ("", Destination()) if consumer is None else _destination(consumer)
    return SnapshotOutput(
        name=element.said_at("name"),
        max_size=element.number("max_size"),
        path=destination.url or path,
        data_url=destination.data_url,
    )


def _domain(element: _Element, saved: SavedSession) -> None:
    kind = element.said_at("type")
    channels = list(element.all("channels", "channel"))
    if kind not in ("UST", "PYTHON"):
        if channels:
            saved.warnings.append(
                f"session {saved.name}: events of domain {kind[:20]} are left out: not yet"
            )
        return
    buffers = element.said_at("buffer_type", default="PER_UID")
    if buffers not in ("PER_UID", "PER_PID"):
        raise element.error(f"buffers of type {buffers[:20]!r}: PER_UID or PER_PID")
    for channel in channels:
        saved.channels.append(_channel(channel, buffers[4:].lower(), saved))
        if kind == "PYTHON":
            for event in saved.channels[-1].events:
                event.domain = PYTHON
                event.filter = asked_for(event)
    for tracker in element.all("process_attr_trackers", "vpid_process_attr_tracker"):
        _tracker(tracker, "vpid", saved)
    for tracker in element.all("process_attr_trackers", "vuid_process_attr_tracker"):
        _tracker(tracker, "vuid", saved)
    for tracker in element.all("process_attr_trackers", "vgid_process_attr_tracker"):
        _tracker(tracker, "vgid", saved)


def _channel(element: _Element, buffers: str, saved: SavedSession) -> ChannelInfo:
    name = element.said_at("name")
    if not name:
        raise element.error("it has no name")
    if element.said_at("output_type", default="MMAP") != "MMAP":
        raise element.error("user space has output type MMAP only")
    defaults = ChannelOptions()
    options = ChannelOptions(
        subbuf_size=element.number("subbuffer_size", default=defaults.subbuf_size),
        num_subbuf=element.number("subbuffer_count", default=defaults.num_subbuf),
        mode=element.said_at("overwrite_mode", default="DISCARD").lower(),
        buffers=buffers,
        switch_timer_us=element.number("switch_timer_interval"),
        read_timer_us=element.number("read_timer_interval"),
        monitor_timer_us=element.number(
            "monitor_timer_interval", default=defaults.monitor_timer_us
        ),
        blocking_timeout_us=element.number("blocking_timeout", least=-1),
        tracefile_size=element.number("tracefile_size"),
        tracefile_count=element.number("tracefile_count"),
    )
    return ChannelInfo(
        name=name,
        enabled=element.flag("enabled", default=True),
        options=options,
        contexts=[_context(each) for each in element.all("contexts", "context")],
        events=[_event(each) for each in element.all("events", "event")],
    )


def _event(element: _Element) -> EventInfo:
    if element.said_at("type", default="TRACEPOINT") != "TRACEPOINT":
        raise element.error("events of user space are of type TRACEPOINT")
    kind = element.said_at("loglevel_type", default="ALL")
    if kind not in _LEVELS:
        raise element.error(f"log level of type {kind[:20]!r}: ALL, RANGE or SINGLE")
    return EventInfo(
        # LTTng's file may have a rule without a name: it is for all.
        pattern=element.said_at("name") or "*",
        enabled=element.flag("enabled", default=True),
        loglevel_type=_LEVELS[kind],
        loglevel=element.number("loglevel", default=-1, least=-1) if _LEVELS[kind] else -1,
        exclusions=[each.value for each in element.all("exclusions", "exclusion")],
        filter=element.said_at("filter"),
    )


def _context(element: _Element) -> str:
    if element.find("app") is not None:
        provider, name = (element.said_at("app", part) for part in ("provider_name", "ctx_name"))
        return f"$app.{provider}:{name}"
    if element.find("perf") is not None:
        return _counter(element)
    name = element.said_at("type").lower()
    if name not in CONTEXTS:
        raise element.error(f"no context {name[:40]!r}: a newer LTTng, or the kernel's")
    return name


def _counter(element: _Element) -> str:
    field_name = element.said_at("perf", "name")
    kind, config = element.number("perf", "type"), element.number("perf", "config")
    known = _COUNTERS.get(field_name)
    if known is not None and known[1:] == (kind, config):
        return known[0]
    prefix = "perf_thread_raw_r"
    number, _, name = field_name.removeprefix(prefix).partition("_")
    if kind != PERF_RAW or not field_name.startswith(prefix) or not name:
        raise element.error(f"no counter {field_name[:40]!r} of type {kind}, number {config}")
    return f"perf:thread:raw:r{number}:{name}"


def _tracker(element: _Element, attribute: str, saved: SavedSession) -> None:
    values = saved.trackers.setdefault(attribute, [])
    for each in element.all("process_attr_values", attribute):
        value = each.said_at("id") or each.said_at("name")
        if not value:
            raise each.error("neither an id nor a name")
        values.append(value)


def _ours(element: _Element, said: str, saved: SavedSession) -> None:
    """Take what only our own files say."""

    class Ours(msgspec.Struct, forbid_unknown_fields=True):
        destination: Destination = Destination()
        output: str = ""
        name: list[str] = []
        cpu_id: list[str] = []

    try:
        ours = msgspec.json.decode(said.encode(), type=Ours)
    except msgspec.DecodeError as error:
        raise element.error(f"<?{OURS}: {error}") from None
    if ours.destination != Destination():
        saved.destination = ours.destination
    saved.output = ours.output or saved.output
    if ours.name:
        saved.trackers["name"] = ours.name
    for channel in saved.channels:
        if channel.name in ours.cpu_id:
            channel.contexts.append("cpu_id")
