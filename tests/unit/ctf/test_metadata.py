# SPDX-License-Identifier: MIT
"""Metadata text against what lttng-sessiond 2.13.9 wrote for the same program."""

from __future__ import annotations

import re
import time

import pytest
from helpers import captured

from ustconsumer.ctf.metadata import (
    ProcessDescription,
    TraceDescription,
    boot_id,
    clock_offset,
    event_block,
    stream_block,
    trace_header,
)
from ustconsumer.ctf.types import (
    Array,
    EnumEntry,
    Enumeration,
    Field,
    Integer,
    Sequence,
    String,
    Struct,
    Variant,
)
from ustconsumer.errors import RemoteProtocolError

BYTE = Integer(8, signed=True)


def described(text: str) -> TraceDescription:
    """Return the description whose values stand in a metadata text."""

    def value(pattern: str) -> str:
        match = re.search(pattern, text)
        assert match
        return match[1]

    return TraceDescription(
        uuid=value(r'\tuuid = "(.*)";\n\tbyte_order'),
        tracer_major=2,
        tracer_minor=13,
        buffering_id=int(value(r"tracer_buffering_id = (\d+)")),
        session="recorded",
        created=value(r'trace_creation_datetime = "(.*)"'),
        hostname="tracehost",
        clock_uuid=value(r'\tname = "monotonic";\n\tuuid = "(.*)"'),
        clock_offset=int(value(r"\toffset = (\d+)")),
    )


def test_same_text_as_lttng_sessiond() -> None:
    expected = captured.metadata()
    text = trace_header(described(expected))
    enums = captured.enumerations()
    for item in captured.answered():
        request = item.request
        if isinstance(request, captured.ChannelRequest):
            text += stream_block(item.id, request.contexts, enums)
        elif isinstance(request, captured.EventRequest):
            stream_id = captured.channel_ids()[request.channel]
            text += event_block(
                stream_id,
                item.id,
                request.name,
                request.loglevel,
                request.fields,
                request.model_emf_uri,
                enums,
            )
    assert text.splitlines() == expected.splitlines()
    assert text == expected


def test_per_process_environment() -> None:
    # Order, names and kinds of values: facts, section 6.
    trace = TraceDescription(
        uuid="0c4b900e-fae8-4c54-89ca-bdd44d2b0cfb",
        tracer_major=2,
        tracer_minor=13,
        buffering_id=4242,
        session='a "quoted"\\\nname',
        created="20261122T200338+0000",
        hostname="h",
        clock_uuid="70a903cb-b82e-4420-8149-987239e33304",
        clock_offset=-5,
        process=ProcessDescription(
            tracer_patchlevel=5, vpid=42, procname="prog", registered="20261122T200339+0000"
        ),
    )
    text = trace_header(trace)
    assert text[text.index("env {") : text.index("clock {")] == (
        "env {\n"
        '\tdomain = "ust";\n'
        '\ttracer_name = "lttng-ust";\n'
        "\ttracer_major = 2;\n"
        "\ttracer_minor = 13;\n"
        '\ttracer_buffering_scheme = "pid";\n'
        "\ttracer_buffering_id = 4242;\n"
        "\tarchitecture_bit_width = 64;\n"
        '\ttrace_name = "a \\"quoted\\"\\\\\\nname";\n'
        '\ttrace_creation_datetime = "20261122T200338+0000";\n'
        '\thostname = "h";\n'
        "\ttracer_patchlevel = 5;\n"
        "\tvpid = 42;\n"
        '\tprocname = "prog";\n'
        '\tvpid_datetime = "20261122T200339+0000";\n'
        "};\n\n"
    )
    assert "\toffset = -5;\n" in text


def test_channel_without_contexts_has_no_context_block() -> None:
    assert stream_block(3, ()) == (
        "stream {\n"
        "\tid = 3;\n"
        "\tevent.header := struct event_header_large;\n"
        "\tpacket.context := struct packet_context;\n"
        "};\n\n"
    )


def test_application_context_and_alignment() -> None:
    # What no fixture holds: facts, section 7 (application context, padding, ASCII).
    tag = Field("$app.p:c_tag", Enumeration("dynamic_type_enum", BYTE, 4))
    choices = (Field("none", Struct()), Field("string", String()))
    fields = (
        tag,
        Field("$app.p:c", Variant("$app.p:c_tag", choices)),
        Field("a", Array(BYTE, 3, alignment=4)),
        Field("_s_length", Integer(16, signed=False)),
        Field("s", Sequence(BYTE, "_s_length", alignment=1)),
        Field("t", String("ASCII")),
    )
    entries = [EnumEntry("_none", 0, 0), EnumEntry("_string", 11, 11)]
    byte = "integer { size = 8; align = 8; signed = 1; encoding = none; base = 10; }"
    length = "integer { size = 16; align = 8; signed = 0; encoding = none; base = 10; }"
    assert event_block(0, 1, "p:e", 13, fields, enums={4: entries}) == (
        "event {\n"
        '\tname = "p:e";\n'
        "\tid = 1;\n"
        "\tstream_id = 0;\n"
        "\tloglevel = 13;\n"
        "\tfields := struct {\n"
        f"\t\tenum : {byte} {{\n"
        '\t\t\t"_none" = 0,\n'
        '\t\t\t"_string" = 11,\n'
        "\t\t} __app_p_c_tag;\n"
        "\t\tvariant <__app_p_c_tag> {\n"
        "\t\t\tstruct {} _none;\n"
        "\t\t\tstring _string;\n"
        "\t\t} __app_p_c;\n"
        "\t\tstruct { } align(32) _a_padding;\n"
        f"\t\t{byte} _a[3];\n"
        f"\t\t{length} __s_length;\n"
        "\t\tstruct { } align(8) _s_padding;\n"
        f"\t\t{byte} _s[ __s_length ];\n"
        "\t\tstring { encoding = ASCII; } _t;\n"
        "\t};\n"
        "};\n\n"
    )


def test_text_of_an_application_cannot_end_its_string() -> None:
    label = EnumEntry('"; };\n event { name = "x', 1, 1)
    field = Field('f; }; "', Enumeration("e", BYTE, 0))
    block = event_block(0, 0, 'p:"; id = 9; \n', 13, (field,), 'u"', {0: [label]})
    lines = block.split("\n")
    assert lines[1] == '\tname = "p:\\"; id = 9; \\n";'
    assert lines[5] == '\tmodel.emf.uri = "u\\"";'
    assert lines[8] == '\t\t\t"\\"; };\\n event { name = \\"x" = 1,'
    assert lines[9] == "\t\t} _f______;"


def test_unknown_enumeration() -> None:
    field = Field("f", Enumeration("colour", BYTE, 7))
    with pytest.raises(RemoteProtocolError, match="'colour' with id 7"):
        event_block(0, 0, "p:e", 13, (field,), enums={6: []})


def test_clock() -> None:
    # The two clocks read in opposite order on either side bound any offset in between.
    realtime, monotonic = time.time_ns(), time.monotonic_ns()
    offset = clock_offset()
    least, most = realtime - time.monotonic_ns(), time.time_ns() - monotonic
    assert least <= offset <= most
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", boot_id())
