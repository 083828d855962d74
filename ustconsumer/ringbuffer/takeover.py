# SPDX-License-Identifier: MIT
"""What a new reader does first: bring the reader's side into a clean state.

The reader before may have been killed between any two statements of `reader.get`,
`reader.put` and `reader.exchange`, while writers go on. Readable; ``_native.ring`` runs.

In discard mode its trace is the "held" flag alone. In overwrite mode it takes a packet
by exchanging its spare page for the packet's, and may have died with the two on either
side of that:

=====================================  ==========  =========  ===========================
killed                                 table       reader     so
=====================================  ==========  =========  ===========================
before the exchange                    packet      spare      clean
between its CAS and its last store     spare       spare      the packet is nowhere
... until the exchange of ``put``      spare       packet     the packet is out of place
between its CAS and its last store     packet      packet     the spare is nowhere
after it                               packet      spare      clean
=====================================  ==========  =========  ===========================

First every page is where it can be found: what is nowhere becomes the reader's. Then the
reader's page is put back if it is a packet still to be read. Both steps end in one of the
states above, so that a successor may be killed here as well.
"""

from __future__ import annotations

from ustconsumer.abi.packet import CTF_MAGIC
from ustconsumer.errors import RingBufferError
from ustconsumer.ringbuffer.memory import MASK, StreamMemory, before
from ustconsumer.ringbuffer.reader import exchange

__all__ = ["take_over"]


def take_over(memory: StreamMemory) -> bool:
    """Mend what a reader left that was killed; return whether there was anything.

    To be called before anything else is read, by the only reader.

    Raises
    ------
    RingBufferError
        No reader leaves the pages like this: the memory lies.
    """
    mended = _mend_pages(memory)
    if memory.held:
        memory.held = False
        mended = True
    if memory.geometry.overwrite and _give_back(memory):
        mended = True
    return mended


def _mend_pages(memory: StreamMemory) -> bool:
    """Have the reader own the page that nobody names."""
    geometry = memory.geometry
    lie = RingBufferError("the pages of the buffer are not each in one place")
    # Writers change the flags and turns of ids, never their page: this stands still.
    ids = [memory.load_id(index) for index in range(geometry.num_subbuf)]
    if not geometry.overwrite:
        if ids != list(range(geometry.num_subbuf)):
            raise lie
        return False
    index_mask = geometry.layout.id_index_mask
    own = memory.load("rsb_id")
    missing = set(range(geometry.nr_pages)) - {each & index_mask for each in ids}
    # n of n + 1 pages, none of them twice.
    if len(missing) != 1 or own & index_mask >= geometry.nr_pages:
        raise lie
    if own & index_mask in missing:
        return False
    if memory.held:
        raise lie
    memory.store("rsb_id", own & ~index_mask | missing.pop())
    return True


def _give_back(memory: StreamMemory) -> bool:
    """Put the reader's page back if it is a packet that is still to be read.

    A packet is on one page, and its sequence number is its position: what the reader's
    page says is told from an old packet on a spare page by the position, which is behind
    ``consumed`` there, and from a lie by the table, which must have another page for it.
    """
    geometry = memory.geometry
    page = memory.page_of(memory.load("rsb_id"))
    sequence = _sequence(memory, page)
    if sequence is None or sequence * geometry.subbuf_size > MASK:
        return False
    position = sequence * geometry.subbuf_size
    if before(position, geometry.subbuf_trunc(memory.load("consumed"))):
        return False
    if not memory.committed(position):
        return False
    if _sequence(memory, memory.page_of(memory.load_id(geometry.index(position)))) == sequence:
        return False
    # False: a writer was faster, the packet is overwritten and its page the reader's spare.
    return exchange(memory, position)


def _sequence(memory: StreamMemory, page: int) -> int | None:
    """Return the sequence number of the packet on a page; None if there is no packet."""
    geometry = memory.geometry
    header, at = geometry.layout.packet, geometry.data_at(page)
    if header.get(memory.view, at, "magic") != CTF_MAGIC:
        return None
    sequence: int = header.get(memory.view, at, "packet_seq_num")
    return sequence
