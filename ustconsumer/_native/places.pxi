# SPDX-License-Identifier: MIT
# cython: language_level=3
"""From ``Geometry.places()`` to the state of one ring."""


cdef int _set_places(
    RingState *s, places, bytes uuid, uint32_t stream_id, uint32_t cpu, int wake_fd
) except -1:
    """Set everything but the memory itself."""
    s.offset = places["offset"]
    s.consumed = places["consumed"]
    s.last_tsc = places["last_tsc"]
    s.record_disabled = places["record_disabled"]
    s.rsb_id = places["rsb_id"]
    s.active_readers = places["active_readers"]
    s.lost_full = places["lost_full"]
    s.lost_wrap = places["lost_wrap"]
    s.lost_big = places["lost_big"]
    s.get_subbuf_consumed = places["get_subbuf_consumed"]
    s.prod_snapshot = places["prod_snapshot"]
    s.cons_snapshot = places["cons_snapshot"]
    s.get_subbuf = places["get_subbuf"]
    s.hot = places["hot"]
    s.hot_stride = places["hot_stride"]
    s.hot_cc = places["hot_cc"]
    s.hot_seq = places["hot_seq"]
    s.cold = places["cold"]
    s.cold_stride = places["cold_stride"]
    s.cc_sb = places["cc_sb"]
    s.ts_end = places["ts_end"]
    s.wsb = places["wsb"]
    s.cnt = places["cnt"]
    s.pages = places["pages"]
    s.page_stride = places["page_stride"]
    s.page_data_size = places["page_data_size"]
    s.data = places["data"]
    s.header_size = places["header_size"]
    s.h_magic = places["h_magic"]
    s.h_uuid = places["h_uuid"]
    s.h_stream_id = places["h_stream_id"]
    s.h_instance = places["h_instance"]
    s.h_ts_begin = places["h_ts_begin"]
    s.h_ts_end = places["h_ts_end"]
    s.h_content = places["h_content"]
    s.h_packet = places["h_packet"]
    s.h_seq = places["h_seq"]
    s.h_discarded = places["h_discarded"]
    s.h_cpu = places["h_cpu"]
    s.size = places["subbuf_size"]
    s.count = places["num_subbuf"]
    s.overwrite = bool(places["overwrite"])
    s.by_writer = bool(places["by_writer"])
    s.total = s.size * s.count
    s.size_order = _log2(s.size)
    s.count_order = _log2(s.count)
    s.total_order = s.size_order + s.count_order
    s.mask = (<uint64_t> 0xFFFFFFFFFFFFFFFF) >> s.count_order
    s.nr_pages = s.count + (1 if s.overwrite else 0)
    memcpy(s.uuid, <const char *> <bytes> uuid, 16)
    s.stream_id = stream_id
    s.cpu = cpu
    s.wake_fd = wake_fd
    s.data_fd = s.index_fd = -1
    s.batch = 0
    return 0
