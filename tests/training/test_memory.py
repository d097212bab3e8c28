"""Memory is returned when it has grown by half, and only then; the count of it is Linux's own."""

import mmap
import sys

import numpy as np
import pytest

from asr.training import memory
from asr.training.memory import FreePages, resident_bytes


def test_pages_are_returned_when_memory_has_grown_by_half(monkeypatch):
    """Counted from the step after the last return, and from the neediest of those: 100, 120 and 120."""
    sizes = iter([100, 60, 150, 151, 120, 180, 181, 90, 179, 181])
    returned = []
    monkeypatch.setattr(memory, "_glibc_trim", lambda: lambda: returned.append(True))
    monkeypatch.setattr(memory, "resident_bytes", lambda: next(sizes))
    pages = FreePages()
    seen = [pages.after_step() for _ in range(10)]
    assert seen == [False, False, False, True, False, False, True, False, False, True]
    assert len(returned) == 3


def test_nothing_happens_without_glibc(monkeypatch):
    monkeypatch.setattr(memory, "_glibc_trim", lambda: None)
    monkeypatch.setattr(memory, "resident_bytes", lambda: pytest.fail("not asked for"))
    assert not FreePages().after_step()


@pytest.mark.skipif(sys.platform != "linux", reason="counted by Linux")
def test_resident_memory_counts_what_is_touched():
    before = resident_bytes()
    with mmap.mmap(-1, 2**25) as block:  # new pages for certain; an array may be given some that the heap holds already
        assert resident_bytes() - before < 2**20
        for _ in range(2**13):
            block.write(b"1" * 2**12)
        assert 0.9 * len(block) < resident_bytes() - before < 2 * len(block)


@pytest.mark.skipif(memory._glibc_trim() is None, reason="the C library is not glibc")
def test_holes_in_the_heap_are_given_back():
    pages = FreePages()
    assert not pages.after_step()
    blocks = [np.ones(100_000, dtype=np.uint8) for _ in range(1 + resident_bytes() // 70_000)]  # small enough for the heap
    kept = blocks[::2]
    del blocks
    held = resident_bytes()
    assert pages.after_step()
    assert sum(int(block[0]) for block in kept) == len(kept)
    assert resident_bytes() < 0.8 * held
