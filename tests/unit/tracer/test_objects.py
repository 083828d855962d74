# SPDX-License-Identifier: MIT
"""Handles: numbers, lifetimes."""

from __future__ import annotations

import errno

import pytest

from ustconsumer.tracer.objects import Handles, MisuseError, Node


class Thing(Node):
    def __init__(self, gone: list[Thing]):
        self.gone = gone

    def destroy(self) -> None:
        self.gone.append(self)


@pytest.fixture
def gone() -> list[Thing]:
    return []


@pytest.fixture
def handles(gone: list[Thing]) -> Handles:
    return Handles(Thing(gone))


def test_the_last_number_freed_is_given_out_first(handles: Handles, gone: list[Thing]) -> None:
    assert [handles.add(Thing(gone)) for _ in range(4)] == [1, 2, 3, 4]
    handles.release(2)
    handles.release(3)
    assert [handles.add(Thing(gone)) for _ in range(3)] == [3, 2, 5]


def test_the_process_is_not_released(handles: Handles) -> None:
    with pytest.raises(MisuseError) as caught:
        handles.release(0)
    assert caught.value.error == errno.EPERM


def test_what_has_children_outlives_its_handle(handles: Handles, gone: list[Thing]) -> None:
    top, middle, leaf = Thing(gone), Thing(gone), Thing(gone)
    handles.add(top)
    handles.add(middle, parent=top)
    handles.add(leaf, parent=middle)
    handles.release(top.handle)
    handles.release(middle.handle)
    assert gone == []
    assert handles.get(top.handle) is top
    with pytest.raises(MisuseError):
        handles.release(top.handle)
    handles.release(leaf.handle)
    assert gone == [leaf, middle, top]
    assert handles.get(1) is handles.get(2) is handles.get(3) is None


def test_everything_is_destroyed_children_first(handles: Handles, gone: list[Thing]) -> None:
    top, leaf = Thing(gone), Thing(gone)
    handles.add(top)
    # A child with a smaller number than its parent's.
    handles.add(Thing(gone))
    parent = Thing(gone)
    handles.add(parent)
    handles.release(2)
    handles.add(leaf, parent=parent)
    assert leaf.handle == 2
    gone.clear()
    handles.clear()
    assert gone.index(leaf) < gone.index(parent)
    assert handles.get(1) is None
