"""Tells a lack of memory from other errors: each library says it in its own way."""

from __future__ import annotations

import errno

import torch

_WORDS = (
    "can't allocate memory",  # torch on a CPU: DefaultCPUAllocator
    "not enough memory",  # the same on other systems
    "std::bad_alloc",  # C++ through any binding, such as MuJoCo's in a ValueError
    "could not allocate memory",  # MuJoCo itself
    "CUDA error: out of memory",  # where it is no torch.OutOfMemoryError, as while a context is made
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error, or one of those it came from, says that there is no memory left."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if _says_so(cause):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


def _says_so(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return any(words in str(error) for words in _WORDS)
