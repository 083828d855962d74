# SPDX-License-Identifier: MIT
from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from ustconsumer.abi.packet import DATA_PACKET, INDEX_ENTRY, INDEX_HEADER, METADATA_PACKET
from ustconsumer.abi.ring import CRASH_MAGIC, RING_LAYOUTS
from ustconsumer.abi.rows import Layout, Row, embed, struct_code
from ustconsumer.errors import LayoutError

RING = RING_LAYOUTS["ust-9-x86_64"]
STRUCTURES = [
    *(RING.control, RING.hot, RING.cold, RING.page, RING.crash, RING.channel),
    *(RING.client_config, DATA_PACKET, METADATA_PACKET, INDEX_HEADER, INDEX_ENTRY),
]


@pytest.mark.parametrize(
    ("format", "code", "size"),
    [
        ("<u8", "<Q", 8),
        (">u4", ">I", 4),
        ("u1", "<B", 1),
        ("(2,)<i8", "<2q", 16),
        ("V16", "16s", 16),
        ("S255", "255s", 255),
    ],
)
def test_struct_code(format: str, code: str, size: int) -> None:  # noqa: A002
    assert struct_code(format).format == code
    assert struct_code(format).size == size


@pytest.mark.parametrize("format", ["u8", "<u3", "Q", "(2,)V16", "<u8 ", "=u8"])
def test_formats_without_one_meaning_are_refused(format: str) -> None:  # noqa: A002
    with pytest.raises(LayoutError):
        struct_code(format)


@pytest.mark.parametrize(
    "rows",
    [
        [Row("a", "<u8", 0), Row("b", "<u4", 4)],  # overlap
        [Row("a", "<u8", 12)],  # leaves the structure
        [Row("a", "<u4", 0), Row("a", "<u4", 4)],  # one name twice
    ],
)
def test_rows_that_contradict_their_structure(rows: list[Row]) -> None:
    with pytest.raises(LayoutError):
        Layout("broken", 16, 8, "nowhere", rows)


def test_embedded_rows_move_and_are_renamed() -> None:
    assert embed([Row("a", "<u4", 8, "s.a")], 100, "in_") == (Row("in_a", "<u4", 108, "s.a"),)


@pytest.mark.parametrize("layout", STRUCTURES, ids=lambda layout: layout.name)
def test_numpy_sees_the_same_fields(layout: Layout) -> None:
    """The two derivations of a row, `struct` and numpy, read the same values."""
    dtype = layout.dtype()
    assert dtype.itemsize == layout.size
    raw = bytes(i * 37 % 251 for i in range(layout.size))
    record = np.frombuffer(raw, dtype)[0]
    for row in layout:
        assert dtype.fields[row.name][1] == row.offset
        value = layout.get(raw, 0, row.name)
        seen = record[row.name]
        if row.format[0] in "VS":
            assert bytes(seen) == value.rstrip(b"\0" if row.format[0] == "S" else b"")
        else:
            assert np.array_equal(seen, value)


@pytest.mark.parametrize("layout", STRUCTURES, ids=lambda layout: layout.name)
def test_every_row_names_its_source(layout: Layout) -> None:
    assert layout.source
    assert all("." in row.source for row in layout)


def test_structure_sizes() -> None:
    """As compiled from the tracer's headers on x86-64."""
    sizes = {layout.name: layout.size for layout in STRUCTURES}
    assert sizes == {
        "ring buffer control block": 640,
        "hot commit counters": 128,
        "cold commit counters": 128,
        "page descriptor": 64,
        "crash record": 124,
        "channel": 768,
        "client configuration": 120,
        "data packet header": 84,
        "metadata packet header": 37,
        "index header": 16,
        "index entry": 72,
    }
    assert CRASH_MAGIC.hex() == "177bf177bf177bf177bf177bf177bf17"


def test_abi_does_not_import_numpy() -> None:
    """The tracer and the control tool use the rows and must start without numpy."""
    code = (
        "import sys, ustconsumer.abi.ring, ustconsumer.abi.packet, ustconsumer.abi.rows;"
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("layout", STRUCTURES, ids=lambda layout: layout.name)
def test_all_fields_at_once_are_the_fields_one_by_one(layout: Layout) -> None:
    raw = bytes(i * 41 % 251 for i in range(layout.size + 5))
    values = layout.get_all(raw, 5)
    assert values == {row.name: layout.get(raw, 5, row.name) for row in layout}
    packed = bytearray(layout.size)
    layout.put_all(packed, 0, values)
    assert layout.pack(values) == packed
    some = dict(list(values.items())[1:])
    layout.put_all(packed := bytearray(layout.size), 0, some)
    assert layout.pack(some) == packed


def test_fields_of_two_byte_orders_and_gaps() -> None:
    layout = Layout("odd", 12, 1, "nowhere", [Row("a", ">u2", 8), Row("b", "<u4", 1)])
    raw = bytes(range(12))
    assert layout.get_all(raw) == {"a": 0x0809, "b": 0x04030201}
    assert layout.pack({"a": 0x0809, "b": 0x04030201}).hex() == "000102030400000008090000"
    same = Layout("gap", 12, 1, "nowhere", [Row("a", ">u2", 8), Row("b", ">u4", 1)])
    assert same.get_all(raw) == {"a": 0x0809, "b": 0x01020304}
    assert same.pack({"b": 0x01020304, "a": 0x0809}).hex() == "000102030400000008090000"
