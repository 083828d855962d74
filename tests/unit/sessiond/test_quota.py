# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from sessiond.quota import Limits, QuotaError, Quotas


def test_a_uid_gets_its_limit_and_no_more() -> None:
    quotas = Quotas(Limits(memory=100, applications=2, sessions=1))
    quotas.take("memory", 7, 60)
    with pytest.raises(
        QuotaError, match=r"uid 7 has 60 bytes of buffers and may have 100: 41 more"
    ):
        quotas.take("memory", 7, 41)
    assert quotas.taken("memory", 7) == 60
    quotas.take("memory", 7, 40)
    assert quotas.taken("memory", 7) == 100


def test_uids_and_kinds_do_not_share() -> None:
    quotas = Quotas(Limits(memory=1, applications=1, sessions=1))
    for uid in (0, 1):
        for what in ("memory", "applications", "sessions"):
            quotas.take(what, uid)
            with pytest.raises(QuotaError, match=f"--max-{what}"):
                quotas.take(what, uid)


def test_what_is_given_back_can_be_taken_again() -> None:
    freed = []
    quotas = Quotas(Limits(sessions=1), lambda: freed.append(quotas.taken("sessions", 5)))
    for _ in range(3):
        quotas.take("sessions", 5)
        quotas.give_back("sessions", 5)
    assert quotas.taken("sessions", 5) == 0
    assert freed == [0, 0, 0]


def test_what_is_lacking() -> None:
    quotas = Quotas(Limits(memory=100))
    quotas.take("memory", 5, 70)
    assert [quotas.lacking("memory", 5, amount) for amount in (30, 31, 130)] == [0, 1, 100]
    assert quotas.lacking("memory", 6, 30) == 0
