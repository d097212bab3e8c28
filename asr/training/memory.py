"""Free memory goes back to the system before a long training holds several times what it uses."""

import ctypes
import os
from collections.abc import Callable


class FreePages:
    """Returns the free pages of the C library's heap when resident memory has doubled since they were last returned.

    Batches of ever other shapes leave holes in the heap, which the next ones seldom fit: unreturned, they grow for hours, to
    some gigabytes beside a few hundred megabytes in use. To return them after every step would cost a quarter of the time, for
    each page has to be fetched again; after doubling it costs about one part in a hundred. Does nothing where the C library
    is not glibc.
    """

    def __init__(self) -> None:
        self._return = _glibc_trim()
        self._limit = 0

    def after_step(self) -> bool:
        """Whether pages were returned."""
        if self._return is None or resident_bytes() <= self._limit:
            return False
        self._return()
        self._limit = 2 * resident_bytes()
        return True


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
