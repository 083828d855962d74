# SPDX-License-Identifier: MIT
# cython: language_level=3
"""What a new reader does first. Readable definition: `ustconsumer.ringbuffer.takeover`."""

from libc.stdlib cimport calloc, free

cdef enum:
    _CLEAN = 0
    _MENDED = 1
    _LIED = -1


cdef int _mend_pages(RingState *r, uint8_t *named) noexcept nogil:
    """Have the reader own the page that nobody names; ``named`` is one zeroed byte a page."""
    cdef uint64_t own = rb_peek(_word(r, r.rsb_id))
    cdef uint64_t index, page, missing
    cdef int twice = 0
    # Writers change the flags and turns of ids, never their page: this stands still.
    for index in range(r.count):
        page = _page_of(r, rb_load(_wsb(r, index)))
        if page >= r.nr_pages or named[page]:
            return _LIED
        named[page] = 1
    if _page_of(r, own) >= r.nr_pages:
        return _LIED
    if not named[_page_of(r, own)]:
        return _CLEAN
    if r.base[r.get_subbuf] & 1:
        return _LIED
    missing = 0
    # n + 1 pages, n names, none of them twice: exactly one is missing.
    while named[missing]:
        missing += 1
    rb_store(_word(r, r.rsb_id), (own & ~PAGE_BITS) | missing)
    rb_point(take_over_page)
    return _MENDED


cdef bint _holds(RingState *r, uint64_t page, uint64_t sequence) noexcept nogil:
    """Whether a page begins with the header of this packet."""
    cdef char *at
    cdef uint32_t magic
    cdef uint64_t found
    # Checked before, but that was another load.
    if page >= r.nr_pages:
        return False
    at = r.base + r.data + page * r.size
    memcpy(&magic, at + r.h_magic, 4)
    memcpy(&found, at + r.h_seq, 8)
    return magic == DATA_MAGIC and found == sequence


cdef bint _give_back(RingState *r) noexcept nogil:
    """Put the reader's page back if it is a packet that is still to be read."""
    cdef uint64_t page = _page_of(r, rb_peek(_word(r, r.rsb_id)))
    cdef uint64_t sequence, position, consumed
    if page >= r.nr_pages:
        return False
    memcpy(&sequence, r.base + r.data + page * r.size + r.h_seq, 8)
    position = sequence << r.size_order
    consumed = rb_load(_word(r, r.consumed))
    if position >> r.size_order != sequence or not _holds(r, page, sequence):
        return False
    if <int64_t> (position - _trunc(r, consumed)) < 0 or not _committed(r, position):
        return False
    if _holds(r, _page_of(r, rb_load(_wsb(r, _index(r, position)))), sequence):
        return False
    # False: a writer was faster, the packet is overwritten and its page the reader's spare.
    return _exchange(r, position)


cdef int _take_over(RingState *r, uint8_t *named) noexcept nogil:
    cdef uint64_t index
    cdef int status = _CLEAN
    if r.overwrite:
        status = _mend_pages(r, named)
    else:
        for index in range(r.count):
            if rb_load(_wsb(r, index)) != index:
                status = _LIED
    if status == _LIED:
        r.lie = LIE_PAGES
        return _LIED
    if r.base[r.get_subbuf] & 1:
        rb_mark(_word(r, r.get_subbuf), r.base[r.get_subbuf] & ~1)
        rb_point(take_over_released)
        status = _MENDED
    if r.overwrite and _give_back(r):
        status = _MENDED
    rb_point(take_over_done)
    return status
