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
    rb_point(snapshot_consumed)
    rb_put(_word(r, r.prod_snapshot), _trunc(r, produced))
    rb_point(snapshot_produced)
    position[0] = consumed
    return True


cdef bint _exchange(RingState *r, uint64_t position) noexcept nogil:
    """Take the sub-buffer at a position for the reader, or give the reader's back.

    A reader killed anywhere in it is what `_take_over` mends: the stores are in this order.
    """
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
    rb_point(exchange_allowed)
    rb_put(reader, own)
    rb_point(exchange_tagged)
    # Writers clear noref by CAS on the same word: of the two, one wins.
    if not rb_cas(entry, old, own):
        return False
    rb_point(exchange_swapped)
    rb_store(reader, old)
    rb_point(exchange_done)
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
    rb_point(get_readable)
    if not _exchange(r, position):
        return False
    rb_point(get_taken)
    if r.overwrite:
        rb_store(_word(r, r.rsb_id), rb_peek(_word(r, r.rsb_id)) & ~NOREF)
        rb_point(get_referenced)
    rb_store(_word(r, r.get_subbuf_consumed), position)
    rb_point(get_position)
    rb_mark(_word(r, r.get_subbuf), r.base[r.get_subbuf] | 1)
    rb_point(get_held)
    return True


cdef void _put(RingState *r) noexcept nogil:
    rb_point(put_held)
    rb_mark(_word(r, r.get_subbuf), r.base[r.get_subbuf] & ~1)
    rb_point(put_released)
    if r.overwrite:
        rb_store(_word(r, r.rsb_id), rb_peek(_word(r, r.rsb_id)) | NOREF)
        rb_point(put_unreferenced)
    # Failure means a writer overtook: the page held becomes the reader's spare.
    _exchange(r, rb_peek(_word(r, r.get_subbuf_consumed)))
    rb_point(put_done)


cdef void _move(RingState *r, uint64_t position) noexcept nogil:
    cdef char *at = _word(r, r.consumed)
    cdef uint64_t consumed = rb_load(at)
    cdef int tries
    for tries in range(MAX_TRIES):
        if <int64_t> (consumed - position) >= 0:
            return
        rb_point(move_forward)
        # The full barrier of the CAS orders our reads before the writers' reuse.
        if rb_cas(at, consumed, position):
            rb_point(move_moved)
            return
        consumed = rb_load(at)


cdef bint _readable(RingState *r) noexcept nogil:
    cdef uint64_t position = rb_load(_word(r, r.consumed)) + r.ahead
    return (
        _committed(r, position)
        and _trunc(r, rb_load(_word(r, r.offset))) != _trunc(r, position)
    )
