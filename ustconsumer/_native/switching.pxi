# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Closing the sub-buffer being written. Readable definition: `ustconsumer.ringbuffer.switch`."""


cdef uint64_t _lost(RingState *r) noexcept nogil:
    return (
        rb_load(_word(r, r.lost_full))
        + rb_load(_word(r, r.lost_wrap))
        + rb_load(_word(r, r.lost_big))
    )


cdef void _clear_noref(RingState *r, uint64_t position) noexcept nogil:
    cdef char *entry = _wsb(r, _index(r, position))
    cdef uint64_t id
    cdef int tries
    if not r.overwrite:
        return
    for tries in range(MAX_TRIES):
        id = rb_load(entry)
        if not id & NOREF or rb_cas(entry, id, id & ~NOREF):
            return


cdef void _push_reader(RingState *r, uint64_t position) noexcept nogil:
    # One sub-buffer is enough, as every reservation that enters one does this; and a
    # consumed position that lies must not keep us here for 2**50 steps.
    cdef char *at = _word(r, r.consumed)
    cdef uint64_t consumed
    cdef int tries
    for tries in range(MAX_TRIES):
        consumed = rb_load(at)
        if _trunc(r, position) - _trunc(r, consumed) < r.total:
            return
        if rb_cas(at, consumed, _align(r, consumed)):
            return


cdef void _write_header(RingState *r, char *page, uint64_t position, uint64_t now) noexcept nogil:
    """Packet header at the opening of a sub-buffer; sizes are unknown until the end."""
    cdef uint64_t index = _index(r, position)
    (<uint32_t *> (page + r.h_magic))[0] = DATA_MAGIC
    memcpy(page + r.h_uuid, r.uuid, 16)
    rb_point(header_begun)
    memcpy(page + r.h_stream_id, &r.stream_id, 4)
    cdef uint64_t word = r.cpu
    memcpy(page + r.h_instance, &word, 8)
    memcpy(page + r.h_ts_begin, &now, 8)
    memset(page + r.h_ts_end, 0, 8)
    memset(page + r.h_content, 0xFF, 8)
    memset(page + r.h_packet, 0xFF, 8)
    word = r.count * rb_peek(_word(r, r.cnt + 8 * index)) + index
    memcpy(page + r.h_seq, &word, 8)
    memset(page + r.h_discarded, 0, 8)
    memcpy(page + r.h_cpu, &r.cpu, 4)


cdef void _deliver(RingState *r, uint64_t index, uint64_t position, uint64_t cc, uint64_t discarded) noexcept nogil:
    cdef char *cc_sb = _cc_sb(r, index)
    cdef char *page
    cdef uint64_t number, size, word
    # Two committers may both see the full count: the CAS elects one.
    if not rb_cas(cc_sb, cc - r.size, cc - r.size + 1):
        return
    rb_point(deliver_elected)
    number = _page_of(r, rb_peek(_wsb(r, index)))
    page = _page(r, number)
    if page == NULL:
        return
    size = rb_peek(_data_size(r, number))
    word = rb_peek(_word(r, r.ts_end + 8 * index))
    memcpy(page + r.h_ts_end, &word, 8)
    rb_point(deliver_time)
    word = size * 8
    memcpy(page + r.h_content, &word, 8)
    word = (size + PAGE - 1) // PAGE * PAGE * 8
    memcpy(page + r.h_packet, &word, 8)
    memcpy(page + r.h_discarded, &discarded, 8)
    rb_point(deliver_header)
    word = rb_peek(_word(r, r.cnt + 8 * index)) + 1
    rb_store(_word(r, r.cnt + 8 * index), word)
    rb_fence()
    rb_point(deliver_counted)
    if r.overwrite:
        rb_put(_wsb(r, index), number | NOREF | _turn_tag(r, position))
        rb_fence()
        rb_point(deliver_id)
    rb_store(cc_sb, cc)
    rb_point(deliver_delivered)
    rb_store(_seq(r, index), cc)
    rb_point(deliver_contiguous)
    if (
        r.by_writer
        and r.wake_fd >= 0
        and rb_load(_word(r, r.active_readers))
        and _readable(r)
    ):
        rb_kick(r.wake_fd)


cdef void _commit(RingState *r, uint64_t last, uint64_t end, uint64_t length, uint64_t discarded) noexcept nogil:
    """Add ``length`` to the commit count of the sub-buffer of ``last``; deliver when full."""
    cdef uint64_t index = _index(r, last)
    cdef uint64_t cc, seq
    rb_fence()
    rb_point(commit_written)
    rb_add(_cc(r, index), length)
    rb_point(commit_counted)
    cc = rb_load(_cc(r, index))
    if _turn_units(r, last) == ((cc - r.size) & r.mask):
        _deliver(r, index, last, cc, discarded)
    if ((end - cc) & (r.size - 1)) == 0:
        seq = rb_load(_seq(r, index))
        if <int64_t> (seq - cc) < 0:
            rb_store(_seq(r, index), cc)


cdef bint _switch(RingState *r, bint final, uint64_t given, bint use_given) noexcept nogil:
    cdef uint64_t old, now, discarded, last, number
    cdef char *page
    cdef bint start_old
    cdef int tries
    for tries in range(MAX_TRIES):
        # Position first, clock second: times do not decrease along positions.
        old = rb_load(_word(r, r.offset))
        now = given if use_given else rb_now()
        start_old = False
        if (old & (r.size - 1)) == 0:
            if not final:
                return False
            if not _free_to_enter(r, old):
                return False
            if not r.overwrite and (
                _trunc(r, old) - _trunc(r, rb_load(_word(r, r.consumed))) >= r.total
            ):
                return False
            start_old = True
        discarded = _lost(r)
        rb_point(switch_begun)
        if rb_cas(_word(r, r.offset), old, _align(r, old)):
            break
    else:
        return False
    rb_point(switch_reserved)
    rb_store(_word(r, r.last_tsc), now)
    rb_point(switch_time)
    _push_reader(r, old)
    rb_point(switch_reader_pushed)
    _clear_noref(r, old)
    rb_point(switch_entered)
    number = _page_of(r, rb_load(_wsb(r, _index(r, old))))
    page = _page(r, number)
    if page == NULL:
        return False
    if start_old:
        _write_header(r, page, old, now)
        rb_point(switch_header)
        old += r.header_size
        _commit(r, old - 1, old, r.header_size, discarded)
    last = old - 1
    rb_put(_data_size(r, number), (last & (r.size - 1)) + 1)
    rb_point(switch_size)
    rb_put(_word(r, r.ts_end + 8 * _index(r, last)), now)
    rb_point(switch_closed)
    _commit(r, last, _align(r, last), _align(r, last) - old, discarded)
    rb_point(switch_done)
    return True
