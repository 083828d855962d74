# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Several rings watched by one loop, and the part of that loop that needs no Python."""

from cpython.mem cimport PyMem_Free, PyMem_Realloc

# What `RingSet.pump` ended on.
PUMP_IDLE = 0      # passes found nothing to move
PUMP_TIME = 1      # the time or the bytes are used up
PUMP_WORD = 2      # a watched word changed; nothing was moved since
PUMP_READY = 3     # a ring without a file is readable
PUMP_STOPPED = 4   # a ring's drain ended in DRAIN_ERRNO, DRAIN_LIE or DRAIN_FULL

cdef enum:
    _PUMP_IDLE = 0
    _PUMP_TIME = 1
    _PUMP_WORD = 2
    _PUMP_READY = 3
    _PUMP_STOPPED = 4


cdef class RingSet:
    """Rings that one loop watches; looking at them costs no Python per ring.

    Not thread-safe: one thread at a time, and no ring in two sets.
    """

    cdef list _rings
    cdef RingState **_states
    cdef size_t _count
    # Where a pass begins: after the ring that ended the last one, so that none starves.
    cdef size_t _first
    # Whose words are watched, and the view that keeps it: one of each per word.
    cdef list _owners
    cdef list _views
    cdef uint64_t **_words
    cdef uint64_t *_seen
    cdef size_t _nr_words

    def __cinit__(self):
        self._rings = []
        self._owners = []
        self._views = []
        self._words = NULL
        self._seen = NULL
        self._states = NULL
        self._count = 0
        self._first = 0
        self._nr_words = 0

    def __dealloc__(self):
        PyMem_Free(self._states)
        PyMem_Free(self._words)
        PyMem_Free(self._seen)

    def __len__(self):
        return self._count

    def add(self, Ring ring not None):
        """Watch a ring; once released it is passed over."""
        cdef void *grown
        ring._check()
        grown = PyMem_Realloc(self._states, (self._count + 1) * sizeof(RingState *))
        if grown == NULL:
            raise MemoryError
        self._states = <RingState **> grown
        self._states[self._count] = &ring._s
        self._rings.append(ring)
        self._count += 1

    def remove(self, Ring ring not None):
        """Stop watching a ring."""
        cdef size_t at = self._rings.index(ring)
        del self._rings[at]
        self._count -= 1
        while at < self._count:
            self._states[at] = self._states[at + 1]
            at += 1

    def watch(self, memory, Py_ssize_t offset):
        """Have `pump` return when this aligned word changes (the length of a metadata log).

        Parameters
        ----------
        memory : buffer
            Kept until `unwatch`; a read-only one is fine.
        offset : int

        Raises
        ------
        IndexError
            There is no such word.
        """
        cdef const unsigned char[::1] view = memory
        cdef void *grown
        if offset < 0 or offset + 8 > view.shape[0]:
            raise IndexError(f"no word to watch at {offset}")
        grown = PyMem_Realloc(self._words, (self._nr_words + 1) * sizeof(uint64_t *))
        if grown == NULL:
            raise MemoryError
        self._words = <uint64_t **> grown
        grown = PyMem_Realloc(self._seen, (self._nr_words + 1) * sizeof(uint64_t))
        if grown == NULL:
            raise MemoryError
        self._seen = <uint64_t *> grown
        self._owners.append(memory)
        self._views.append(view)
        self._words[self._nr_words] = <uint64_t *> &view[offset]
        # Not seen yet, whatever it is: the first `pump` reports it.
        self._seen[self._nr_words] = ~rb_load(self._words[self._nr_words])
        self._nr_words += 1

    def unwatch(self, memory):
        """Watch no word of this memory any more, and let go of it."""
        cdef size_t at
        cdef size_t kept = 0
        for at in range(self._nr_words):
            if self._owners[at] is memory:
                continue
            self._owners[kept] = self._owners[at]
            self._views[kept] = self._views[at]
            self._words[kept] = self._words[at]
            self._seen[kept] = self._seen[at]
            kept += 1
        self._nr_words = kept
        del self._owners[kept:]
        del self._views[kept:]

    def scan(self):
        """Return the rings whose next sub-buffer can be read now, in order of addition."""
        cdef size_t at
        cdef list ready = []
        for at in range(self._count):
            if self._states[at].base != NULL and _readable(self._states[at]):
                ready.append(self._rings[at])
        return ready

    def set_active(self, uint64_t value):
        """Store ``active_readers`` in every ring, then a full barrier.

        With 0 writers skip the wake-up; after storing 1 the caller scans again before
        it sleeps, so a packet delivered in between is not missed.
        """
        cdef size_t at
        for at in range(self._count):
            if self._states[at].base != NULL:
                rb_store(_word(self._states[at], self._states[at].active_readers), value)
        rb_fence()

    def lost(self):
        """Return the events lost so far, all rings together."""
        cdef size_t at
        cdef uint64_t total = 0
        for at in range(self._count):
            if self._states[at].base != NULL:
                total += _lost(self._states[at])
        return total

    cdef bint _changed(self) noexcept nogil:
        cdef size_t at
        cdef uint64_t now
        cdef bint changed = False
        for at in range(self._nr_words):
            now = rb_load(self._words[at])
            if now != self._seen[at]:
                self._seen[at] = now
                changed = True
        return changed

    cdef int _pump(self, uint64_t max_ns, uint64_t max_bytes, uint64_t pause_ns, int patience, uint64_t batch, uint64_t *fullest, size_t *which) noexcept nogil:
        cdef uint64_t deadline = rb_now() + max_ns
        cdef uint64_t moved = 0
        cdef uint64_t fill
        cdef size_t at, step
        cdef RingState *r
        cdef bint found
        cdef int status
        cdef int empty = 0
        while True:
            # Words before packets: what is declared before a packet is known before it is moved.
            if self._changed():
                return _PUMP_WORD
            found = False
            for step in range(self._count):
                at = (self._first + step) % self._count
                r = self._states[at]
                if r.base == NULL or not _readable(r):
                    continue
                found = True
                which[0] = at
                if r.data_fd < 0:
                    self._first = at + 1
                    return _PUMP_READY
                fill = (rb_load(_word(r, r.offset)) - rb_load(_word(r, r.consumed))) * 1024 // r.total
                if fill > fullest[0]:
                    fullest[0] = fill
                fill = r.byte_count
                if r.overwrite:
                    status = _drain_overwrite(r, r.data_fd, r.index_fd, max_bytes)
                else:
                    status = _drain_discard(r, r.data_fd, r.index_fd, max_bytes, batch)
                moved += r.byte_count - fill
                if status == _ERRNO or status == _LIE or status == _FULL:
                    self._first = at + 1
                    return _PUMP_STOPPED
            empty = 0 if found else empty + 1
            if empty > patience:
                return _PUMP_IDLE
            if moved >= max_bytes or rb_now() + pause_ns >= deadline:
                return _PUMP_TIME
            if pause_ns:
                rb_pause(pause_ns)

    def pump(
        self,
        uint64_t max_ns,
        uint64_t max_bytes,
        uint64_t pause_ns,
        int patience=0,
        uint64_t batch=65536,
    ):
        """Move packets of all rings to their files, pass after pass, without the GIL.

        Parameters
        ----------
        max_ns : int
            Return after about this time.
        max_bytes : int
            Return after about this many bytes.
        pause_ns : int
            Sleep between two passes.
        patience : int
            End after this many passes in a row that found nothing, and one more.
        batch : int
            As for `Ring.drain`.

        Returns
        -------
        reason : int
            A ``PUMP_*`` value.
        ring : Ring or None
            The one that ``PUMP_READY`` or ``PUMP_STOPPED`` is about.
        fill : float
            Largest part of a buffer that a pass found used; may exceed 1 in overwrite mode.
        """
        cdef uint64_t fullest = 0
        cdef size_t which = 0
        cdef int reason
        with nogil:
            reason = self._pump(max_ns, max_bytes, pause_ns, patience, batch, &fullest, &which)
        ring = self._rings[which] if reason in (_PUMP_READY, _PUMP_STOPPED) else None
        return reason, ring, fullest / 1024.0
