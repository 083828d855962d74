# SPDX-License-Identifier: MIT
# cython: language_level=3
"""One buffer, written event by event: for tests, and beside the readable definition."""

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
