# SPDX-License-Identifier: MIT
"""Types of a tracepoint's fields.

Written as ``number=u32`` or as the annotation of a dataclass or a TypedDict. Python's
own ``int float str bytes bool`` mean ``i64 f64 string bytes u8``.

No ``typing``, ``enum`` or ``re`` at import: a traced program pays for this module.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

__all__ = [
    "Enumeration",
    "FieldType",
    "Integer",
    "Real",
    "Sequence",
    "Text",
    "enumeration",
    "f32",
    "f64",
    "i8",
    "i16",
    "i32",
    "i64",
    "resolve",
    "sequence",
    "string",
    "u8",
    "u16",
    "u32",
    "u64",
]


class FieldType:
    """What a field holds.

    Attributes
    ----------
    code : int
        How native code stores it: a constant of `ustconsumer._native.emit`.
    """

    __slots__ = ("code",)
    code: int


class Integer(FieldType):
    """A whole number; ``size`` in bits (8, 16, 32, 64), ``base`` 2, 8, 10 or 16."""

    __slots__ = ("base", "signed", "size")

    def __init__(self, size: int, signed: bool, base: int = 10) -> None:
        if size not in (8, 16, 32, 64) or base not in (2, 8, 10, 16):
            raise ValueError(f"an integer of {size} bits, base {base}: 8 to 64, base 2, 8, 10, 16")
        self.size = size
        self.signed = signed
        self.base = base
        # As in the native module: kind, then the size as a power of two.
        self.code = (1 if signed else 0) << 4 | (size // 8).bit_length() - 1

    def hex(self) -> Integer:
        """Return the same integer, shown in base 16."""
        return Integer(self.size, self.signed, 16)

    def __repr__(self) -> str:
        return f"{'i' if self.signed else 'u'}{self.size}"


class Real(FieldType):
    """IEEE 754; ``size`` in bits, 32 or 64."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        if size not in (32, 64):
            raise ValueError(f"a real number of {size} bits: 32 or 64")
        self.size = size
        self.code = 2 << 4 | (size // 8).bit_length() - 1

    def __repr__(self) -> str:
        return f"f{self.size}"


class Text(FieldType):
    """UTF-8 up to a NUL. No value may hold a NUL, or a character UTF-8 does not have."""

    __slots__ = ()

    def __init__(self) -> None:
        self.code = 3 << 4

    def __repr__(self) -> str:
        return "string"


class Sequence(FieldType):
    """Any number of one type of integer, length first (32 bits).

    Values: anything iterable; for 8-bit elements also what exports bytes.
    """

    __slots__ = ("element",)

    def __init__(self, element: Integer) -> None:
        if not isinstance(element, Integer):
            raise TypeError(f"a sequence of {element!r}: only integers can be its elements")
        self.element = element
        self.code = 4 << 4 | element.code & 3 | (8 if element.signed else 0)

    def __repr__(self) -> str:
        return f"sequence({self.element!r})"


class Enumeration(FieldType):
    """An integer with labels.

    Attributes
    ----------
    name : str
        In the trace it is PROVIDER_name.
    container : Integer
    entries : tuple of (label, first, last)
        Both values included.
    values : dict
        What may be given for a value: labels, and members of the class it was made of,
        to the integer. Any integer that fits the container is taken as well.
    """

    __slots__ = ("container", "entries", "name", "values")

    def __init__(
        self,
        name: str,
        container: Integer,
        entries: tuple[tuple[str, int, int], ...],
        values: Mapping[object, int],
    ) -> None:
        if not entries:
            raise ValueError(f"enumeration {name!r} has no labels")
        self.name = name
        self.container = container
        self.entries = entries
        self.values = dict(values)
        self.code = 5 << 4 | container.code & 3 | (8 if container.signed else 0)

    def __repr__(self) -> str:
        return f"enumeration({self.name!r})"


def sequence(element: object) -> Sequence:
    """Return the type of a field with any number of integers of one type."""
    kind = resolve(element)
    if not isinstance(kind, Integer):
        raise TypeError(f"a sequence of {element!r}: only integers can be its elements")
    return Sequence(kind)


def enumeration(
    labels: object, *, name: str | None = None, container: object | None = None
) -> Enumeration:
    """Return the type of a field with labelled values.

    Parameters
    ----------
    labels : mapping or subclass of enum.Enum
        Label to value, or to a range ``(first, last)``.
    name : str, optional
        Default: the class's name, in lower case; needed for a mapping.
    container : type of integer, optional
        Default: i32, or i64 where a value needs it, u64 where only that holds it.
    """
    values: dict[object, int] = {}
    members = getattr(labels, "__members__", None)
    pairs: list[tuple[str, object]] = []
    if members is not None:
        name = name or str(getattr(labels, "__name__", "enum")).lower()
        for label, member in members.items():
            pairs.append((label, member.value))
            values[member] = member.value
    elif isinstance(labels, dict):
        pairs = [(str(label), value) for label, value in labels.items()]
    else:
        raise TypeError(f"labels of an enumeration: a mapping or an Enum class, not {labels!r}")
    if not name:
        raise ValueError("an enumeration made of a mapping needs a name")
    entries: list[tuple[str, int, int]] = []
    for label, value in pairs:
        first, last = value if isinstance(value, tuple) else (value, value)
        if not (isinstance(first, int) and isinstance(last, int) and first <= last):
            raise ValueError(f"enumeration {name!r}: {label!r} is {value!r}, not an integer")
        entries.append((label, first, last))
        values[label] = first
    kind = _container(entries) if container is None else resolve(container)
    if not isinstance(kind, Integer):
        raise TypeError(f"enumeration {name!r}: its container {container!r} is not an integer")
    return Enumeration(name, kind, tuple(entries), values)


def _container(entries: list[tuple[str, int, int]]) -> Integer:
    least = min((first for _, first, _ in entries), default=0)
    most = max((last for _, _, last in entries), default=0)
    for kind in (_I32, _I64, _U64):
        low = -(1 << kind.size - 1) if kind.signed else 0
        if low <= least and most < low + (1 << kind.size):
            return kind
    raise ValueError(f"values from {least} to {most} do not fit one type of integer")


_I32, _I64, _U64 = Integer(32, True), Integer(64, True), Integer(64, False)

if TYPE_CHECKING:
    # To a type checker an annotation with one of these is the value's Python type.
    u8: TypeAlias = int
    u16: TypeAlias = int
    u32: TypeAlias = int
    u64: TypeAlias = int
    i8: TypeAlias = int
    i16: TypeAlias = int
    i32: TypeAlias = int
    i64: TypeAlias = int
    f32: TypeAlias = float
    f64: TypeAlias = float
    string: TypeAlias = str
else:
    u8, u16, u32, u64 = (Integer(size, False) for size in (8, 16, 32, 64))
    i8, i16, i32, i64 = (Integer(size, True) for size in (8, 16, 32, 64))
    f32, f64 = Real(32), Real(64)
    string = Text()

_BYTES = Sequence(Integer(8, False))


def resolve(kind: object) -> FieldType:
    """Return the field type for what was written: one of ours, or Python's own.

    Raises
    ------
    TypeError
        Nothing that can be recorded.
    """
    if isinstance(kind, FieldType):
        return kind
    if isinstance(kind, type):
        for python, ours in ((bool, u8), (int, i64), (float, f64), (str, string), (bytes, _BYTES)):
            if kind is python:
                return ours  # type: ignore[return-value]
        if hasattr(kind, "__members__"):
            return enumeration(kind)
    raise TypeError(
        f"{kind!r} is no type of a field: use u8 to u64, i8 to i64, f32, f64, string, bytes, "
        "sequence(...), enumeration(...), or an Enum class"
    )
