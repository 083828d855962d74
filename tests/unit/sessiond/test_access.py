# SPDX-License-Identifier: MIT
from __future__ import annotations

import grp
import pwd

import pytest

from sessiond.access import Access, in_group

ROOT, ME, OTHER = 0, 1000, 1001


@pytest.mark.parametrize(
    ("app", "owner", "tracer", "joins"),
    [
        (ME, ME, False, True),
        (ME, ROOT, False, True),
        (ME, OTHER, False, False),
        (ROOT, ME, False, False),
        (ME, OTHER, True, True),
        (ROOT, OTHER, True, True),
    ],
)
def test_who_joins(app: int, owner: int, tracer: bool, joins: bool) -> None:
    assert Access.may_join(app, owner, tracer) is joins


def test_own_registry() -> None:
    access = Access(ME, False, "root")
    assert [access.may_control(uid) for uid in (ROOT, ME, OTHER)] == [True, True, False]
    assert [access.may_manage(uid, ROOT) for uid in (ROOT, ME, OTHER)] == [True, True, False]
    assert not access.is_tracer(ROOT)
    assert [access.may_be_traced(uid) for uid in (ROOT, ME, OTHER)] == [True, True, False]
    assert Access(ROOT, False, "root").may_be_traced(OTHER)


def test_global_registry() -> None:
    # Root is in the group root on every machine; the uid has no account on any.
    nobody = 0x7FFFFFF0
    access = Access(ROOT, True, "root")
    assert access.is_tracer(ROOT)
    assert [access.may_control(uid) for uid in (ROOT, nobody)] == [True, False]
    assert [access.may_manage(uid, ME) for uid in (ROOT, ME, OTHER)] == [True, True, False]
    assert [access.may_end(uid) for uid in (ROOT, ME)] == [True, False]
    assert [access.may_map(uid, ME) for uid in (ROOT, ME, OTHER)] == [True, True, False]


def test_groups() -> None:
    # The tester may have no account; this one exists everywhere.
    account = pwd.getpwuid(0)
    assert in_group(account.pw_uid, grp.getgrgid(account.pw_gid).gr_name)
    assert not in_group(account.pw_uid, "no-such-group")
