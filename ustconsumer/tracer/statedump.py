# SPDX-License-Identifier: MIT
"""State dump: the events by which a process first names itself and its libraries.

They go to one session at a time, so they are no tracepoints of the program, but are
declared to registries as those are: word for word those of liblttng-ust, whose programs
may share the buffers.

Notes
-----
Source: lttng-ust ``src/lib/lttng-ust/lttng-ust-statedump-provider.h``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from ustconsumer._native import emit
from ustconsumer.ctf import types as ctf
from ustconsumer.tracer.elfs import Loaded, loaded
from ustconsumer.tracer.types import FieldType, Integer, Sequence, Text

__all__ = ["BUILTINS", "Builtin", "dump"]

_PROVIDER = "lttng_ust_statedump"
_LEVEL_DEBUG_LINE = 13
_PROCNAME_SIZE = 17

_BYTE, _U32, _U64 = (Integer(size, signed=False) for size in (8, 32, 64))
_TEXT = Text()
_SESSION = "struct lttng_ust_session *, session"

#: Native fields: name, code, labels.
_Native = tuple[tuple[str, int, None], ...]


class Builtin:
    """A tracepoint of the tracer itself.

    Attributes
    ----------
    name, loglevel, signature, model_emf_uri, fields
        As of a tracepoint that a program declares; what filters and captures see.
    described : tuple of Field
        What the registry is told, where types of ours do not go as far.
    """

    loglevel = _LEVEL_DEBUG_LINE
    model_emf_uri = ""
    native = None

    def __init__(
        self,
        name: str,
        arguments: str,
        fields: tuple[tuple[str, FieldType, ctf.FieldType], ...],
    ):
        self.name = f"{_PROVIDER}:{name}"
        self.signature = f"{_SESSION}, {arguments}" if arguments else _SESSION
        self.fields = tuple((field, kind) for field, kind, _ in fields)
        self.described = tuple(ctf.Field(field, type_) for field, _, type_ in fields)


def _integer(name: str, kind: Integer, base: int = 10) -> tuple[str, Integer, ctf.Integer]:
    return name, kind, ctf.Integer(kind.size, signed=False, base=base)


def _string(name: str) -> tuple[str, Text, ctf.String]:
    return name, _TEXT, ctf.String()


_CHARACTER = ctf.Integer(8, signed=True, encoding="UTF8")
_BADDR = _integer("baddr", _U64, base=16)
_START = Builtin("start", "", ())
_END = Builtin("end", "", ())
_PROCNAME = Builtin(
    "procname", "char *, name", (("procname", _TEXT, ctf.Array(_CHARACTER, _PROCNAME_SIZE)),)
)
_BIN_INFO = Builtin(
    "bin_info",
    "void *, baddr, const char*, path, uint64_t, memsz, uint8_t, is_pic, "
    "uint8_t, has_build_id, uint8_t, has_debug_link",
    (
        _BADDR,
        _integer("memsz", _U64),
        _string("path"),
        _integer("is_pic", _BYTE),
        _integer("has_build_id", _BYTE),
        _integer("has_debug_link", _BYTE),
    ),
)
_BUILD_ID = Builtin(
    "build_id",
    "void *, baddr, uint8_t *, build_id, size_t, build_id_len",
    (
        _BADDR,
        _integer("_build_id_length", _U64),
        (
            "build_id",
            Sequence(_BYTE),
            ctf.Sequence(ctf.Integer(8, signed=False, base=16), "_build_id_length"),
        ),
    ),
)
_DEBUG_LINK = Builtin(
    "debug_link",
    "void *, baddr, char *, filename, uint32_t, crc",
    (_BADDR, _integer("crc", _U32), _string("filename")),
)
BUILTINS: tuple[Builtin, ...] = (_START, _BIN_INFO, _BUILD_ID, _DEBUG_LINK, _PROCNAME, _END)

#: Called with an event, its values as filters get them, how native code encodes it, and the
#: values for that.
Emit = Callable[[Builtin, tuple[object, ...], emit.Tracepoint, tuple[object, ...]], None]


def dump(send: Emit, procname: bytes) -> None:
    """Emit the whole state dump.

    Parameters
    ----------
    send : callable
    procname : bytes
        Of the process, at most 16 bytes.
    """
    for event, values, raw in _events(procname):
        send(event, values, _encoder(event, raw), raw)


def _events(procname: bytes) -> Iterator[tuple[Builtin, tuple[object, ...], tuple[object, ...]]]:
    """Yield each event with its values, and with what native code writes for them."""
    yield _START, (), ()
    if "LTTNG_UST_WITHOUT_PROCNAME_STATEDUMP" not in os.environ:
        yield _PROCNAME, (procname,), tuple(procname[:16].ljust(_PROCNAME_SIZE, b"\0"))
    if "LTTNG_UST_WITHOUT_BADDR_STATEDUMP" not in os.environ:
        for file in loaded():
            yield from _object(file)
    yield _END, (), ()


def _object(
    file: Loaded,
) -> Iterator[tuple[Builtin, tuple[object, ...], tuple[object, ...]]]:
    base = file.address
    has_id, has_link = int(bool(file.build_id)), int(file.debug_link is not None)
    rest = int(file.is_pic), has_id, has_link
    path = os.fsencode(file.path)
    shown = path.decode("utf-8", "replace")
    yield _BIN_INFO, (base, file.size, path, *rest), (base, file.size, shown, *rest)
    if file.build_id:
        length = len(file.build_id)
        yield _BUILD_ID, (base, length, file.build_id), (base, length, *file.build_id)
    if file.debug_link is not None:
        name, crc = file.debug_link
        yield _DEBUG_LINK, (base, crc, name), (base, crc, name.decode("utf-8", "replace"))


_encoders: dict[tuple[str, int], emit.Tracepoint] = {}


def _encoder(event: Builtin, raw: tuple[object, ...]) -> emit.Tracepoint:
    """Return a native tracepoint that writes an event: arrays and their like byte by byte."""
    key = (event.name, len(raw))
    if key not in _encoders:
        kinds = [kind for _, kind in event.fields if not isinstance(kind, Sequence)]
        if event is _PROCNAME:
            kinds = []
        kinds += [_BYTE] * (len(raw) - len(kinds))
        fields: _Native = tuple((f"f{at}", kind.code, None) for at, kind in enumerate(kinds))
        _encoders[key] = emit.Tracepoint(event.name, fields, truncate=True)
    return _encoders[key]
