"""Run a benchmark as on an x86-64 processor without AMX: Linux refuses its tiles to the process and its children.

python -m benchmarks.without_amx benchmarks --precision int8
python -m benchmarks.without_amx benchmarks.searching

ONNX Runtime, XNNPACK and oneDNN then multiply bytes with AVX-512 VNNI, as most processors do.
"""

from __future__ import annotations

import ctypes
import os
import platform
import runpy
import struct
import sys

__all__ = ["refuse_amx"]

_ARCH_PRCTL = 158  # x86-64's number of the system call
_FIRST, _LAST = (
    0x1021,
    0x1025,
)  # of its operations on permissions for parts of the processor, ARCH_GET_XCOMP_SUPP and on
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # instructions of classic BPF, as in linux/filter.h
_NUMBER, _ARGUMENT = 0, 16  # where a filter finds the call's number and its first argument, as in linux/seccomp.h
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 22  # the latter with EINVAL
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2  # of prctl


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse_amx() -> None:
    """Have Linux refuse AMX to this process, for good; to be called before any library asks for it."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise OSError(f"AMX can be refused on Linux for x86-64 only, and this is {sys.platform} {platform.machine()}")
    code = (
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 0, 4, _ARCH_PRCTL),
        (_LOAD, 0, 0, _ARGUMENT),
        (_AT_LEAST, 0, 2, _FIRST),
        (_AT_LEAST, 1, 0, _LAST + 1),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    )
    packed = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
    program = _Program(len(code), ctypes.addressof(packed))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(_SECCOMP, _FILTER, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), f"Linux takes no filter: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    refuse_amx()
    print("Without AMX:")
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
