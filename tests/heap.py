"""What this process has taken from malloc."""

from __future__ import annotations

import ctypes
import gc
from typing import Any


class _Heap(ctypes.Structure):
    """What glibc's mallinfo2 tells, in its order."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


_tell: Any = getattr(ctypes.CDLL(None), "mallinfo2", _Heap)  # glibc from 2.33 on has it
_tell.restype = _Heap


def in_use() -> int:
    """Bytes taken and not given back, when the garbage is collected; 0 where nobody tells."""
    gc.collect()
    told = _tell()
    return told.uordblks + told.hblkhd
