"""Many values out of one array of bytes, copied together."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Places = npt.NDArray[np.int64]


def picked(
    raw: npt.NDArray[np.uint8], first: Places, size: Places, null: npt.NDArray[np.bool_]
) -> Any:
    """An Arrow array of the bytes that begin at `first`, which grows; a null one has no size.

    Copied together by Arrow, out of an array in which what lies between is a value, too: NumPy
    would need a number of eight bytes for each byte.
    """
    bounds = np.empty(2 * len(first), np.int32)
    bounds[0::2], bounds[1::2] = first, first + size
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(raw)]
    every = pa.Array.from_buffers(pa.binary(), max(len(bounds) - 1, 0), buffers)
    return every.take(pa.array(np.arange(0, len(bounds), 2), mask=null))
