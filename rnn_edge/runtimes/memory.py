"""Memory that was needed only to open a graph."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["return_free_memory"]


def return_free_memory() -> None:
    """Give back to the system what is free but still held by glibc's malloc; other allocators are left alone.

    ONNX Runtime copies a graph twice before its products have their own, and the gaps would stay for good.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim:
            trim(0)
