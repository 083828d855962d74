# SPDX-License-Identifier: MIT
"""What a trace can declare: checks of definitions that come from applications.

All applications of a uid share one metadata text. A definition that readers would
refuse makes the trace unreadable for all of them, so it is refused here.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Container, Iterable

from ustconsumer.ctf.types import (
    Array,
    EnumEntry,
    Enumeration,
    Field,
    FieldType,
    FloatingPoint,
    Integer,
    Sequence,
    String,
    Struct,
    Variant,
)
from ustconsumer.errors import UstConsumerError
from ustconsumer.protocol.application import EventRequest

__all__ = ["DeclarationRefusedError", "check_entries", "check_event", "check_fields"]

#: Records of x86-64 are packed: nothing is aligned on more than a byte.
_ALIGNMENT_BITS = 8
_LOGLEVELS = range(15)


class DeclarationRefusedError(UstConsumerError):
    """A declaration that the trace cannot have.

    Parameters
    ----------
    message : str
    code : int
        The errno the application is answered, positive.
    """

    def __init__(self, message: str, code: int = errno.EINVAL) -> None:
        super().__init__(message)
        self.errno = code


def check_event(request: EventRequest, enumerations: Container[int]) -> None:
    """Raise `DeclarationRefusedError` unless an event can be declared."""
    what = f"event {request.name!r}"
    if not request.name or not request.name.isprintable():
        raise DeclarationRefusedError(f"{what}: no name for an event")
    if request.loglevel not in _LOGLEVELS:
        raise DeclarationRefusedError(f"{what}: log level {request.loglevel}, not 0 to 14")
    check_fields(what, request.fields, enumerations)


def check_fields(what: str, fields: Iterable[Field], enumerations: Container[int]) -> None:
    """Raise `DeclarationRefusedError` unless the fields can be members of one structure."""
    seen = set()
    before: Field | None = None
    for field in fields:
        if isinstance(field.type, Variant):
            _check_tag(f"{what}, field {field.name!r}", field.type, before)
        before = field
        # As the metadata will have it: two names may become one.
        name = re.sub(r"[^A-Za-z0-9_]", "_", field.name)
        if not name or name in seen:
            raise DeclarationRefusedError(f"{what}: two fields are called {field.name!r}")
        seen.add(name)
        _check_type(f"{what}, field {field.name!r}", field.type, enumerations)


def check_entries(name: str, entries: tuple[EnumEntry, ...]) -> None:
    """Raise `DeclarationRefusedError` unless an enumeration can be declared."""
    if not entries:
        raise DeclarationRefusedError(f"enumeration {name!r} has no entry")
    for entry in entries:
        if entry.start > entry.end:
            raise DeclarationRefusedError(
                f"enumeration {name!r}: {entry.label!r} is from {entry.start} to {entry.end}"
            )
        if not entry.label.replace("\n", "").isprintable():
            raise DeclarationRefusedError(f"enumeration {name!r}: label {entry.label!r}")


def _check_tag(what: str, type_: Variant, before: Field | None) -> None:
    """Readers look for the tag in front of the variant, and for its labels among the choices."""
    if before is None or before.name != type_.tag_name or not isinstance(before.type, Enumeration):
        raise DeclarationRefusedError(f"{what}: its tag {type_.tag_name!r} is not in front of it")


def _check_type(what: str, type_: FieldType, enumerations: Container[int]) -> None:
    if isinstance(type_, Integer | FloatingPoint):
        if type_.alignment > _ALIGNMENT_BITS:
            raise DeclarationRefusedError(f"{what}: aligned on {type_.alignment} bits")
    elif isinstance(type_, Array | Sequence):
        if 8 * type_.alignment > _ALIGNMENT_BITS:
            raise DeclarationRefusedError(f"{what}: aligned on {type_.alignment} bytes")
        _check_type(what, type_.element, enumerations)
    elif isinstance(type_, Enumeration):
        if type_.enum_id not in enumerations:
            raise DeclarationRefusedError(f"{what}: unknown enumeration {type_.enum_id}")
        _check_type(what, type_.container, enumerations)
    elif isinstance(type_, Variant):
        # Without padding, and of simple values: the contexts of applications.
        if type_.alignment > 1:
            raise DeclarationRefusedError(f"{what}: aligned on {type_.alignment} bytes")
        check_fields(what, type_.choices, enumerations)
        if any(isinstance(choice.type, Variant | Array | Sequence) for choice in type_.choices):
            raise DeclarationRefusedError(f"{what}: a choice that is no simple value")
    elif not isinstance(type_, String) and type_ != Struct():
        raise DeclarationRefusedError(f"{what}: {type(type_).__name__} is not supported")
