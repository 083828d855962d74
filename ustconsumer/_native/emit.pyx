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


# -- the buffers -------------------------------------------------------------------------

cdef enum:
    CTX_VTID = 0
    CTX_VPID = 1
    CTX_PTHREAD_ID = 2
    CTX_PROCNAME = 3
    CTX_CPU_ID = 4
    CTX_VUID = 5
    CTX_VEUID = 6
    CTX_VSUID = 7
    CTX_VGID = 8
    CTX_VEGID = 9
    CTX_VSGID = 10
    CTX_U64 = 11
    CTX_APP = 12

_CONTEXT_KINDS = {
    "vtid": CTX_VTID, "vpid": CTX_VPID, "pthread_id": CTX_PTHREAD_ID, "procname": CTX_PROCNAME,
    "cpu_id": CTX_CPU_ID, "vuid": CTX_VUID, "veuid": CTX_VEUID, "vsuid": CTX_VSUID,
    "vgid": CTX_VGID, "vegid": CTX_VEGID, "vsgid": CTX_VSGID, "u64": CTX_U64, "app": CTX_APP,
}
# Tags of an application context's variant, those it can have here.
cdef enum:
    TAG_NONE = 0
    TAG_INT64 = 4
    TAG_DOUBLE = 10
    TAG_STRING = 11
    PROCNAME_SIZE = 17
    MAX_WRAPPED_NS = 5000000000
    MAX_CONTEXTS = 64

cdef struct Context:
    int kind
    uint64_t number


cdef inline uint64_t _patience(int blocking_ms, int status) noexcept nogil:
    """Return for how many nanoseconds an event waits for room."""
    cdef uint64_t limit = <uint64_t> 1000000 * <uint64_t> blocking_ms
    if blocking_ms < 0:
        limit = <uint64_t> -1
    if status == WRAPPED and limit > MAX_WRAPPED_NS:
        limit = MAX_WRAPPED_NS
    return limit


cdef inline uint64_t _context_size(int kind) noexcept nogil:
    if kind == CTX_PROCNAME:
        return PROCNAME_SIZE
    if kind == CTX_PTHREAD_ID or kind == CTX_U64:
        return 8
    return 0 if kind == CTX_APP else 4


@cython.final
cdef class Channel:
    """The writing side of one channel in this process; see the stub for its parameters."""

    cdef RingState *_rings
    cdef Py_buffer *_views
    cdef int _count
    cdef int _capacity
    cdef bint _released
    # Emissions that wait for room without the GIL, and look at the memory when they wake.
    cdef Context _contexts[MAX_CONTEXTS]
    cdef int _context_count
    cdef uint64_t _context_bytes
    cdef bint _calls
    cdef tuple _getters
    cdef readonly int blocking_ms
    cdef public int header_type

    def __init__(self, tuple contexts=(), *, int header_type=2, int blocking_ms=0):
        cdef int number
        if self._context_count or self._count:
            raise ValueError("a channel is initialised once")
        if len(contexts) > MAX_CONTEXTS:
            raise ValueError(f"{len(contexts)} contexts: at most {MAX_CONTEXTS}")
        getters = []
        for number, (kind, argument) in enumerate(contexts):
            self._contexts[number].kind = _CONTEXT_KINDS[kind]
            self._contexts[number].number = argument if kind == "u64" else 0
            self._context_bytes += _context_size(self._contexts[number].kind)
            getters.append(argument if kind == "app" else None)
            self._calls = self._calls or kind == "app"
        self._context_count = len(contexts)
        self._getters = tuple(getters)
        self.header_type = header_type
        self.blocking_ms = blocking_ms

    def __dealloc__(self):
        self._let_go()

    cdef void _let_go(self) noexcept:
        cdef int number
        self._released = True
        for number in range(self._count):
            PyBuffer_Release(&self._views[number])
        self._count = 0
        PyMem_Free(self._rings)
        PyMem_Free(self._views)
        self._rings = NULL
        self._views = NULL
        self._capacity = 0

    def add_stream(self, memory, places, *, bytes uuid, uint32_t stream_id, uint32_t cpu, int wake_fd):
        """Add the buffer of the next CPU; the memory stays exported until `release`."""
        cdef int capacity
        cdef RingState *rings
        cdef Py_buffer *views
        if self._released:
            raise ValueError("the channel was released")
        if len(uuid) != 16:
            raise ValueError(f"a UUID of {len(uuid)} bytes")
        if self._count == self._capacity:
            capacity = self._capacity * 2 or 8
            rings = <RingState *> PyMem_Malloc(capacity * sizeof(RingState))
            views = <Py_buffer *> PyMem_Malloc(capacity * sizeof(Py_buffer))
            if rings == NULL or views == NULL:
                PyMem_Free(rings)
                PyMem_Free(views)
                raise MemoryError
            if self._count:
                memcpy(rings, self._rings, self._count * sizeof(RingState))
                memcpy(views, self._views, self._count * sizeof(Py_buffer))
            PyMem_Free(self._rings)
            PyMem_Free(self._views)
            self._rings, self._views, self._capacity = rings, views, capacity
        memset(&self._rings[self._count], 0, sizeof(RingState))
        _set_places(&self._rings[self._count], places, uuid, stream_id, cpu, wake_fd)
        PyObject_GetBuffer(memory, &self._views[self._count], PyBUF_WRITABLE)
        if <uint64_t> self._views[self._count].len < <uint64_t> places["file_size"]:
            PyBuffer_Release(&self._views[self._count])
            raise ValueError(f"memory of {len(memory)} bytes: {places['file_size']} are needed")
        self._rings[self._count].base = <char *> self._views[self._count].buf
        self._count += 1

    def release(self):
        """Let go of the memory. Emissions that still hold the channel record nothing."""
        self._let_go()

    cdef bint _record(
        self, uint32_t event_id, Field *fields, Value *values, int count, uint64_t payload
    ) except -1:
        """Record one event; return whether there was room."""
        cdef Value answers[MAX_CONTEXTS]
        cdef uint64_t size = payload + self._context_bytes
        cdef int number
        if not self._calls:
            return self._write(event_id, fields, values, count, size, NULL)
        memset(answers, 0, self._context_count * sizeof(Value))
        try:
            for number in range(self._context_count):
                if self._contexts[number].kind == CTX_APP:
                    _ask(<object> PyTuple_GET_ITEM(self._getters, number), &answers[number])
                    size += _answer_size(&answers[number])
            return self._write(event_id, fields, values, count, size, answers)
        finally:
            _drop(answers, self._context_count)

    cdef bint _write(
        self, uint32_t event_id, Field *fields, Value *values, int count, uint64_t size, Value *answers
    ) except -1:
        cdef RingState *ring
        cdef Slot slot
        cdef char *at
        cdef int status, cpu
        cdef uint64_t begin = 0, now
        while True:
            # Without the GIL in between, the channel may be gone.
            if self._released:
                return False
            cpu = ue_cpu()
            if cpu >= self._count:
                # No buffer: the machine has more CPUs than the registry knew of.
                return False
            ring = &self._rings[cpu]
            status = _reserve(ring, size, self.header_type, event_id, &slot, 0)
            if status == RESERVED:
                break
            if self.blocking_ms and (status == NO_ROOM or status == WRAPPED):
                now = rb_now()
                if begin == 0:
                    begin = now
                # Who has yet to commit in the sub-buffer that comes next may be dead, and
                # a reader repairs that, or not: it is not waited for for ever.
                if now - begin < _patience(self.blocking_ms, status):
                    with nogil:
                        rb_pause(200000)
                    try:
                        PyErr_CheckSignals()
                    except BaseException:
                        self._interrupted(status)
                        raise
                    continue
            _lose(ring, status)
            return False
        at = _event_header(&slot, self.header_type, event_id)
        if self._context_count:
            at = self._put_contexts(at, answers, cpu)
        _put_values(at, fields, values, count)
        rb_point(event_written)
        _commit(ring, slot.end - 1, slot.end, slot.end - slot.begin, slot.discarded)
        return True

    cdef void _interrupted(self, int status) noexcept:
        # The channel may have gone while a signal handler ran.
        cdef int cpu = ue_cpu()
        if not self._released and cpu < self._count:
            _lose(&self._rings[cpu], status)

    cdef char *_put_contexts(self, char *at, Value *answers, int cpu) noexcept nogil:
        cdef int number, kind
        cdef int32_t narrow
        cdef uint64_t wide
        for number in range(self._context_count):
            kind = self._contexts[number].kind
            if kind == CTX_PROCNAME:
                ue_procname(at)
                at += PROCNAME_SIZE
            elif kind == CTX_PTHREAD_ID or kind == CTX_U64:
                wide = self._contexts[number].number if kind == CTX_U64 else ue_pthread_id()
                memcpy(at, &wide, 8)
                at += 8
            elif kind == CTX_APP:
                at = _put_answer(at, &answers[number])
            else:
                if kind == CTX_VTID:
                    narrow = ue_vtid()
                elif kind == CTX_VPID:
                    narrow = ue_vpid()
                elif kind == CTX_CPU_ID:
                    narrow = cpu
                else:
                    narrow = <int32_t> ue_user(kind - CTX_VUID)
                memcpy(at, &narrow, 4)
                at += 4
        return at


cdef int _ask(object getter, Value *answer) except -1:
    """Have an application context say its value; ``number`` becomes the variant's tag."""
    cdef Py_ssize_t length
    cdef int overflow = 0
    cdef const char *nul
    answer.number = TAG_NONE
    try:
        value = getter()
        if value is None:
            return 0
        if isinstance(value, str):
            raw = (<str> value).encode("utf-8", "replace")
            length = PyBytes_GET_SIZE(raw)
            answer.bytes = PyBytes_AS_STRING(raw)
            nul = <const char *> memchr(answer.bytes, 0, length)
            answer.length = nul - answer.bytes if nul != NULL else length
            answer.owner = <PyObject *> raw
            Py_INCREF(raw)
            answer.number = TAG_STRING
        elif isinstance(value, float):
            answer.real = value
            answer.number = TAG_DOUBLE
        elif isinstance(value, int):
            answer.length = <uint64_t> PyLong_AsLongLongAndOverflow(value, &overflow)
            if not overflow:
                answer.number = TAG_INT64
    except Exception:
        # The context has no value then; the event has.
        pass
    return 0


cdef uint64_t _answer_size(Value *answer) noexcept nogil:
    if answer.number == TAG_STRING:
        return 1 + answer.length + 1
    return 1 if answer.number == TAG_NONE else 9


cdef char *_put_answer(char *at, Value *answer) noexcept nogil:
    at[0] = <char> answer.number
    at += 1
    if answer.number == TAG_STRING:
        memcpy(at, answer.bytes, answer.length)
        at[answer.length] = 0
        return at + answer.length + 1
    if answer.number == TAG_INT64:
        memcpy(at, &answer.length, 8)
        return at + 8
    if answer.number == TAG_DOUBLE:
        memcpy(at, &answer.real, 8)
        return at + 8
    return at


cdef inline void _drop(Value *values, int count) noexcept:
    cdef int number
    for number in range(count):
        if values[number].owner != NULL:
            Py_DECREF(<object> values[number].owner)
            values[number].owner = NULL


cdef void _put_values(char *at, Field *fields, Value *values, int count) noexcept nogil:
    cdef int number
    cdef Value *value
    cdef float narrow
    cdef uint32_t elements
    for number in range(count):
        value = &values[number]
        if fields[number].kind == TEXT:
            memcpy(at, value.bytes, value.length)
            at[value.length] = 0
            at += value.length + 1
        elif fields[number].kind == SEQUENCE:
            elements = <uint32_t> (value.length >> fields[number].order)
            memcpy(at, &elements, 4)
            memcpy(at + 4, value.bytes, value.length)
            at += 4 + value.length
        elif fields[number].kind == REAL:
            if fields[number].order == 2:
                narrow = <float> value.real
                memcpy(at, &narrow, 4)
                at += 4
            else:
                memcpy(at, &value.real, 8)
                at += 8
        else:
            # Little-endian: the low bytes come first.
            memcpy(at, &value.number, <size_t> 1 << fields[number].order)
            at += 1 << fields[number].order


@cython.final
cdef class Recorder:
    """One event of one channel; see the stub."""

    cdef readonly Channel channel
    cdef readonly uint32_t event_id
    cdef readonly tuple filters

    def __init__(self, Channel channel not None, uint32_t event_id, tuple filters=None):
        self.channel = channel
        self.event_id = event_id
        self.filters = filters


# -- one buffer, by hand ---------------------------------------------------------------------

_ERRNOS = {RECORD_DISABLED: EAGAIN, NO_ROOM: ENOBUFS, WRAPPED: EIO, TOO_BIG: ENOSPC, BROKEN: EFAULT}


@cython.final
cdef class Reservation:
    """Bytes reserved and written for one event, not yet committed."""

    cdef Writer _writer
    cdef Slot _slot

    def commit(self):
        """Count the bytes as written; delivers the sub-buffer if they were the last."""
        if self._writer is None:
            raise ValueError("an event is committed once")
        _commit(
            &self._writer._ring,
            self._slot.end - 1,
            self._slot.end,
            self._slot.end - self._slot.begin,
            self._slot.discarded,
        )
        self._writer = None


@cython.final
cdef class Writer:
    """Writes encoded events into one stream, as `ustconsumer.ringbuffer.reserve` does."""

    cdef RingState _ring
    cdef Py_buffer _view
    cdef bint _exported
    cdef readonly int header_type

    def __init__(
        self, memory, places, *, bytes uuid, uint32_t stream_id, uint32_t cpu, int wake_fd=-1, int header_type=2
    ):
        if self._exported or len(uuid) != 16:
            raise ValueError("a writer is initialised once, with a UUID of 16 bytes")
        _set_places(&self._ring, places, uuid, stream_id, cpu, wake_fd)
        PyObject_GetBuffer(memory, &self._view, PyBUF_WRITABLE)
        self._exported = True
        if <uint64_t> self._view.len < <uint64_t> places["file_size"]:
            raise ValueError(f"memory of {self._view.len} bytes: {places['file_size']} are needed")
        self._ring.base = <char *> self._view.buf
        self.header_type = header_type

    def __dealloc__(self):
        if self._exported:
            PyBuffer_Release(&self._view)

    def reserve(self, uint32_t event_id, bytes payload, uint64_t now=0):
        """Reserve space for an event and write it; return a negative errno if it is lost."""
        cdef Reservation reservation = Reservation.__new__(Reservation)
        cdef int status
        if self._ring.base == NULL:
            raise ValueError("a writer without memory")
        status = _reserve(
            &self._ring, len(payload), self.header_type, event_id, &reservation._slot, now
        )
        if status != RESERVED:
            _lose(&self._ring, status)
            return -_ERRNOS[status]
        memcpy(
            _event_header(&reservation._slot, self.header_type, event_id),
            PyBytes_AS_STRING(payload),
            PyBytes_GET_SIZE(payload),
        )
        reservation._writer = self
        return reservation

    def write(self, uint32_t event_id, bytes payload, uint64_t now=0):
        """Write an event; return 0 or a negative errno as the tracer does."""
        reservation = self.reserve(event_id, payload, now)
        if isinstance(reservation, int):
            return reservation
        reservation.commit()
        return 0


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
