# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Checking, mending and moving packets to a file."""


cdef int _mend(RingState *r, char *page, uint64_t number, uint64_t position, Checked *checked) noexcept nogil:
    """Check the packet of a held sub-buffer and mend what its writers left.

    Bytes after the content are old events: zeroed. ``events_discarded`` may be 0
    after losses (the last committer's view): made non-decreasing. ``checked`` is filled
    in when the result is ``LIE_NONE``; every word is read once.
    """
    cdef uint64_t size = rb_peek(_data_size(r, number))
    cdef uint64_t rounded, content, packet, sequence, discarded
    cdef uint32_t magic, stream_id
    if size < r.header_size or size > r.size:
        return LIE_DATA_SIZE
    rounded = (size + PAGE - 1) // PAGE * PAGE
    memcpy(&magic, page + r.h_magic, 4)
    memcpy(&stream_id, page + r.h_stream_id, 4)
    memcpy(&content, page + r.h_content, 8)
    memcpy(&packet, page + r.h_packet, 8)
    memcpy(&sequence, page + r.h_seq, 8)
    if magic != DATA_MAGIC or stream_id != r.stream_id or content != size * 8 or packet != rounded * 8:
        return LIE_HEADER
    if sequence != position >> r.size_order:
        return LIE_SEQUENCE
    memcpy(&discarded, page + r.h_discarded, 8)
    if discarded < r.last_discarded:
        discarded = r.last_discarded
        memcpy(page + r.h_discarded, &discarded, 8)
    r.last_discarded = discarded
    if rounded > size:
        memset(page + size, 0, rounded - size)
    memcpy(&checked.begin, page + r.h_ts_begin, 8)
    memcpy(&checked.end, page + r.h_ts_end, 8)
    checked.content = size
    checked.packet = rounded
    checked.discarded = discarded
    checked.sequence = sequence
    return LIE_NONE


cdef inline bint _fits(RingState *r, uint64_t offset, uint64_t packet) noexcept nogil:
    """Whether a packet may go there; an empty file takes any."""
    return not r.file_limit or not offset or offset + packet <= r.file_limit


cdef void _index_entry(RingState *r, Checked *checked, uint64_t file_offset, uint64_t *entry) noexcept nogil:
    entry[0] = htobe64(file_offset)
    entry[1] = htobe64(checked.packet * 8)
    entry[2] = htobe64(checked.content * 8)
    entry[3] = htobe64(checked.begin)
    entry[4] = htobe64(checked.end)
    entry[5] = htobe64(checked.discarded)
    entry[6] = htobe64(r.stream_id)
    entry[7] = htobe64(r.cpu)
    entry[8] = htobe64(checked.sequence)


cdef int _write_index(RingState *r, int index_fd, uint64_t *entries, int count) noexcept nogil:
    cdef ssize_t done
    cdef size_t written = 0
    cdef size_t length = <size_t> count * INDEX_ENTRY
    if index_fd < 0:
        return 0
    rb_tear(index_torn, index_fd, entries, length, r.index_offset)
    while written < length:
        done = pwrite(index_fd, (<char *> entries) + written, length - written, <int64_t> (r.index_offset + written))
        if done < 0:
            if errno == EINTR:
                continue
            r.error = errno
            return -1
        if done == 0:
            r.error = EIO
            return -1
        written += done
    r.index_offset += length
    rb_point(index_written)
    return 0


cdef void _unwrite(RingState *r, int data_fd, int index_fd, uint64_t discarded) noexcept nogil:
    """After a failed write: what is in the files of it goes, and nothing of it was seen.

    Part of a packet would make the data unreadable should it end here; in overwrite mode
    another, shorter packet may come next. What is no file cannot be cut: no matter.
    """
    cdef int ignored
    cdef int error = r.error
    r.last_discarded = discarded
    ignored = ftruncate(data_fd, <int64_t> r.data_offset)
    if index_fd >= 0:
        ignored = ftruncate(index_fd, <int64_t> r.index_offset)
    r.error = error


cdef int _drain_discard(RingState *r, int data_fd, int index_fd, uint64_t limit, uint64_t batch) noexcept nogil:
    """Read-write-release in batches: several sub-buffers a system call."""
    cdef iovec iov[64]
    cdef uint64_t entries[64 * INDEX_WORDS]
    cdef uint64_t start, position, produced, gathered, discarded, before, moved = 0
    cdef Checked checked
    cdef int iovs, count
    cdef char *page
    cdef int status
    if r.batch > batch:
        batch = r.batch
    while True:
        if moved >= limit:
            return _MORE
        start = rb_load(_word(r, r.consumed))
        position = start
        produced = _trunc(r, rb_load(_word(r, r.offset)))
        # A reader that waits for room sees at most `total` bytes ahead, and only it moves.
        if start & (r.size - 1) or produced - start > r.total:
            r.lie = LIE_POSITION
            return _LIE
        iovs = count = 0
        gathered = 0
        discarded = r.last_discarded
        status = _EMPTY
        while count < RB_IOV and (count == 0 or gathered + r.size <= batch):
            if position == produced:
                break
            if not _committed(r, position):
                status = _HELD
                break
            page = r.base + r.data + _index(r, position) * r.size
            if rb_load(_wsb(r, _index(r, position))) != _index(r, position):
                r.lie = LIE_ID
            else:
                before = r.last_discarded
                r.lie = _mend(r, page, _index(r, position), position, &checked)
            if r.lie:
                # The packets before it are good: they go first, then it comes again.
                status = _LIE
                break
            if not _fits(r, r.data_offset + gathered, checked.packet):
                # It comes again, with another file.
                r.last_discarded = before
                status = _FULL
                break
            if iovs and <char *> iov[iovs - 1].iov_base + iov[iovs - 1].iov_len == page:
                iov[iovs - 1].iov_len += checked.packet
            else:
                iov[iovs].iov_base = page
                iov[iovs].iov_len = checked.packet
                iovs += 1
            _index_entry(r, &checked, r.data_offset + gathered, &entries[count * INDEX_WORDS])
            gathered += checked.packet
            count += 1
            position += r.size
        if count == 0:
            return status
        rb_point(drain_checked)
        # Data, index, position: a successor finds on disk at least what was released.
        if (
            _write_all(r, data_fd, iov, iovs, r.data_offset) < 0
            or _write_index(r, index_fd, entries, count) < 0
        ):
            _unwrite(r, data_fd, index_fd, discarded)
            return _ERRNO
        r.data_offset += gathered
        r.packet_count += count
        r.byte_count += gathered
        # The CAS is a full barrier: our reads come before the writers' reuse.
        if not rb_cas(_word(r, r.consumed), start, position):
            r.lie = LIE_POSITION
            return _LIE
        rb_point(drain_moved)
        moved += gathered


cdef int _drain_overwrite(RingState *r, int data_fd, int index_fd, uint64_t limit) noexcept nogil:
    """One sub-buffer at a time: there is one spare page to take it with."""
    cdef iovec iov
    cdef uint64_t entry[INDEX_WORDS]
    cdef uint64_t position, number, discarded, moved = 0
    cdef Checked checked
    cdef int overtaken = 0
    cdef bint held
    cdef char *page
    while True:
        if moved >= limit:
            return _MORE
        if not _snapshot(r, &position):
            return _EMPTY
        if not _get(r, position):
            # Overtaken (consumed moved on) or not committed: only the first is worth a retry.
            held = rb_load(_word(r, r.consumed)) == position
            if held and not _readable(r):
                return _HELD
            overtaken += 1
            if overtaken <= MAX_OVERTAKEN:
                continue
            if not held:
                return _MORE
            # Readable where it stands: only an id that is not its own keeps it from us,
            # for a writer that takes the page away moves `consumed` first.
            r.lie = LIE_ID
            return _LIE
        overtaken = 0
        discarded = r.last_discarded
        number = _page_of(r, rb_peek(_word(r, r.rsb_id)))
        page = _page(r, number)
        if page != NULL:
            r.lie = _mend(r, page, number, position, &checked)
        if r.lie:
            _put(r)
            return _LIE
        if not _fits(r, r.data_offset, checked.packet):
            r.last_discarded = discarded
            _put(r)
            return _FULL
        iov.iov_base = page
        iov.iov_len = checked.packet
        _index_entry(r, &checked, r.data_offset, entry)
        rb_point(drain_checked)
        if (
            _write_all(r, data_fd, &iov, 1, r.data_offset) < 0
            or _write_index(r, index_fd, entry, 1) < 0
        ):
            _unwrite(r, data_fd, index_fd, discarded)
            _put(r)
            return _ERRNO
        r.data_offset += checked.packet
        _put(r)
        _move(r, _align(r, position))
        rb_point(drain_moved)
        r.packet_count += 1
        r.byte_count += checked.packet
        moved += checked.packet
