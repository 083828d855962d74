# SPDX-License-Identifier: MIT
"""A structure in memory as rows: name, format, offset, source.

From the same rows derive `struct` codes (here), numpy dtypes (``abi.dtypes``) and
the offsets that native code is given at run time.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from ustconsumer.errors import LayoutError

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np

    #: What `struct` reads from and writes to: bytes, memoryview, mmap, ndarray.
    ReadableBuffer: TypeAlias = Any
    WritableBuffer: TypeAlias = Any

__all__ = ["Layout", "Row", "embed", "struct_code"]

_FORMAT = re.compile(r"(?:\((\d+),\))?(?:([<>]?)([iuf])([1248])|([VS])(\d+))")
_CODES = {"i1": "b", "i2": "h", "i4": "i", "i8": "q"}
_CODES |= {"u1": "B", "u2": "H", "u4": "I", "u8": "Q", "f4": "f", "f8": "d"}


def struct_code(format: str) -> struct.Struct:  # noqa: A002 - the column's name
    """Return the `struct` equivalent of a row's numpy-style format.

    Parameters
    ----------
    format : str
        ``<u8``, ``>u4``, ``u1``, ``V16`` (raw bytes), ``S255`` (text padded with
        zeros), or an array of scalars such as ``(2,)<i8``.
    """
    match = _FORMAT.fullmatch(format)
    if match is None:
        raise LayoutError("row format", "a numpy-style scalar format", repr(format))
    count, order, kind, width, raw, length = match.groups()
    if raw:
        if count:
            raise LayoutError("row format", "one byte string", repr(format))
        return struct.Struct(f"{length}s")
    if width != "1" and not order:
        raise LayoutError("row format", "an explicit byte order", repr(format))
    return struct.Struct(f"{order or '<'}{count or ''}{_CODES[kind + width]}")


class Row(NamedTuple):
    """One field. ``source`` is its upstream name, ``struct.member``."""

    name: str
    format: str
    offset: int
    source: str = ""


def embed(rows: Iterable[Row], at: int, prefix: str = "") -> tuple[Row, ...]:
    """Return the rows of a structure as seen from the one that holds it at byte ``at``."""
    return tuple(row._replace(name=prefix + row.name, offset=at + row.offset) for row in rows)


class Layout:
    """A structure: its size, alignment and rows.

    Parameters
    ----------
    name : str
        Our name of the structure.
    size, align : int
        In bytes. The size is that of the C type, padding included.
    source : str
        Repository, commit and file the rows were read from.
    rows : iterable of Row

    Raises
    ------
    LayoutError
        Rows overlap, leave the structure, or share a name.
    """

    def __init__(self, name: str, size: int, align: int, source: str, rows: Iterable[Row]):
        self.name = name
        self.size = size
        self.align = align
        self.source = source
        self.rows = tuple(rows)
        self._codes = {row.name: struct_code(row.format) for row in self.rows}
        self._offsets = {row.name: row.offset for row in self.rows}
        if len(self._codes) != len(self.rows):
            raise LayoutError(f"{name}: row names", "all different", [r.name for r in self.rows])
        end = 0
        for row in sorted(self.rows, key=lambda row: row.offset):
            if row.offset < end:
                raise LayoutError(f"{name}.{row.name}", f"offset >= {end}", row.offset)
            end = row.offset + self._codes[row.name].size
        if end > size:
            raise LayoutError(f"{name}: end of last row", f"<= {size}", end)

    def __repr__(self) -> str:
        return f"Layout({self.name!r}, size={self.size}, rows={len(self.rows)})"

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def offset(self, name: str) -> int:
        """Return the byte offset of a field."""
        return self._offsets[name]

    def field_size(self, name: str) -> int:
        """Return the size of a field in bytes."""
        return self._codes[name].size

    @cached_property
    def _dtype(self) -> np.dtype[np.void]:
        from ustconsumer.abi.dtypes import structure_dtype  # the only road to numpy

        return structure_dtype(self)

    def dtype(self) -> np.dtype[np.void]:
        """Return the numpy dtype of the whole structure; imports numpy."""
        return self._dtype

    @cached_property
    def _together(self) -> tuple[list[str], struct.Struct] | None:
        """All fields at once; None if they are of two byte orders, or one is an array."""
        rows = sorted(self.rows, key=lambda row: row.offset)
        codes = [self._codes[row.name].format for row in rows]
        orders = {code[0] for row, code in zip(rows, codes, strict=True) if row.format[0] in "<>"}
        if len(orders) > 1 or any(row.format.startswith("(") for row in rows):
            return None
        parts, end = [orders.pop() if orders else "<"], 0
        for row, code in zip(rows, codes, strict=True):
            parts += [f"{row.offset - end}x", code.lstrip("<>")]
            end = row.offset + self._codes[row.name].size
        return [row.name for row in rows], struct.Struct("".join(parts))

    def get(self, buf: ReadableBuffer, base: int, name: str) -> Any:
        """Return one field of the structure at byte ``base`` (a tuple for an array row).

        A plain access: fields that other processes change go through
        ``ustconsumer._native.atomics``.
        """
        values = self._codes[name].unpack_from(buf, base + self._offsets[name])
        return values[0] if len(values) == 1 else values

    def put(self, buf: WritableBuffer, base: int, name: str, value: Any) -> None:
        """Store one field of the structure at byte ``base`` (a plain access)."""
        code = self._codes[name]
        values = value if isinstance(value, tuple) else (value,)
        code.pack_into(buf, base + self._offsets[name], *values)

    def put_all(self, buf: WritableBuffer, base: int, values: Mapping[str, Any]) -> None:
        """Store several fields; the others keep their bytes."""
        for name, value in values.items():
            self.put(buf, base, name, value)

    def get_all(self, buf: ReadableBuffer, base: int = 0) -> dict[str, Any]:
        """Return every field of the structure at byte ``base``."""
        if self._together is not None:
            names, code = self._together
            return dict(zip(names, code.unpack_from(buf, base), strict=True))
        return {row.name: self.get(buf, base, row.name) for row in self.rows}

    def pack(self, values: Mapping[str, Any]) -> bytes:
        """Return the structure as bytes, fields not named being zero."""
        if self._together is not None and len(values) == len(self.rows):
            names, code = self._together
            return code.pack(*[values[name] for name in names]).ljust(self.size, b"\0")
        image = bytearray(self.size)
        self.put_all(image, 0, values)
        return bytes(image)
