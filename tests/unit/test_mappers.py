# SPDX-License-Identifier: MIT
from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest
from helpers.processes import child_that_inherits

from ustconsumer.mappers import writers_of


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("mapped")
    os.ftruncate(fd, 8192)
    yield fd
    os.close(fd)


def key(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def test_nobody_maps_a_new_file(file: int) -> None:
    assert writers_of([file]) == {}


def test_a_reader_is_no_writer(file: int) -> None:
    with mmap.mmap(file, 8192, mmap.MAP_SHARED, mmap.PROT_READ):
        assert writers_of([file]) == {}


def test_a_private_copy_is_no_writer(file: int) -> None:
    with mmap.mmap(file, 8192, mmap.MAP_PRIVATE):
        assert writers_of([file]) == {}


def test_a_child_that_inherited_the_mapping_is_found_with_its_parent(file: int) -> None:
    other = os.memfd_create("other")
    os.ftruncate(other, 8192)
    memory = mmap.mmap(file, 8192)
    with child_that_inherits() as child:
        found = writers_of([file, other, 10**6])
        assert found == {key(file): {os.getpid(), child}}
        memory.close()
        assert writers_of([file]) == {key(file): {child}}
    os.close(other)
    assert writers_of([file]) == {}
