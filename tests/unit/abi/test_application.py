# SPDX-License-Identifier: MIT
"""Rows of the application protocol against the structures of the installed headers."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from ustconsumer.abi.application import (
    APPLICATION_LAYOUTS,
    REGISTRATION,
    TRACER_LAYOUTS,
    AtypeNumber,
)
from ustconsumer.abi.rows import Layout

ABI = APPLICATION_LAYOUTS[9]

# Member of struct lttng_ust_ctl_field by atype and row; "*" stands for the row's own name.
INTEGER = {
    "size": "size",
    "signed": "signedness",
    "reverse_byte_order": "reverse_byte_order",
    "base": "base",
    "encoding": "encoding",
    "alignment": "alignment",
}


def integer(prefix: str, member: str) -> dict[str, str]:
    return {prefix + ours: f"{member}.{theirs}" for ours, theirs in INTEGER.items()}


def basic(prefix: str, member: str) -> dict[str, str]:
    return {prefix + "atype": f"{member}.atype"} | integer(prefix, f"{member}.u.basic.integer")


LEGACY_ENUM = "type.u.legacy.basic.enumeration"
LEGACY_SEQUENCE = "type.u.legacy.sequence"
FIELDS: dict[int, dict[str, str]] = {
    AtypeNumber.INTEGER: integer("", "type.u.integer"),
    AtypeNumber.FLOAT: {
        name: f"type.u._float.{name}"
        for name in ("exp_dig", "mant_dig", "reverse_byte_order", "alignment")
    },
    AtypeNumber.STRING: {"encoding": "type.u.string.encoding"},
    AtypeNumber.ENUM: {
        "enum_name": "type.u.enum_nestable.name",
        "enum_id": "type.u.enum_nestable.id",
    },
    AtypeNumber.ARRAY: {
        "length": "type.u.array_nestable.length",
        "alignment": "type.u.array_nestable.alignment",
    },
    AtypeNumber.SEQUENCE: {
        "length_name": "type.u.sequence_nestable.length_name",
        "alignment": "type.u.sequence_nestable.alignment",
    },
    AtypeNumber.STRUCT: {
        "count": "type.u.struct_nestable.nr_fields",
        "alignment": "type.u.struct_nestable.alignment",
    },
    AtypeNumber.VARIANT: {
        "count": "type.u.variant_nestable.nr_choices",
        "tag_name": "type.u.variant_nestable.tag_name",
        "alignment": "type.u.variant_nestable.alignment",
    },
    AtypeNumber.LEGACY_ENUM: {"enum_name": f"{LEGACY_ENUM}.name", "enum_id": f"{LEGACY_ENUM}.id"}
    | integer("container_", f"{LEGACY_ENUM}.container_type"),
    AtypeNumber.LEGACY_ARRAY: {"length": "type.u.legacy.array.length"}
    | basic("element_", "type.u.legacy.array.elem_type"),
    AtypeNumber.LEGACY_SEQUENCE: basic("length_", f"{LEGACY_SEQUENCE}.length_type")
    | basic("element_", f"{LEGACY_SEQUENCE}.elem_type"),
    AtypeNumber.LEGACY_VARIANT: {
        "count": "type.u.legacy.variant.nr_choices",
        "tag_name": "type.u.legacy.variant.tag_name",
    },
    AtypeNumber.LEGACY_STRUCT: {"count": "type.u.legacy._struct.nr_fields"},
}
#: What names its members in full in the column ``source``.
PAYLOADS = [
    *(ABI.tracer_version, ABI.tracepoint, ABI.channel, ABI.stream, ABI.event, ABI.context),
    ABI.enum_entry,
    # The length before an event notifier is in no public header.
    *(layout for layout in TRACER_LAYOUTS[9] if layout.name != "event notifier length"),
]


def expressions() -> list[tuple[str, Layout, str, str, str]]:
    """Return (label, layout, row, structure, member) of every row that a public header shows."""
    found = []
    for atype, members in FIELDS.items():
        layout = ABI.fields[atype]
        members = {"name": "name", "atype": "type.atype"} | members
        # A row without a member here, or the reverse, is a mistake of this table.
        assert {row.name for row in layout} == set(members), layout.name
        for name, member in members.items():
            found.append((layout.name, layout, name, "lttng_ust_ctl_field", member))
    for layout in PAYLOADS:
        for row in layout:
            structure, _, member = row.source.partition(".")
            found.append((layout.name, layout, row.name, structure, member))
    return found


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_rows_are_those_of_the_headers(tmp_path: Path) -> None:
    rows = expressions()
    lines = "\n".join(
        f'printf("%zu %zu %zu\\n", offsetof(struct {structure}, {member}), '
        f"sizeof(((struct {structure} *) 0)->{member}), sizeof(struct {structure}));"
        for _, _, _, structure, member in rows
    )
    source = tmp_path / "probe.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n"
        "#include <lttng/ust-abi.h>\n#include <lttng/ust-ctl.h>\n"
        f"int main(void)\n{{\n{lines}\nreturn 0;\n}}\n"
    )
    subprocess.run(["gcc", "-o", tmp_path / "probe", source], check=True)
    output = subprocess.run([tmp_path / "probe"], check=True, capture_output=True, text=True)
    measured = [tuple(map(int, line.split())) for line in output.stdout.splitlines()]
    ours = [
        (layout.offset(name), layout.field_size(name), layout.size)
        for _, layout, name, _, _ in rows
    ]
    labels = [f"{label}.{name}" for label, _, name, _, _ in rows]
    assert dict(zip(labels, ours, strict=True)) == dict(zip(labels, measured, strict=True))


def _messages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("messages", Path(__file__).parent / "messages.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows_are_those_of_the_headers_of_2_12_and_2_14() -> None:
    table = _messages()
    older = {
        message: {row: at for row, at in rows.items() if row not in missing}
        for message, rows in table.V2_14.items()
        for missing in [table.NOT_IN_2_12.get(message, set())]
    }
    for major, expected in ((8, older), (10, table.V2_14)):
        *messages, fields = APPLICATION_LAYOUTS[major]
        ours = {layout.name: layout for layout in (*messages, *fields.values(), REGISTRATION)}
        for message, rows in expected.items():
            known = {row.name: row.offset for row in ours[message]} | {"(size)": ours[message].size}
            assert rows.items() <= known.items(), (major, message)


def test_what_an_older_version_has_not_is_no_row() -> None:
    names = {
        major: {row.name for layout in layouts[:-1] for row in layout}
        for major, layouts in APPLICATION_LAYOUTS.items()
    }
    assert names[9] - names[8] == {"token"}
    assert names[10] - names[9] == {"user_token"}
    # What lttng-ust 2.12 calls integer, enum, array, sequence, string, float, variant, struct.
    assert {
        name: number
        for name, number in vars(AtypeNumber).items()
        if not name.startswith("_") and number < 8
    } == {
        "INTEGER": 0,
        "LEGACY_ENUM": 1,
        "LEGACY_ARRAY": 2,
        "LEGACY_SEQUENCE": 3,
        "STRING": 4,
        "FLOAT": 5,
        "LEGACY_VARIANT": 6,
        "LEGACY_STRUCT": 7,
    }
