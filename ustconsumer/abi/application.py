# SPDX-License-Identifier: MIT
"""Messages between an application and the registry, as rows, per tracer ABI.

Everything is packed and little-endian (the registration's magic tells). Bytes no
row names are zero. ABI 8, 9 and 10 share sizes and framing.
"""

from __future__ import annotations

from typing import NamedTuple

from ustconsumer.abi.rows import Layout, Row, embed

__all__ = [
    "APPLICATION_LAYOUTS",
    "CONTEXTS",
    "REGISTRATION",
    "REGISTRATION_MAGIC",
    "RETURN_CODES",
    "TRACER_LAYOUTS",
    "ApplicationLayouts",
    "AtypeNumber",
    "CommandNumber",
    "ContextNumber",
    "NotifyNumber",
    "SocketType",
    "TracerLayouts",
]

_COMM = "lttng-ust v2.13.5 de624c2069 src/common/ustcomm.h"
_ABI = "lttng-ust v2.13.5 de624c2069 include/lttng/ust-abi.h"
_CTL = "lttng-ust v2.13.5 de624c2069 include/lttng/ust-ctl.h"
_CTL_2_14 = "lttng-ust v2.14.0 0c8cb8ea53 src/common/ustcomm.h"

_NAME = "S256"

# -- registration: the same for every ABI, it is what announces the ABI ---------------

REGISTRATION_MAGIC = 0xC57C57C5

REGISTRATION = Layout(
    "registration",
    136,
    1,
    _COMM,
    (
        Row("magic", "<u4", 0, "lttng_ust_ctl_reg_msg.magic"),
        Row("major", "<u4", 4, "lttng_ust_ctl_reg_msg.major"),
        Row("minor", "<u4", 8, "lttng_ust_ctl_reg_msg.minor"),
        Row("pid", "<u4", 12, "lttng_ust_ctl_reg_msg.pid"),
        Row("ppid", "<u4", 16, "lttng_ust_ctl_reg_msg.ppid"),
        Row("uid", "<u4", 20, "lttng_ust_ctl_reg_msg.uid"),
        Row("gid", "<u4", 24, "lttng_ust_ctl_reg_msg.gid"),
        Row("bits_per_long", "<u4", 28, "lttng_ust_ctl_reg_msg.bits_per_long"),
        Row("uint8", "<u4", 32, "lttng_ust_ctl_reg_msg.uint8_t_alignment"),
        Row("uint16", "<u4", 36, "lttng_ust_ctl_reg_msg.uint16_t_alignment"),
        Row("uint32", "<u4", 40, "lttng_ust_ctl_reg_msg.uint32_t_alignment"),
        Row("uint64", "<u4", 44, "lttng_ust_ctl_reg_msg.uint64_t_alignment"),
        Row("long", "<u4", 48, "lttng_ust_ctl_reg_msg.long_alignment"),
        Row("socket_type", "<u4", 52, "lttng_ust_ctl_reg_msg.socket_type"),
        Row("name", "S16", 56, "lttng_ust_ctl_reg_msg.name"),
    ),
)


class SocketType:
    """``socket_type`` of a registration (enum lttng_ust_ctl_socket_type)."""

    COMMAND = 0
    NOTIFY = 1


# -- commands and replies ---------------------------------------------------------


class CommandNumber:
    """Commands the registry sends (LTTNG_UST_ABI_*)."""

    RELEASE = 0x01
    SESSION = 0x40
    TRACER_VERSION = 0x41
    TRACEPOINT_LIST = 0x42
    WAIT_QUIESCENT = 0x43
    REGISTER_DONE = 0x44
    TRACEPOINT_FIELD_LIST = 0x45
    EVENT_NOTIFIER_GROUP_CREATE = 0x46
    CHANNEL = 0x51
    SESSION_START = 0x52
    SESSION_STOP = 0x53
    SESSION_STATEDUMP = 0x54
    STREAM = 0x60
    EVENT = 0x61
    CONTEXT = 0x70
    FLUSH_BUFFER = 0x71
    ENABLE = 0x80
    DISABLE = 0x81
    TRACEPOINT_LIST_GET = 0x90
    TRACEPOINT_FIELD_LIST_GET = 0x91
    FILTER = 0xA0
    EXCLUSION = 0xA1
    EVENT_NOTIFIER_CREATE = 0xB0
    CAPTURE = 0xB6
    COUNTER = 0xC0
    COUNTER_GLOBAL = 0xD0
    COUNTER_CPU = 0xD1


#: Names of a reply's negated return code (enum lttng_ust_error_code).
RETURN_CODES = {
    0: "OK",
    1024: "ERR",
    1025: "NOENT",
    1026: "EXIST",
    1027: "INVAL",
    1028: "PERM",
    1029: "NOSYS",
    1030: "EXITING",
    1031: "INVAL_MAGIC",
    1032: "INVAL_SOCKET_TYPE",
    1033: "UNSUP_MAJOR",
    1034: "PEERCRED",
    1035: "PEERCRED_PID",
}

#: Contexts without parameters: our name (``lttng add-context``'s) and upstream's number.
#: ``lttng`` has no ``cpu_id``: every packet context holds it. Applications record it all the same.
CONTEXTS = {
    "vtid": 0,
    "vpid": 1,
    "pthread_id": 2,
    "procname": 3,
    "ip": 4,
    "cpu_id": 6,
    "cgroup_ns": 8,
    "ipc_ns": 9,
    "mnt_ns": 10,
    "net_ns": 11,
    "pid_ns": 12,
    "user_ns": 13,
    "uts_ns": 14,
    "vuid": 15,
    "veuid": 16,
    "vsuid": 17,
    "vgid": 18,
    "vegid": 19,
    "vsgid": 20,
    "time_ns": 21,
}


class ContextNumber:
    """Contexts with parameters of their own (enum lttng_ust_abi_context_type)."""

    PERF_THREAD_COUNTER = 5
    APP_CONTEXT = 7


_COMMAND = Layout(
    "command",
    612,
    1,
    _COMM,
    (
        Row("handle", "<u4", 0, "ustcomm_ust_msg.handle"),
        Row("command", "<u4", 4, "ustcomm_ust_msg.cmd"),
        Row("payload", "V572", 40, "ustcomm_ust_msg.u"),
    ),
)
_REPLY = Layout(
    "reply",
    324,
    1,
    _COMM,
    (
        Row("handle", "<u4", 0, "ustcomm_ust_reply.handle"),
        Row("command", "<u4", 4, "ustcomm_ust_reply.cmd"),
        Row("ret_code", "<i4", 8, "ustcomm_ust_reply.ret_code"),
        Row("ret_val", "<i4", 12, "ustcomm_ust_reply.ret_val"),
        Row("payload", "V276", 48, "ustcomm_ust_reply.u"),
    ),
)
_TRACER_VERSION = Layout(
    "tracer version",
    12,
    1,
    _ABI,
    (
        Row("major", "<u4", 0, "lttng_ust_abi_tracer_version.major"),
        Row("minor", "<u4", 4, "lttng_ust_abi_tracer_version.minor"),
        Row("patch", "<u4", 8, "lttng_ust_abi_tracer_version.patchlevel"),
    ),
)
_TRACEPOINT = Layout(
    "tracepoint",
    276,
    1,
    _ABI,
    (
        Row("name", _NAME, 0, "lttng_ust_abi_tracepoint_iter.name"),
        Row("loglevel", "<i4", 256, "lttng_ust_abi_tracepoint_iter.loglevel"),
    ),
)
_CHANNEL = Layout(
    "channel",
    300,
    1,
    _ABI,
    (
        Row("length", "<u8", 0, "lttng_ust_abi_channel.len"),
        Row("kind", "<i4", 8, "lttng_ust_abi_channel.type"),
    ),
)
_STREAM = Layout(
    "stream",
    300,
    1,
    _ABI,
    (
        Row("length", "<u8", 0, "lttng_ust_abi_stream.len"),
        Row("number", "<u4", 8, "lttng_ust_abi_stream.stream_nr"),
    ),
)
_EVENT_ROWS = (
    Row("instrumentation", "<i4", 0, "lttng_ust_abi_event.instrumentation"),
    Row("name", _NAME, 4, "lttng_ust_abi_event.name"),
    Row("loglevel_type", "<i4", 260, "lttng_ust_abi_event.loglevel_type"),
    Row("loglevel", "<i4", 264, "lttng_ust_abi_event.loglevel"),
)
_EVENT_8 = Layout("event", 572, 1, _ABI, _EVENT_ROWS)
_EVENT = Layout(
    "event", 572, 1, _ABI, (*_EVENT_ROWS, Row("token", "<u8", 268, "lttng_ust_abi_event.token"))
)
_CONTEXT = Layout("context", 308, 1, _ABI, (Row("number", "<i4", 0, "lttng_ust_abi_context.ctx"),))
_BYTECODE = Layout(
    "bytecode",
    16,
    1,
    _COMM,
    (
        Row("length", "<u4", 0, "ustcomm_ust_msg.u.filter.data_size"),
        Row("reloc_offset", "<u4", 4, "ustcomm_ust_msg.u.filter.reloc_offset"),
        Row("seqnum", "<u8", 8, "ustcomm_ust_msg.u.filter.seqnum"),
    ),
)
_EXCLUSION = Layout(
    "exclusion", 4, 1, _COMM, (Row("count", "<u4", 0, "ustcomm_ust_msg.u.exclusion.count"),)
)
_EXCLUDED_NAME = Layout(
    "excluded name", 256, 1, _ABI, (Row("name", _NAME, 0, "lttng_ust_abi_event_exclusion.names"),)
)

# -- notify socket: offsets from the number that opens every message --------------------


class NotifyNumber:
    """Requests of the application (enum lttng_ust_ctl_notify_cmd)."""

    EVENT = 0
    CHANNEL = 1
    ENUM = 2


_NUMBER = Row("number", "<u4", 0, "ustcomm_notify_hdr.notify_cmd")
_EVENT_REQUEST_ROWS = (
    _NUMBER,
    Row("session", "<u4", 4, "ustcomm_notify_event_msg.session_objd"),
    Row("channel", "<u4", 8, "ustcomm_notify_event_msg.channel_objd"),
    Row("name", _NAME, 12, "ustcomm_notify_event_msg.event_name"),
    Row("loglevel", "<i4", 268, "ustcomm_notify_event_msg.loglevel"),
    Row("signature_length", "<u4", 272, "ustcomm_notify_event_msg.signature_len"),
    Row("fields_length", "<u4", 276, "ustcomm_notify_event_msg.fields_len"),
    Row("uri_length", "<u4", 280, "ustcomm_notify_event_msg.model_emf_uri_len"),
)
_EVENT_REQUEST = Layout("event request", 316, 1, _COMM, _EVENT_REQUEST_ROWS)
_EVENT_REQUEST_10 = Layout(
    "event request",
    316,
    1,
    _CTL_2_14,
    (
        *_EVENT_REQUEST_ROWS,
        Row("user_token", "<u8", 284, "ustcomm_notify_event_msg.user_token"),
    ),
)
_EVENT_ANSWER = Layout(
    "event answer",
    44,
    1,
    _COMM,
    (
        _NUMBER,
        Row("ret_code", "<i4", 4, "ustcomm_notify_event_reply.ret_code"),
        Row("id", "<u4", 8, "ustcomm_notify_event_reply.event_id"),
    ),
)
_CHANNEL_REQUEST = Layout(
    "channel request",
    48,
    1,
    _COMM,
    (
        _NUMBER,
        Row("session", "<u4", 4, "ustcomm_notify_channel_msg.session_objd"),
        Row("channel", "<u4", 8, "ustcomm_notify_channel_msg.channel_objd"),
        Row("fields_length", "<u4", 12, "ustcomm_notify_channel_msg.ctx_fields_len"),
    ),
)
_CHANNEL_ANSWER = Layout(
    "channel answer",
    48,
    1,
    _COMM,
    (
        _NUMBER,
        Row("ret_code", "<i4", 4, "ustcomm_notify_channel_reply.ret_code"),
        Row("id", "<u4", 8, "ustcomm_notify_channel_reply.chan_id"),
        Row("header_type", "<u4", 12, "ustcomm_notify_channel_reply.header_type"),
    ),
)
_ENUM_REQUEST = Layout(
    "enumeration request",
    300,
    1,
    _COMM,
    (
        _NUMBER,
        Row("session", "<u4", 4, "ustcomm_notify_enum_msg.session_objd"),
        Row("name", _NAME, 8, "ustcomm_notify_enum_msg.enum_name"),
        Row("entries_length", "<u4", 264, "ustcomm_notify_enum_msg.entries_len"),
    ),
)
_ENUM_ANSWER = Layout(
    "enumeration answer",
    48,
    1,
    _COMM,
    (
        _NUMBER,
        Row("ret_code", "<i4", 4, "ustcomm_notify_enum_reply.ret_code"),
        Row("id", "<u8", 8, "ustcomm_notify_enum_reply.enum_id"),
    ),
)
_ENUM_ENTRY = Layout(
    "enumeration entry",
    336,
    1,
    _CTL,
    (
        Row("start", "<u8", 0, "lttng_ust_ctl_enum_entry.start.value"),
        Row("start_signed", "u1", 8, "lttng_ust_ctl_enum_entry.start.signedness"),
        Row("end", "<u8", 24, "lttng_ust_ctl_enum_entry.end.value"),
        Row("end_signed", "u1", 32, "lttng_ust_ctl_enum_entry.end.signedness"),
        Row("label", _NAME, 48, "lttng_ust_ctl_enum_entry.string"),
        Row("options", "<u4", 304, "lttng_ust_ctl_enum_entry.u.extra.options"),
    ),
)

# -- field descriptors: 920 bytes, a name and a type --------------------------------------


class AtypeNumber:
    """What a field descriptor describes (enum lttng_ust_ctl_abstract_types)."""

    INTEGER = 0
    LEGACY_ENUM = 1
    LEGACY_ARRAY = 2
    LEGACY_SEQUENCE = 3
    STRING = 4
    FLOAT = 5
    LEGACY_VARIANT = 6
    LEGACY_STRUCT = 7
    ENUM = 8
    ARRAY = 9
    SEQUENCE = 10
    STRUCT = 11
    VARIANT = 12


_FIELD = 920
_UNION = 260  # lttng_ust_ctl_field.type.u


def _described(name: str, rows: tuple[Row, ...]) -> Layout:
    """Return a descriptor of one kind; the rows are relative to the union of its type."""
    head = (
        Row("name", _NAME, 0, "lttng_ust_ctl_field.name"),
        Row("atype", "<u4", 256, "lttng_ust_ctl_type.atype"),
    )
    return Layout(name, _FIELD, 1, _CTL, (*head, *embed(rows, _UNION)))


_INTEGER_ROWS = (
    Row("size", "<u4", 0, "lttng_ust_ctl_integer_type.size"),
    Row("signed", "<u4", 4, "lttng_ust_ctl_integer_type.signedness"),
    Row("reverse_byte_order", "<u4", 8, "lttng_ust_ctl_integer_type.reverse_byte_order"),
    Row("base", "<u4", 12, "lttng_ust_ctl_integer_type.base"),
    Row("encoding", "<i4", 16, "lttng_ust_ctl_integer_type.encoding"),
    Row("alignment", "<u2", 20, "lttng_ust_ctl_integer_type.alignment"),
)
_FLOAT_ROWS = (
    Row("exp_dig", "<u4", 0, "lttng_ust_ctl_float_type.exp_dig"),
    Row("mant_dig", "<u4", 4, "lttng_ust_ctl_float_type.mant_dig"),
    Row("reverse_byte_order", "<u4", 8, "lttng_ust_ctl_float_type.reverse_byte_order"),
    Row("alignment", "<u2", 12, "lttng_ust_ctl_float_type.alignment"),
)
# A legacy array or sequence holds whole basic types (316 bytes each): their kind, then
# the same unions as above. Only integers are ever elements.
_BASIC_SIZE = 316
_BASIC_INTEGER_ROWS = (
    Row("atype", "<u4", 0, "lttng_ust_ctl_basic_type.atype"),
    *embed(_INTEGER_ROWS, 4),
)

_FIELDS = {
    AtypeNumber.INTEGER: _described("integer", _INTEGER_ROWS),
    AtypeNumber.FLOAT: _described("floating point", _FLOAT_ROWS),
    AtypeNumber.STRING: _described(
        "string", (Row("encoding", "<i4", 0, "lttng_ust_ctl_type.u.string.encoding"),)
    ),
    AtypeNumber.ENUM: _described(
        "enumeration",
        (
            Row("enum_name", _NAME, 0, "lttng_ust_ctl_type.u.enum_nestable.name"),
            Row("enum_id", "<u8", 256, "lttng_ust_ctl_type.u.enum_nestable.id"),
        ),
    ),
    AtypeNumber.ARRAY: _described(
        "array",
        (
            Row("length", "<u4", 0, "lttng_ust_ctl_type.u.array_nestable.length"),
            Row("alignment", "<u4", 4, "lttng_ust_ctl_type.u.array_nestable.alignment"),
        ),
    ),
    AtypeNumber.SEQUENCE: _described(
        "sequence",
        (
            Row("length_name", _NAME, 0, "lttng_ust_ctl_type.u.sequence_nestable.length_name"),
            Row("alignment", "<u4", 256, "lttng_ust_ctl_type.u.sequence_nestable.alignment"),
        ),
    ),
    AtypeNumber.STRUCT: _described(
        "structure",
        (
            Row("count", "<u4", 0, "lttng_ust_ctl_type.u.struct_nestable.nr_fields"),
            Row("alignment", "<u4", 4, "lttng_ust_ctl_type.u.struct_nestable.alignment"),
        ),
    ),
    AtypeNumber.VARIANT: _described(
        "variant",
        (
            Row("count", "<u4", 0, "lttng_ust_ctl_type.u.variant_nestable.nr_choices"),
            Row("tag_name", _NAME, 4, "lttng_ust_ctl_type.u.variant_nestable.tag_name"),
            Row("alignment", "<u4", 260, "lttng_ust_ctl_type.u.variant_nestable.alignment"),
        ),
    ),
    AtypeNumber.LEGACY_ENUM: _described(
        "legacy enumeration",
        (
            Row("enum_name", _NAME, 0, "_lttng_ust_ctl_basic_type.enumeration.name"),
            *embed(_INTEGER_ROWS, 256, "container_"),
            Row("enum_id", "<u8", 304, "_lttng_ust_ctl_basic_type.enumeration.id"),
        ),
    ),
    AtypeNumber.LEGACY_ARRAY: _described(
        "legacy array",
        (
            *embed(_BASIC_INTEGER_ROWS, 0, "element_"),
            Row("length", "<u4", _BASIC_SIZE, "lttng_ust_ctl_type.u.legacy.array.length"),
        ),
    ),
    AtypeNumber.LEGACY_SEQUENCE: _described(
        "legacy sequence",
        (
            *embed(_BASIC_INTEGER_ROWS, 0, "length_"),
            *embed(_BASIC_INTEGER_ROWS, _BASIC_SIZE, "element_"),
        ),
    ),
    AtypeNumber.LEGACY_VARIANT: _described(
        "legacy variant",
        (
            Row("count", "<u4", 0, "lttng_ust_ctl_type.u.legacy.variant.nr_choices"),
            Row("tag_name", _NAME, 4, "lttng_ust_ctl_type.u.legacy.variant.tag_name"),
        ),
    ),
    AtypeNumber.LEGACY_STRUCT: _described(
        "legacy structure",
        (Row("count", "<u4", 0, "lttng_ust_ctl_type.u.legacy._struct.nr_fields"),),
    ),
}


class ApplicationLayouts(NamedTuple):
    """The messages of one ABI. ``fields`` maps an abstract type to its descriptor."""

    command: Layout
    reply: Layout
    tracer_version: Layout
    tracepoint: Layout
    channel: Layout
    stream: Layout
    event: Layout
    context: Layout
    bytecode: Layout
    exclusion: Layout
    excluded_name: Layout
    event_request: Layout
    event_answer: Layout
    channel_request: Layout
    channel_answer: Layout
    enum_request: Layout
    enum_answer: Layout
    enum_entry: Layout
    fields: dict[int, Layout]


_ABI_9 = ApplicationLayouts(
    command=_COMMAND,
    reply=_REPLY,
    tracer_version=_TRACER_VERSION,
    tracepoint=_TRACEPOINT,
    channel=_CHANNEL,
    stream=_STREAM,
    event=_EVENT,
    context=_CONTEXT,
    bytecode=_BYTECODE,
    exclusion=_EXCLUSION,
    excluded_name=_EXCLUDED_NAME,
    event_request=_EVENT_REQUEST,
    event_answer=_EVENT_ANSWER,
    channel_request=_CHANNEL_REQUEST,
    channel_answer=_CHANNEL_ANSWER,
    enum_request=_ENUM_REQUEST,
    enum_answer=_ENUM_ANSWER,
    enum_entry=_ENUM_ENTRY,
    fields=_FIELDS,
)

#: By ABI major. Majors missing here are refused at registration.
APPLICATION_LAYOUTS = {
    8: _ABI_9._replace(event=_EVENT_8),
    9: _ABI_9,
    10: _ABI_9._replace(event_request=_EVENT_REQUEST_10),
}

# -- what only a tracer reads, but event notifiers -----------------------------------------

_APP_CONTEXT = Layout(
    "application context",
    308,
    1,
    _ABI,
    (
        Row("number", "<i4", 0, "lttng_ust_abi_context.ctx"),
        # Both with their NUL.
        Row("provider_length", "<u4", 20, "lttng_ust_abi_context.u.app_ctx.provider_name_len"),
        Row("name_length", "<u4", 24, "lttng_ust_abi_context.u.app_ctx.ctx_name_len"),
    ),
)
_PERF_CONTEXT = Layout(
    "perf context",
    308,
    1,
    _ABI,
    (
        Row("number", "<i4", 0, "lttng_ust_abi_context.ctx"),
        Row("type", "<u4", 20, "lttng_ust_abi_context.u.perf_counter.type"),
        Row("config", "<u8", 24, "lttng_ust_abi_context.u.perf_counter.config"),
        Row("name", _NAME, 32, "lttng_ust_abi_context.u.perf_counter.name"),
    ),
)
_FIELD_ENTRY = Layout(
    "field entry",
    808,
    1,
    _ABI,
    (
        Row("event_name", _NAME, 0, "lttng_ust_abi_field_iter.event_name"),
        Row("field_name", _NAME, 256, "lttng_ust_abi_field_iter.field_name"),
        Row("type", "<i4", 512, "lttng_ust_abi_field_iter.type"),
        Row("loglevel", "<i4", 516, "lttng_ust_abi_field_iter.loglevel"),
        Row("nowrite", "<i4", 520, "lttng_ust_abi_field_iter.nowrite"),
    ),
)
_EVENT_NOTIFIER_LENGTH = Layout(
    "event notifier length",
    4,
    1,
    _COMM,
    (Row("length", "<u4", 0, "ustcomm_ust_msg.u.event_notifier.len"),),
)
_EVENT_NOTIFIER = Layout(
    "event notifier",
    612,
    1,
    _ABI,
    (
        *(
            row._replace(source=row.source.replace("event.", "event_notifier.event.", 1))
            for row in _EVENT.rows
        ),
        Row("error_index", "<u8", 572, "lttng_ust_abi_event_notifier.error_counter_index"),
    ),
)
_NOTIFICATION = Layout(
    "notification",
    42,
    1,
    _ABI,
    (
        Row("token", "<u8", 0, "lttng_ust_abi_event_notifier_notification.token"),
        Row("length", "<u2", 8, "lttng_ust_abi_event_notifier_notification.capture_buf_size"),
    ),
)
_COUNTER = Layout("counter", 296, 1, _ABI, (Row("length", "<u8", 0, "lttng_ust_abi_counter.len"),))
_COUNTER_GLOBAL = Layout(
    "global counter", 296, 1, _ABI, (Row("length", "<u8", 0, "lttng_ust_abi_counter_global.len"),)
)
_COUNTER_CPU = Layout(
    "counter of a CPU",
    300,
    1,
    _ABI,
    (
        Row("length", "<u8", 0, "lttng_ust_abi_counter_cpu.len"),
        Row("cpu", "<u4", 8, "lttng_ust_abi_counter_cpu.cpu_nr"),
    ),
)
_DIMENSION_ROWS = (
    Row("size", "<u8", 0, "size"),
    Row("underflow_index", "<u8", 8, "underflow_index"),
    Row("overflow_index", "<u8", 16, "overflow_index"),
    Row("has_underflow", "u1", 24, "has_underflow"),
    Row("has_overflow", "u1", 25, "has_overflow"),
)
_COUNTER_CONF = Layout(
    "counter configuration",
    192,
    1,
    _ABI,
    (
        Row("arithmetic", "<u4", 0, "lttng_ust_abi_counter_conf.arithmetic"),
        Row("bitness", "<u4", 4, "lttng_ust_abi_counter_conf.bitness"),
        Row("dimensions", "<u4", 8, "lttng_ust_abi_counter_conf.number_dimensions"),
        Row("global_sum_step", "<i8", 12, "lttng_ust_abi_counter_conf.global_sum_step"),
        # A tracer of 2.13 takes one dimension only: the first.
        *(
            row._replace(
                offset=20 + row.offset,
                source=f"lttng_ust_abi_counter_conf.dimensions[0].{row.source}",
            )
            for row in _DIMENSION_ROWS
        ),
        Row("coalesce_hits", "u1", 124, "lttng_ust_abi_counter_conf.coalesce_hits"),
    ),
)


class TracerLayouts(NamedTuple):
    """The messages of one ABI that our tracer reads, most of which our registry never sends."""

    app_context: Layout
    perf_context: Layout
    field_entry: Layout
    event_notifier_length: Layout
    event_notifier: Layout
    notification: Layout
    counter: Layout
    counter_global: Layout
    counter_cpu: Layout
    counter_conf: Layout


#: By ABI major: of the one that our tracer announces.
TRACER_LAYOUTS = {
    9: TracerLayouts(
        app_context=_APP_CONTEXT,
        perf_context=_PERF_CONTEXT,
        field_entry=_FIELD_ENTRY,
        event_notifier_length=_EVENT_NOTIFIER_LENGTH,
        event_notifier=_EVENT_NOTIFIER,
        notification=_NOTIFICATION,
        counter=_COUNTER,
        counter_global=_COUNTER_GLOBAL,
        counter_cpu=_COUNTER_CPU,
        counter_conf=_COUNTER_CONF,
    )
}
