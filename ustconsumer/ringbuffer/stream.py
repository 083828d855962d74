# SPDX-License-Identifier: MIT
"""A stream's memory as numpy views: for looking, never for synchronising.

Plain accesses: good for memory that stands still (held sub-buffers, dead buffers,
tests) and as hints elsewhere. What is shared with running writers is loaded by
``memory`` or by native code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ustconsumer.errors import LayoutError
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.units import SubbufIndex

__all__ = ["StreamView"]


class StreamView:
    """Read-only views of one stream; nothing is copied.

    Parameters
    ----------
    buf : buffer
        The whole memory of the stream; exported as long as a view of it lives.
    geometry : Geometry
        Trusted: never taken from the memory itself.

    Attributes
    ----------
    control : ndarray, shape (), structured
        The control block. ``control["offset"]`` is the write position.
    hot, cold : ndarray, shape (num_subbuf,), structured
        Commit counters.
    ts_end, ids, counts : ndarray, shape (num_subbuf,), uint64
        Times of the last reservations, sub-buffer ids, numbers of packets delivered.
    pages : ndarray, shape (nr_pages,), structured
        Page descriptors.
    data : ndarray, shape (nr_pages, subbuf_size), uint8
        The pages, in the order of their descriptors, not of positions.

    Raises
    ------
    LayoutError
        The buffer is shorter than the geometry demands.
    """

    def __init__(self, buf: Any, geometry: Geometry):
        raw: npt.NDArray[np.uint8] = np.frombuffer(buf, dtype=np.uint8)
        if raw.size < geometry.file_size:
            raise LayoutError("stream memory", f"{geometry.file_size} bytes", raw.size)
        raw = raw[: geometry.file_size].view()
        raw.flags.writeable = False
        layout, n = geometry.layout, geometry.num_subbuf
        word = np.dtype(np.uint64)
        self._raw = raw
        self.geometry = geometry
        control = self._table(0, 1, layout.control.dtype())
        self.control: npt.NDArray[np.void] = control.reshape(())
        self.hot: npt.NDArray[np.void] = self._table(geometry.hot, n, layout.hot.dtype())
        self.cold: npt.NDArray[np.void] = self._table(geometry.cold, n, layout.cold.dtype())
        self.ts_end: npt.NDArray[np.uint64] = self._table(geometry.ts_end, n, word)
        self.ids: npt.NDArray[np.uint64] = self._table(geometry.wsb, n, word)
        self.counts: npt.NDArray[np.uint64] = self._table(geometry.cnt, n, word)
        self.pages: npt.NDArray[np.void] = self._table(
            geometry.pages, geometry.nr_pages, layout.page.dtype()
        )
        self.data: npt.NDArray[np.uint8] = raw[geometry.data : geometry.pages].reshape(
            geometry.nr_pages, geometry.subbuf_size
        )

    def _table(self, at: int, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        return self._raw[at : at + count * dtype.itemsize].view(dtype)

    def packet_header(self, page: int) -> npt.NDArray[np.void]:
        """Return the packet header at the beginning of a page.

        Returns
        -------
        ndarray, shape (), structured
            Read-only view. Sizes in bits, times in clock cycles.
        """
        dtype = self.geometry.layout.packet.dtype()
        return self.data[page, : dtype.itemsize].view(dtype).reshape(())

    def page_of(self, index: SubbufIndex) -> int:
        """Return the page that the writers' table has for a sub-buffer, as it is now.

        Raises
        ------
        LayoutError
            The id in the table selects no page.
        """
        geometry = self.geometry
        page = int(self.ids[index])
        if geometry.overwrite:
            page &= geometry.layout.id_index_mask
        if page >= geometry.nr_pages:
            raise LayoutError("page of a sub-buffer id", f"below {geometry.nr_pages}", page)
        return page
