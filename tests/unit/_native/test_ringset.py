# SPDX-License-Identifier: MIT
"""Words that a set of rings watches: as many as there are traces, and gone with them."""

from __future__ import annotations

from ustconsumer._native.ring import PUMP_IDLE, PUMP_WORD, RingSet


def reason(rings: RingSet) -> int:
    return rings.pump(1_000_000_000, 1 << 20, 0)[0]


def test_a_word_no_longer_watched_is_let_go() -> None:
    words, others = bytearray(64), bytearray(64)
    rings = RingSet()
    for offset in (8, 16):
        rings.watch(words, offset)
        rings.watch(others, offset)
    assert reason(rings) == PUMP_WORD
    assert reason(rings) == PUMP_IDLE
    rings.unwatch(words)
    words[8] = 1
    assert reason(rings) == PUMP_IDLE
    # Nothing holds its memory: it can be resized, or unmapped.
    words.append(0)
    others[16] = 1
    assert reason(rings) == PUMP_WORD
    assert reason(rings) == PUMP_IDLE


def test_any_number_of_words() -> None:
    memories = [bytearray(64) for _ in range(500)]
    rings = RingSet()
    for memory in memories:
        rings.watch(memory, 16)
    assert reason(rings) == PUMP_WORD
    for memory in memories:
        assert reason(rings) == PUMP_IDLE
        memory[16] = 1
        assert reason(rings) == PUMP_WORD
