# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, embedsignature=False
"""Emitting events: from the values of a call to bytes in the buffers of all who record them.

Values are checked and converted first; only then is room reserved, so that nothing can
fail, and no Python code runs, between the reservation and its commit.
"""

cimport cython
from cpython.buffer cimport PyObject_GetBuffer, PyBuffer_Release, PyBUF_SIMPLE, PyBUF_WRITABLE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.long cimport PyLong_CheckExact
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.errno cimport EAGAIN, EFAULT, EIO, ENOBUFS, ENOSPC
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy, memset, strlen

import sys

__all__ = [
    "Channel",
    "Recorder",
    "Reservation",
    "Tracepoint",
    "Writer",
    "after_fork",
    "current_cpu",
    "procname",
    "quiesce",
    "set_thread_name",
]

include "state.pxi"
include "places.pxi"
include "points.pxi"
include "reading.pxi"
include "switching.pxi"
include "writing.pxi"
include "identity.pxi"

cdef extern from "Python.h":
    """
    static inline void ue_make_vectorcall(PyTypeObject *type, Py_ssize_t offset) {
        type->tp_vectorcall_offset = offset;
        type->tp_call = PyVectorcall_Call;
        type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
        PyType_Modified(type);
    }
    """
    void ue_make_vectorcall(PyTypeObject *, Py_ssize_t)
    Py_ssize_t PyVectorcall_NARGS(size_t)
    object PyVectorcall_Call(object, object, PyObject *)
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL
    bint PyUnicode_Check(object)
    bint PyBytes_CheckExact(object)
    bint PyFloat_CheckExact(object)
    double PyFloat_AS_DOUBLE(object)
    double PyFloat_AsDouble(object) except? -1.0
    long long PyLong_AsLongLongAndOverflow(object, int *) except? -1
    unsigned long long PyLong_AsUnsignedLongLong(object) except? 0xFFFFFFFFFFFFFFFF
    unsigned long long PyLong_AsUnsignedLongLongMask(object) except? 0xFFFFFFFFFFFFFFFF
    object PyNumber_Index(object)

# The kinds of a field: ``FieldType.code`` is this << 4, then signedness of elements and the
# size of integer or element as a power of two.
cdef enum:
    UNSIGNED = 0
    SIGNED = 1
    REAL = 2
    TEXT = 3
    SEQUENCE = 4
    LABELLED = 5

cdef enum:
    # Values of so many fields live on the stack of the caller.
    FEW = 16
    MAX_FIELDS = 1024


cdef struct Field:
    int kind
    int order        # log2 of the bytes of the integer or of one element
    bint signed


cdef struct Value:
    uint64_t number
    double real
    const char *bytes
    uint64_t length  # bytes
    PyObject *owner  # what keeps ``bytes`` alive, if the caller's argument does not


# -- how many emissions are under way, by phase: see `quiesce` ----------------------------

cdef int _phase = 0
cdef int64_t _under_way[2]
_under_way[0] = _under_way[1] = 0


def quiesce(uint64_t timeout_ms):
    """Wait until every emission that had begun has ended; False if the time was not enough."""
    global _phase
    cdef int old
    cdef uint64_t waited = 0
    # Two turns: what an earlier call, out of time, left behind is in the other phase.
    for _ in range(2):
        old = _phase
        _phase = 1 - old
        while _under_way[old] > 0:
            if waited >= timeout_ms:
                return False
            with nogil:
                rb_pause(1000000)
            waited += 1
    return True


def after_fork():
    """Forget what was remembered of threads and of this process; in a forked child."""
    ue_forget()
    # The threads that were emitting are not in this process.
    _under_way[0] = _under_way[1] = 0


def set_thread_name(bytes name):
    """Set the calling thread's name in the kernel, at most 15 bytes."""
    ue_set_name(name)


def current_cpu():
    """Return the CPU the calling thread runs on."""
    return ue_cpu()


def procname():
    """Return the calling thread's name, as the context ``procname`` records it."""
    cdef char name[PROCNAME_SIZE]
    ue_procname(name)
    return <bytes> name[:strlen(name)]


cdef inline void _drop(Value *values, int count) noexcept:
    cdef int number
    for number in range(count):
        if values[number].owner != NULL:
            Py_DECREF(<object> values[number].owner)
            values[number].owner = NULL


include "contexts.pxi"
include "channel.pxi"
include "byhand.pxi"

# -- tracepoints -------------------------------------------------------------------------

cdef tuple _NONE = ()


@cython.final
cdef class Tracepoint:
    """A tracepoint: calling it emits an event, positionally or with field names.

    See the stub for its parameters. ``enabled`` is False while nobody records it.
    """

    cdef void *_vectorcall
    cdef readonly bint enabled
    cdef readonly bint truncate
    cdef int _count
    cdef Field *_fields
    cdef tuple _recorders
    cdef tuple _notifiers
    cdef tuple _labels
    cdef readonly tuple names
    cdef readonly str name
    cdef object __weakref__

    def __cinit__(self):
        self._vectorcall = <void *> _call
        self._recorders = self._notifiers = _NONE

    def __init__(self, str name not None, tuple fields not None, bint truncate=False):
        cdef int number, code
        if self._fields != NULL:
            raise ValueError("a tracepoint is initialised once")
        if len(fields) > MAX_FIELDS:
            raise ValueError(f"{name}: {len(fields)} fields: at most {MAX_FIELDS}")
        self._fields = <Field *> PyMem_Malloc(max(1, len(fields)) * sizeof(Field))
        if self._fields == NULL:
            raise MemoryError
        self.name = name
        self.names = tuple(sys.intern(field[0]) for field in fields)
        self._labels = tuple(field[2] for field in fields)
        self.truncate = truncate
        for number, field in enumerate(fields):
            code = field[1]
            if not 0 <= code >> 4 <= LABELLED:
                raise ValueError(f"{name}: field {field[0]!r}: no type has code {code}")
            self._fields[number].kind = code >> 4
            self._fields[number].order = code & 3
            self._fields[number].signed = bool(code & 8) or code >> 4 == SIGNED
        self._count = len(fields)

    def __dealloc__(self):
        PyMem_Free(self._fields)

    def __repr__(self):
        return f"<tracepoint {self.name}({', '.join(self.names)})>"

    def __call__(self, *values, **named):
        # For those who call it by its name: calls go to `_call` straight away.
        return PyVectorcall_Call(self, values, <PyObject *> named)

    def bind(self, tuple recorders not None, tuple notifiers not None=()):
        """Say who records an event, replacing what was said before."""
        for recorder in recorders:
            if not isinstance(recorder, Recorder):
                raise TypeError(f"{recorder!r} is no Recorder")
        self._recorders = recorders
        self._notifiers = notifiers
        self.enabled = bool(recorders) or bool(notifiers)

    def emit_to(self, Recorder recorder not None, *values):
        """Record an event with one recorder only, bound or not; tell whether there was room."""
        cdef Value few[FEW]
        cdef Value *converted = few
        cdef uint64_t size
        cdef bint room
        if len(values) != self._count:
            raise _wrong_count(self, len(values))
        if self._count > FEW:
            converted = <Value *> PyMem_Malloc(self._count * sizeof(Value))
            if converted == NULL:
                raise MemoryError
        memset(converted, 0, self._count * sizeof(Value))
        try:
            size = 0
            for number in range(self._count):
                size += self._convert(number, values[number], &converted[number])
            return recorder.channel._record(
                recorder.event_id, self._fields, converted, self._count, size
            )
        finally:
            _drop(converted, self._count)
            if converted != few:
                PyMem_Free(converted)

    # -- one value: check it, convert it; returns its bytes in the record ------------------

    cdef int64_t _convert(self, int number, object value, Value *out) except -1:
        cdef Field *field = &self._fields[number]
        if field.kind <= SIGNED:
            out.number = self._integer(number, value, field.signed, field.order)
            return 1 << field.order
        if field.kind == TEXT:
            return self._text(number, value, out)
        if field.kind == REAL:
            return self._real(number, value, out)
        if field.kind == LABELLED:
            out.number = self._label(number, value)
            return 1 << field.order
        return self._sequence(number, value, out)

    cdef uint64_t _integer(self, int number, object value, bint signed, int order) except? 0xFFFFFFFFFFFFFFFF:
        cdef int overflow = 0
        cdef int bits = 8 << order
        cdef int64_t narrow
        if not PyLong_CheckExact(value):
            try:
                value = PyNumber_Index(value)
            except TypeError:
                raise TypeError(self._says(number, f"{_shown(value)} is not an integer")) from None
        narrow = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow == 0:
            if signed:
                if bits == 64 or -(<int64_t> 1 << (bits - 1)) <= narrow < (<int64_t> 1 << (bits - 1)):
                    return <uint64_t> narrow
            elif narrow >= 0 and (bits == 64 or narrow >> bits == 0):
                return <uint64_t> narrow
        elif overflow > 0 and not signed and bits == 64 and value < 1 << 64:
            return PyLong_AsUnsignedLongLong(value)
        if self.truncate:
            return PyLong_AsUnsignedLongLongMask(value)
        raise OverflowError(
            self._says(number, f"{_shown(value)} does not fit {'i' if signed else 'u'}{bits}")
        )

    cdef int64_t _real(self, int number, object value, Value *out) except -1:
        cdef double real
        if PyFloat_CheckExact(value):
            real = PyFloat_AS_DOUBLE(value)
        else:
            try:
                real = PyFloat_AsDouble(value)
            except TypeError:
                raise TypeError(self._says(number, f"{_shown(value)} is not a real number")) from None
            except OverflowError:
                if not self.truncate:
                    raise OverflowError(self._says(number, f"{_shown(value)} does not fit f64")) from None
                real = float("inf") if value > 0 else float("-inf")
        if self._fields[number].order == 3:
            out.real = real
            return 8
        out.real = <double> <float> real
        if not self.truncate and out.real - out.real != 0 and real - real == 0:
            raise OverflowError(self._says(number, f"{_shown(value)} does not fit f32"))
        return 4

    cdef int64_t _text(self, int number, object value, Value *out) except -1:
        cdef Py_ssize_t length = 0
        cdef const char *nul
        if not PyUnicode_Check(value):
            raise TypeError(self._says(number, f"{_shown(value)} is not a str"))
        try:
            out.bytes = PyUnicode_AsUTF8AndSize(value, &length)
        except UnicodeEncodeError:
            if not self.truncate:
                raise ValueError(self._says(number, f"{_shown(value)} cannot be encoded in UTF-8")) from None
            raw = (<str> value).encode("utf-8", "replace")
            Py_INCREF(raw)
            out.owner = <PyObject *> raw
            out.bytes = PyBytes_AS_STRING(raw)
            length = PyBytes_GET_SIZE(raw)
        nul = <const char *> memchr(out.bytes, 0, length)
        if nul != NULL:
            if not self.truncate:
                raise ValueError(self._says(number, f"{_shown(value)} holds a NUL character"))
            length = nul - out.bytes
        out.length = length
        return length + 1

    cdef uint64_t _label(self, int number, object value) except? 0xFFFFFFFFFFFFFFFF:
        cdef Field *field = &self._fields[number]
        if not PyLong_CheckExact(value):
            labels = <object> PyTuple_GET_ITEM(self._labels, number)
            try:
                found = labels.get(value)
            except TypeError:
                found = None
            if found is not None:
                value = found
            elif not isinstance(value, int):
                raise ValueError(self._says(number, f"{_shown(value)} is none of its labels"))
        return self._integer(number, value, field.signed, field.order)

    cdef int64_t _sequence(self, int number, object value, Value *out) except -1:
        cdef Field *field = &self._fields[number]
        cdef Py_ssize_t count, at
        cdef uint64_t element
        cdef char *into
        if PyBytes_CheckExact(value) and field.order == 0:
            out.bytes = PyBytes_AS_STRING(value)
            out.length = PyBytes_GET_SIZE(value)
        else:
            raw = None
            if field.order == 0 and isinstance(value, (bytes, bytearray, memoryview)):
                raw = bytes(value)
            else:
                if isinstance(value, str):
                    raise TypeError(self._says(number, f"{_shown(value)} is not a sequence of integers"))
                try:
                    elements = list(value)
                except TypeError:
                    raise TypeError(
                        self._says(number, f"{_shown(value)} is not a sequence of integers")
                    ) from None
                count = len(elements)
                raw = PyBytes_FromStringAndSize(NULL, count << field.order)
                into = PyBytes_AS_STRING(raw)
                for at in range(count):
                    element = self._integer(number, elements[at], field.signed, field.order)
                    memcpy(into + (at << field.order), &element, 1 << field.order)
            Py_INCREF(raw)
            out.owner = <PyObject *> raw
            out.bytes = PyBytes_AS_STRING(raw)
            out.length = PyBytes_GET_SIZE(raw)
        if out.length >> field.order > 0xFFFFFFFF:
            raise OverflowError(self._says(number, f"{out.length >> field.order} elements"))
        return 4 + out.length

    cdef str _says(self, int number, str what):
        return f"{self.name}: field {self.names[number]!r}: {what}"

    # -- for filters and notifiers: the values as Python has them ---------------------------

    cdef tuple _as_python(self, Value *values):
        cdef int number
        cdef Field *field
        result = []
        for number in range(self._count):
            field = &self._fields[number]
            if field.kind == REAL:
                result.append(values[number].real)
            elif field.kind == TEXT or (field.kind == SEQUENCE and field.order == 0):
                result.append(values[number].bytes[:values[number].length])
            elif field.kind == SEQUENCE:
                result.append(_elements(field, &values[number]))
            else:
                result.append(_number(field, values[number].number))
        return tuple(result)


cdef object _number(Field *field, uint64_t number):
    """The integer that the low bytes of ``number`` are."""
    cdef int unused = 64 - (8 << field.order)
    if field.signed:
        return <int64_t> (number << unused) >> unused
    return (number << unused) >> unused


cdef tuple _elements(Field *field, Value *value):
    cdef uint64_t at, element
    cdef uint64_t count = value.length >> field.order
    result = []
    for at in range(count):
        element = 0
        memcpy(&element, value.bytes + (at << field.order), 1 << field.order)
        result.append(_number(field, element))
    return tuple(result)


cdef str _shown(object value):
    """A value in an error, however long."""
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)
    return text if len(text) <= 60 else text[:57] + "..."


cdef object _wrong_count(Tracepoint self, Py_ssize_t given):
    names = ", ".join(self.names) or "no values"
    return TypeError(f"{self.name}() takes {self._count} values ({names}), {given} given")


cdef int _bind_names(
    Tracepoint self, PyObject *const *arguments, Py_ssize_t positional, tuple given, PyObject **bound
) except -1:
    """Put the arguments of a call with names in the order of the fields."""
    cdef Py_ssize_t number, at
    cdef PyObject *name
    if positional + PyTuple_GET_SIZE(given) != self._count:
        for name_ in given:
            if name_ not in self.names:
                raise TypeError(f"{self.name}() has no field {name_!r}: {', '.join(self.names)}")
        missing = [name_ for name_ in self.names[positional:] if name_ not in given]
        if missing and positional <= self._count:
            raise TypeError(f"{self.name}() lacks values for {', '.join(missing)}")
        raise _wrong_count(self, positional + PyTuple_GET_SIZE(given))
    for number in range(positional):
        bound[number] = arguments[number]
    for number in range(positional, self._count):
        name = <PyObject *> PyTuple_GET_ITEM(self.names, number)
        # Both are interned almost always, and mostly in the same order.
        for at in range(PyTuple_GET_SIZE(given)):
            if <PyObject *> PyTuple_GET_ITEM(given, at) == name:
                break
        else:
            for at in range(PyTuple_GET_SIZE(given)):
                if <object> PyTuple_GET_ITEM(given, at) == <object> name:
                    break
            else:
                raise TypeError(f"{self.name}() lacks a value for {<object> name}")
        bound[number] = arguments[positional + at]
    return 0


cdef object _call(object target, PyObject *const *arguments, size_t flags, PyObject *names):
    """What a call of a tracepoint runs: the vectorcall protocol."""
    cdef Tracepoint self
    cdef Py_ssize_t positional
    cdef Value few[FEW]
    cdef PyObject *few_bound[FEW]
    cdef Value *values = few
    cdef PyObject **bound = few_bound
    cdef PyObject *const *ordered = arguments
    cdef int number, phase
    cdef uint64_t size = 0
    self = <Tracepoint> target
    if not self.enabled:
        return None
    positional = PyVectorcall_NARGS(flags)
    if self._count > FEW:
        values = <Value *> PyMem_Malloc(self._count * (sizeof(Value) + sizeof(PyObject *)))
        if values == NULL:
            raise MemoryError
        bound = <PyObject **> (values + self._count)
    try:
        for number in range(self._count):
            values[number].owner = NULL
        if names != NULL and PyTuple_GET_SIZE(<object> names):
            _bind_names(self, arguments, positional, <tuple> <object> names, bound)
            ordered = <PyObject *const *> bound
        elif positional != self._count:
            raise _wrong_count(self, positional)
        for number in range(self._count):
            size += self._convert(number, <object> ordered[number], &values[number])
        phase = _phase
        _under_way[phase] += 1
        try:
            _emit(self, values, size)
        finally:
            # Not below zero: a fork in the middle began to count anew.
            if _under_way[phase] > 0:
                _under_way[phase] -= 1
    finally:
        _drop(values, self._count)
        if values != few:
            PyMem_Free(values)
    return None


cdef int _emit(Tracepoint self, Value *values, uint64_t size) except -1:
    cdef tuple recorders = self._recorders
    cdef tuple notifiers = self._notifiers
    cdef tuple converted = None
    cdef Recorder recorder
    cdef Py_ssize_t at
    for at in range(PyTuple_GET_SIZE(recorders)):
        recorder = <Recorder> PyTuple_GET_ITEM(recorders, at)
        if recorder.filters is not None:
            if converted is None:
                converted = self._as_python(values)
            if not _accepted(recorder.filters, converted):
                continue
        recorder.channel._record(recorder.event_id, self._fields, values, self._count, size)
    if PyTuple_GET_SIZE(notifiers):
        if converted is None:
            converted = self._as_python(values)
        for notify in notifiers:
            try:
                notify(converted)
            except Exception:
                pass
    return 0


cdef bint _accepted(tuple filters, tuple values) except -1:
    for accepts in filters:
        try:
            if accepts(values):
                return True
        except Exception:
            pass
    return False


cdef Tracepoint _sample = Tracepoint("a:b", ())
ue_make_vectorcall(
    <PyTypeObject *> Tracepoint, <char *> &_sample._vectorcall - <char *> <PyObject *> _sample
)
