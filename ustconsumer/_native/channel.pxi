# SPDX-License-Identifier: MIT
# cython: language_level=3
"""A channel's buffers as a tracer has them: one per CPU, and who writes there."""

cdef enum:
    MAX_WRAPPED_NS = 5000000000


cdef inline uint64_t _patience(int blocking_ms, int status) noexcept nogil:
    """Return for how many nanoseconds an event waits for room."""
    cdef uint64_t limit = <uint64_t> 1000000 * <uint64_t> blocking_ms
    if blocking_ms < 0:
        limit = <uint64_t> -1
    if status == WRAPPED and limit > MAX_WRAPPED_NS:
        limit = MAX_WRAPPED_NS
    return limit


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
cdef class Channel:
    """The writing side of one channel in this process; see the stub for its parameters."""

    cdef RingState *_rings
    cdef Py_buffer *_views
    cdef int _count
    cdef int _capacity
    # Emissions that waited for room without the GIL look at this before the memory.
    cdef bint _released
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
