# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Taking and giving back sub-buffers. Readable definition: `ustconsumer.ringbuffer.reader`."""


cdef bint _snapshot(RingState *r, uint64_t *position) noexcept nogil:
    """Sample the positions; ``position`` becomes the consumed one."""
    cdef uint64_t consumed = rb_load(_word(r, r.consumed))
    cdef uint64_t produced = rb_load(_word(r, r.offset))
    if _trunc(r, produced) == _trunc(r, consumed):
        return False
    rb_put(_word(r, r.cons_snapshot), consumed)
    rb_put(_word(r, r.prod_snapshot), _trunc(r, produced))
    position[0] = consumed
    return True


cdef bint _exchange(RingState *r, uint64_t position) noexcept nogil:
    """Take the sub-buffer at a position for the reader, or give the reader's back."""
    cdef char *entry = _wsb(r, _index(r, position))
    cdef char *reader = _word(r, r.rsb_id)
    cdef uint64_t old = rb_load(entry)
    cdef uint64_t tag = _turn_tag(r, position)
    cdef uint64_t own
    if not r.overwrite:
        rb_put(reader, old)
        return True
    if not old & NOREF or (old >> TURN_SHIFT) << TURN_SHIFT != tag:
        return False
    own = (rb_peek(reader) & PAGE_BITS) | NOREF | tag
    rb_put(reader, own)
    # Writers clear noref by CAS on the same word: of the two, one wins.
    if not rb_cas(entry, old, own):
        return False
    rb_put(reader, old)
    return True


cdef bint _get(RingState *r, uint64_t position) noexcept nogil:
    cdef uint64_t consumed = rb_load(_word(r, r.consumed))
    cdef bint committed = _committed(r, position)
    # cc_sb before the write offset: pairs with the writer's barrier before delivery.
    cdef uint64_t produced = rb_load(_word(r, r.offset))
    if <int64_t> (_trunc(r, position) - _trunc(r, consumed)) < 0:
        return False
    if not committed or _trunc(r, produced) == _trunc(r, position):
        return False
    if not _exchange(r, position):
        return False
    if r.overwrite:
        rb_put(_word(r, r.rsb_id), rb_peek(_word(r, r.rsb_id)) & ~NOREF)
    rb_put(_word(r, r.get_subbuf_consumed), position)
    r.base[r.get_subbuf] |= 1
    return True


cdef void _put(RingState *r) noexcept nogil:
    r.base[r.get_subbuf] &= ~1
    if r.overwrite:
        rb_put(_word(r, r.rsb_id), rb_peek(_word(r, r.rsb_id)) | NOREF)
    # Failure means a writer overtook: the page held becomes the reader's spare.
    _exchange(r, rb_peek(_word(r, r.get_subbuf_consumed)))


cdef void _move(RingState *r, uint64_t position) noexcept nogil:
    cdef char *at = _word(r, r.consumed)
    cdef uint64_t consumed = rb_load(at)
    cdef int tries
    for tries in range(MAX_TRIES):
        if <int64_t> (consumed - position) >= 0:
            return
        # The full barrier of the CAS orders our reads before the writers' reuse.
        if rb_cas(at, consumed, position):
            return
        consumed = rb_load(at)


cdef bint _readable(RingState *r) noexcept nogil:
    cdef uint64_t consumed = rb_load(_word(r, r.consumed))
    return (
        _committed(r, consumed)
        and _trunc(r, rb_load(_word(r, r.offset))) != _trunc(r, consumed)
    )
