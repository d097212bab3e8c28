"""Memory is returned when it has doubled, and only then; the count of it is Linux's own."""

import sys

import numpy as np
import pytest

from asr.training import memory
from asr.training.memory import FreePages, resident_bytes


def test_pages_are_returned_at_each_doubling(monkeypatch):
    sizes = iter([100, 60, 119, 120, 121, 90, 180, 181, 100])
    returned = []
    monkeypatch.setattr(memory, "_glibc_trim", lambda: lambda: returned.append(True))
    monkeypatch.setattr(memory, "resident_bytes", lambda: next(sizes))
    pages = FreePages()
    assert [pages.after_step() for _ in range(6)] == [True, False, False, True, False, True]
    assert len(returned) == 3
    assert next(sizes, None) is None


def test_nothing_happens_without_glibc(monkeypatch):
    monkeypatch.setattr(memory, "_glibc_trim", lambda: None)
    monkeypatch.setattr(memory, "resident_bytes", lambda: pytest.fail("not asked for"))
    assert not FreePages().after_step()


@pytest.mark.skipif(sys.platform != "linux", reason="counted by Linux")
def test_resident_memory_counts_what_is_touched():
    before = resident_bytes()
    block = np.ones(2**25, dtype=np.uint8)
    assert 0.9 * block.nbytes < resident_bytes() - before < 2 * block.nbytes


@pytest.mark.skipif(memory._glibc_trim() is None, reason="the C library is not glibc")
def test_holes_in_the_heap_are_given_back():
    blocks = [np.ones(100_000, dtype=np.uint8) for _ in range(2000)]  # each small enough to come from the heap
    before = resident_bytes()
    kept = blocks[::2]
    del blocks
    held = resident_bytes()
    assert FreePages().after_step()
    assert sum(int(block[0]) for block in kept) == 1000
    assert resident_bytes() < held - 0.3 * (before - held) - 50_000_000
