# SPDX-License-Identifier: MIT
"""How to get from one event record to the next without decoding it: steps.

A record's fields become the fewest pairs (operation, argument), small enough to
travel in a control message and to be walked by native code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from ustconsumer.ctf.types import (
    Array,
    Enumeration,
    Field,
    FieldType,
    FloatingPoint,
    Integer,
    Sequence,
    String,
    Struct,
)
from ustconsumer.errors import DecodeError, UsageError

__all__ = [
    "FIXED",
    "MAX_ARGUMENT",
    "MAX_EVENTS",
    "MAX_STREAM_CLASSES",
    "OPAQUE",
    "PROBLEMS",
    "SEQUENCE",
    "STRING",
    "Steps",
    "problem",
    "records",
    "steps",
]

Steps: TypeAlias = list[tuple[int, int]]

#: Skip as many bytes as the argument says.
FIXED = 0
#: Skip up to and with a NUL.
STRING = 1
#: This plus k: read an unsigned integer of 1 << k bytes, skip that many elements of as
#: many bytes as the argument says.
SEQUENCE = 2
#: The size cannot be known without decoding: a variant, padding for alignment.
OPAQUE = 6

#: The registry numbers both from 0: native tables are as long as the largest id.
MAX_STREAM_CLASSES = 1 << 16
MAX_EVENTS = 1 << 20
#: Above what any sum of declared sizes reaches, below what wraps in 64 bits.
MAX_ARGUMENT = 1 << 56

#: Why a stream file cannot be walked, by the number the native walk reports.
PROBLEMS = (
    "",
    "packet header cut off",
    "wrong magic",
    "packet size out of range",
    "content size out of range",
    "stream class without description",
    "event header cut off",
    "event id without description",
    "event cut off",
    "event with a variant or padding",
)


def problem(number: int, packet: int, offset: int) -> DecodeError:
    """Return the error for one of `PROBLEMS`.

    Parameters
    ----------
    packet, offset : int
        Bytes from the start of the file to the packet, and to the place itself.
    """
    return DecodeError(f"{PROBLEMS[number]} at byte {offset}, in the packet at byte {packet}")


def steps(fields: Iterable[Field]) -> Steps:
    """Return the steps over a record's fields."""
    pairs: Steps = []
    # The length of a sequence is the field before it: both become one step.
    length: FieldType | None = None
    for field in fields:
        if isinstance(field.type, Sequence) and isinstance(length, Integer):
            pairs.pop()
            pairs += _sequence(length, field.type)
        else:
            pairs += _pairs(field.type)
        length = field.type
    return _joined(pairs)


def records(
    contexts: Mapping[int, Steps], events: Mapping[int, Mapping[int, Steps]]
) -> dict[int, dict[int, Steps]]:
    """Return the steps over whole records, contexts and payload: by stream class, then event.

    Raises
    ------
    UsageError
        An id or a step out of range: the description is not one of `steps`.
    """
    result: dict[int, dict[int, Steps]] = {}
    for stream_id, payloads in events.items():
        _check_id("stream class", stream_id, MAX_STREAM_CLASSES)
        result[stream_id] = {}
        for event_id, payload in payloads.items():
            _check_id("event", event_id, MAX_EVENTS)
            pairs = _joined(contexts.get(stream_id, []), payload)
            for operation, argument in pairs:
                if not FIXED <= operation <= OPAQUE or not 0 <= argument <= MAX_ARGUMENT:
                    raise UsageError(f"event {event_id}: no step ({operation}, {argument})")
            result[stream_id][event_id] = pairs
    return result


def _check_id(what: str, number: int, limit: int) -> None:
    if not 0 <= number < limit:
        raise UsageError(f"{what} id {number} is not in 0 to {limit - 1}")


def _joined(*parts: Steps) -> Steps:
    """Return one list of steps for parts that follow each other, fixed sizes added up."""
    result: Steps = []
    for operation, argument in (pair for part in parts for pair in part):
        if operation != FIXED:
            result.append((operation, argument))
        elif result and result[-1][0] == FIXED:
            result[-1] = (FIXED, result[-1][1] + argument)
        elif argument:
            result.append((FIXED, argument))
    return result


def _pairs(type_: FieldType) -> Steps:
    match type_:
        case Integer(size=size, alignment=8) if size % 8 == 0:
            return [(FIXED, size // 8)]
        case FloatingPoint(alignment=8):
            return [(FIXED, (type_.exp_dig + type_.mant_dig) // 8)]
        case String():
            return [(STRING, 0)]
        case Enumeration():
            return _pairs(type_.container)
        case Array(element=element, alignment=0 | 1):
            return [(op, type_.length * size) for op, size in _pairs(element)]
        case Struct(alignment=0 | 1):
            return [pair for field in type_.fields for pair in steps([field])]
    return [(OPAQUE, 0)]


def _sequence(length: Integer, type_: Sequence) -> Steps:
    (operation, width), (element_operation, element_size) = *_pairs(length), *_pairs(type_.element)
    if operation != FIXED or element_operation != FIXED or type_.alignment > 1:
        return [(OPAQUE, 0)]
    if width not in (1, 2, 4, 8) or length.signed or length.reverse_byte_order:
        return [(OPAQUE, 0)]
    return [(SEQUENCE + width.bit_length() - 1, element_size)]
