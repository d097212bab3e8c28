"""Free memory goes back to the system before a long training holds several times what it uses."""

import ctypes
import os
from collections.abc import Callable

#: Growth of resident memory, since the step after the last return, at which free pages are returned again.
GROWTH = 1.5


class FreePages:
    """Returns the free pages of the C library's heap whenever resident memory has grown by half.

    Batches of ever other shapes leave holes in the heap which the next ones seldom fit: left alone, they grow for hours, to
    gigabytes beside a few hundred megabytes in use. Returned pages have to be fetched again by the step that follows, which
    costs it a quarter of its time; so growth is counted from there on, and what a single step needs is never taken for holes.
    Does nothing where the C library is not glibc.
    """

    def __init__(self) -> None:
        self._return = _glibc_trim()
        self._needed = 0
        self._returned = True

    def after_step(self) -> bool:
        """Whether pages were returned."""
        if self._return is None:
            return False
        if self._returned:
            self._needed = max(self._needed, resident_bytes())
            self._returned = False
        elif resident_bytes() > GROWTH * self._needed:
            self._return()
            self._returned = True
        return self._returned


def resident_bytes() -> int:
    """Memory of this process that is in use or held, by Linux's own count."""
    with open("/proc/self/statm", encoding="ascii") as handle:
        return int(handle.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _glibc_trim() -> Callable[[], None] | None:
    """malloc_trim(0), or None where there is none."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
        resident_bytes()
    except (OSError, AttributeError, TypeError, ValueError):
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return lambda: trim(0)
