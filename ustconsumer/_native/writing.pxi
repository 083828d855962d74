# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Reserving room for an event. Readable definition: `ustconsumer.ringbuffer.reserve`."""

cdef extern from *:
    # Kill points of a writer: see ``points.pxi``.
    int reserve_begun, reserve_reserved, reserve_opened, event_written

cdef enum:
    RESERVED = 0
    RECORD_DISABLED = 1
    NO_ROOM = 2
    WRAPPED = 3
    TOO_BIG = 4
    BROKEN = 5

cdef enum:
    COMPACT_HEADER = 1
    # Above these an id is written in full, in the extended header.
    MAX_COMPACT_ID = 30
    MAX_LARGE_ID = 65534
    # A timestamp is written in full once these many low bits do not tell it from the last.
    TSC_BITS = 27


# Room for one event: ``at`` is the address of its header, ``begin`` to ``end`` its positions.
cdef struct Slot:
    char *at
    uint64_t begin, end, now, discarded
    bint extended


cdef inline uint64_t _event_header_size(int header_type, bint extended) noexcept nogil:
    if header_type == COMPACT_HEADER:
        return 13 if extended else 4
    return 14 if extended else 6


cdef int _reserve(
    RingState *r, uint64_t payload, int header_type, uint32_t event_id, Slot *slot, uint64_t given
) noexcept nogil:
    """Reserve an event's header and ``payload`` bytes; nothing is counted if it fails.

    ``given`` is the time of the event, 0: now.
    """
    cdef uint64_t old, begin, end, used, size, start, now, header, number
    cdef bint close_old, open_new, fills_new, long_id
    cdef char *page
    cdef int tries
    if rb_load32(_word(r, r.record_disabled)):
        return RECORD_DISABLED
    long_id = event_id > <uint32_t> (MAX_COMPACT_ID if header_type == COMPACT_HEADER else MAX_LARGE_ID)
    for tries in range(MAX_TRIES):
        # Position first, clock second: times do not decrease along positions.
        old = begin = rb_load(_word(r, r.offset))
        now = given if given else rb_now()
        slot.extended = long_id or (now - rb_load(_word(r, r.last_tsc))) >> TSC_BITS != 0
        size = _event_header_size(header_type, slot.extended) + payload
        used = old & (r.size - 1)
        # Both ends are sizes of memory, so that the sums cannot wrap.
        if payload > r.size:
            close_old = open_new = True
        else:
            close_old = used != 0 and used + size > r.size
            open_new = used == 0 or close_old
        if open_new:
            start = _align(r, old) if close_old and used != 0 else old
            begin = start + r.header_size
            if not _free_to_enter(r, start):
                # The counter just read may belong to another turn.
                if old != rb_load(_word(r, r.offset)):
                    continue
                return WRAPPED
            if old != rb_load(_word(r, r.offset)):
                continue
            if not r.overwrite and start - _trunc(r, rb_load(_word(r, r.consumed))) >= r.total:
                return NO_ROOM
            if payload > r.size or r.header_size + size > r.size:
                return TOO_BIG
        end = begin + size
        fills_new = (end & (r.size - 1)) == 0
        slot.discarded = _lost(r) if fills_new or close_old else 0
        rb_point(reserve_begun)
        if rb_cas(_word(r, r.offset), old, end):
            break
    else:
        return WRAPPED
    rb_point(reserve_reserved)
    rb_store(_word(r, r.last_tsc), now)
    _push_reader(r, end - 1)
    _clear_noref(r, end - 1)
    if close_old:
        _clear_noref(r, old - 1)
        number = _page_of(r, rb_load(_wsb(r, _index(r, old - 1))))
        if _page(r, number) == NULL:
            return BROKEN
        rb_put(_data_size(r, number), ((old - 1) & (r.size - 1)) + 1)
        rb_put(_word(r, r.ts_end + 8 * _index(r, old - 1)), now)
        # Never written: the bytes of the padding stay what they were.
        _commit(r, old - 1, _align(r, old - 1), _align(r, old - 1) - old, slot.discarded)
    number = _page_of(r, rb_load(_wsb(r, _index(r, begin))))
    page = _page(r, number)
    if page == NULL:
        return BROKEN
    if open_new:
        _write_header(r, page, begin - r.header_size, now)
        # The end that is compared counts the header twice: ``seq`` moves when the first
        # event commits, not when the header does.
        _commit(r, begin - 1, begin + r.header_size, r.header_size, slot.discarded)
        rb_point(reserve_opened)
    if fills_new:
        rb_put(_data_size(r, number), r.size)
        rb_put(_word(r, r.ts_end + 8 * _index(r, begin)), now)
    slot.at = page + (begin & (r.size - 1))
    slot.begin = begin
    slot.end = end
    slot.now = now
    return RESERVED


cdef char *_event_header(Slot *slot, int header_type, uint32_t event_id) noexcept nogil:
    """Write the event's header; return the address of its payload."""
    cdef char *at = slot.at
    cdef uint32_t word
    if header_type == COMPACT_HEADER:
        if slot.extended:
            at[0] = 31
            memcpy(at + 1, &event_id, 4)
            memcpy(at + 5, &slot.now, 8)
            return at + 13
        word = event_id | <uint32_t> (slot.now << 5)
        memcpy(at, &word, 4)
        return at + 4
    if slot.extended:
        at[0] = at[1] = <char> 0xFF
        memcpy(at + 2, &event_id, 4)
        memcpy(at + 6, &slot.now, 8)
        return at + 14
    memcpy(at, &event_id, 2)
    word = <uint32_t> slot.now
    memcpy(at + 2, &word, 4)
    return at + 6


cdef void _lose(RingState *r, int status) noexcept nogil:
    """Count an event for which there was no room."""
    if status == NO_ROOM:
        rb_add(_word(r, r.lost_full), 1)
    elif status == WRAPPED:
        rb_add(_word(r, r.lost_wrap), 1)
    elif status == TOO_BIG:
        rb_add(_word(r, r.lost_big), 1)
