# SPDX-License-Identifier: MIT
"""Metadata of a trace as text (CTF 1.8, TSDL), the way lttng-sessiond 2.13 writes it.

A trace's text is one `trace_header`, then blocks in the order in which applications
register what they record. Readers cannot tell it from LTTng's: order, tabs and
blank lines included.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from ustconsumer.ctf.tsdl import declarations
from ustconsumer.ctf.types import EnumEntry, Field

__all__ = [
    "ProcessDescription",
    "TraceDescription",
    "boot_id",
    "clock_offset",
    "event_block",
    "stream_block",
    "trace_header",
]

_SAMPLES = 10

_TYPES = """\
/* CTF 1.8 */

typealias integer { size = 8; align = 8; signed = false; } := uint8_t;
typealias integer { size = 16; align = 8; signed = false; } := uint16_t;
typealias integer { size = 32; align = 8; signed = false; } := uint32_t;
typealias integer { size = 64; align = 8; signed = false; } := uint64_t;
typealias integer { size = 64; align = 8; signed = false; } := unsigned long;
typealias integer { size = 5; align = 1; signed = false; } := uint5_t;
typealias integer { size = 27; align = 1; signed = false; } := uint27_t;

"""

_TRACE = """\
trace {{
	major = 1;
	minor = 8;
	uuid = "{uuid}";
	byte_order = le;
	packet.header := struct {{
		uint32_t magic;
		uint8_t  uuid[16];
		uint32_t stream_id;
		uint64_t stream_instance_id;
	}};
}};

"""

_CLOCK = """\
clock {{
	name = "monotonic";
	uuid = "{boot_id}";
	description = "Monotonic Clock";
	freq = 1000000000; /* Frequency, in Hz */
	/* clock value offset from Epoch is: offset * (1/freq) */
	offset = {offset};
}};

"""

_CLOCK_TYPE = """\
typealias integer {{
	size = {size}; align = {align}; signed = false;
	map = clock.monotonic.value;
}} := uint{size}_clock_monotonic_t;

"""

_PACKET_CONTEXT = """\
struct packet_context {
	uint64_clock_monotonic_t timestamp_begin;
	uint64_clock_monotonic_t timestamp_end;
	uint64_t content_size;
	uint64_t packet_size;
	uint64_t packet_seq_num;
	unsigned long events_discarded;
	uint32_t cpu_id;
};

"""

_EVENT_HEADER = """\
struct event_header_{name} {{
	enum : uint{bits}_t {{ compact = 0 ... {last}, extended = {extended} }} id;
	variant <id> {{
		struct {{
			uint{clock_bits}_clock_monotonic_t timestamp;
		}} compact;
		struct {{
			uint32_t id;
			uint64_clock_monotonic_t timestamp;
		}} extended;
	}} v;
}} align(8);

"""


class ProcessDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment says about the process of a per-process trace."""

    tracer_patchlevel: int
    vpid: int
    procname: str
    #: time of registration, as in ``TraceDescription.created``
    registered: str


class TraceDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What the header of a trace's metadata says."""

    #: text form
    uuid: str
    tracer_major: int
    tracer_minor: int
    #: uid, or pid of a per-process trace
    buffering_id: int
    session: str
    #: local time as "20261122T200338+0000"
    created: str
    hostname: str
    #: text form: see `boot_id`
    clock_uuid: str
    #: ns: see `clock_offset`
    clock_offset: int
    #: None for the buffers of a uid
    process: ProcessDescription | None = None


def trace_header(trace: TraceDescription) -> str:
    """Return everything before the first stream or event block."""
    clock_types = (_CLOCK_TYPE.format(size=s, align=a) for s, a in ((27, 1), (32, 8), (64, 8)))
    headers = (("compact", 5, 27), ("large", 16, 32))
    return "".join(
        (
            _TYPES,
            _TRACE.format(uuid=trace.uuid),
            _environment(trace),
            _CLOCK.format(boot_id=trace.clock_uuid, offset=trace.clock_offset),
            *clock_types,
            _PACKET_CONTEXT,
            *(
                _EVENT_HEADER.format(
                    name=name,
                    bits=bits,
                    clock_bits=clock_bits,
                    last=(1 << bits) - 2,
                    extended=(1 << bits) - 1,
                )
                for name, bits, clock_bits in headers
            ),
        )
    )


def _environment(trace: TraceDescription) -> str:
    process = trace.process
    values: dict[str, int | str] = {
        "domain": "ust",
        "tracer_name": "lttng-ust",
        "tracer_major": trace.tracer_major,
        "tracer_minor": trace.tracer_minor,
        "tracer_buffering_scheme": "uid" if process is None else "pid",
        "tracer_buffering_id": trace.buffering_id,
        "architecture_bit_width": 64,
        "trace_name": trace.session,
        "trace_creation_datetime": trace.created,
        "hostname": trace.hostname,
    }
    if process is not None:
        values["tracer_patchlevel"] = process.tracer_patchlevel
        values["vpid"] = process.vpid
        values["procname"] = process.procname
        values["vpid_datetime"] = process.registered
    lines = (
        f"\t{name} = {value};\n" if isinstance(value, int) else f'\t{name} = "{_escaped(value)}";\n'
        for name, value in values.items()
    )
    return "env {\n" + "".join(lines) + "};\n\n"


def stream_block(
    stream_id: int,
    contexts: Iterable[Field],
    enums: Mapping[int, Iterable[EnumEntry]] | None = None,
) -> str:
    """Return the declaration of a channel.

    Parameters
    ----------
    stream_id : int
        Stream class id: the channel id of its object.
    contexts : iterable of Field
        Recorded with every event, in this order.
    enums : mapping of int to entries
        Enumerations the fields may refer to, by id.

    Raises
    ------
    RemoteProtocolError
        A field refers to an enumeration that is not in ``enums``.
    """
    fields = declarations(contexts, enums or {}, indent=2)
    context = f"\tevent.context := struct {{\n{fields}\t}};\n" if fields else ""
    return (
        "stream {\n"
        f"\tid = {stream_id};\n"
        "\tevent.header := struct event_header_large;\n"
        "\tpacket.context := struct packet_context;\n"
        f"{context}"
        "};\n\n"
    )


def event_block(
    stream_id: int,
    event_id: int,
    name: str,
    loglevel: int,
    fields: Iterable[Field],
    model_emf_uri: str = "",
    enums: Mapping[int, Iterable[EnumEntry]] | None = None,
) -> str:
    """Return the declaration of an event of a channel.

    Raises
    ------
    RemoteProtocolError
        A field refers to an enumeration that is not in ``enums``.
    """
    uri = f'\tmodel.emf.uri = "{_escaped(model_emf_uri)}";\n' if model_emf_uri else ""
    return (
        "event {\n"
        f'\tname = "{_escaped(name)}";\n'
        f"\tid = {event_id};\n"
        f"\tstream_id = {stream_id};\n"
        f"\tloglevel = {loglevel};\n"
        f"{uri}"
        "\tfields := struct {\n"
        f"{declarations(fields, enums or {}, indent=2)}"
        "\t};\n"
        "};\n\n"
    )


def _escaped(value: str) -> str:
    """Return the inside of a TSDL string. Control characters give way to spaces."""
    value = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return re.sub(r"[\x00-\x1f\x7f]", " ", value)


def boot_id() -> str:
    """Return the text form of this boot's uuid: the clock's, equal in all traces of it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def clock_offset() -> int:
    """Measure Epoch time minus CLOCK_MONOTONIC, in ns.

    Of several attempts the one that took the shortest time counts: it was not preempted.
    """
    best: tuple[int, int] | None = None
    for _ in range(_SAMPLES):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        now = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        sample = (after - before, now - (before + after) // 2)
        if best is None or sample[0] <= best[0]:
            best = sample
    assert best is not None
    return best[1]
