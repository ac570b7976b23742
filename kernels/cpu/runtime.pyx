# cython: language_level=3, freethreading_compatible=True
"""Which instruction set runs, and what else all kernel modules share: runtime.hpp says what, runtime.pxd how."""
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New

from pool cimport PoolApi, kPoolCapsule
from runtime cimport Runtime, best_isa, isa_at, isa_count, kRuntimeCapsule

import os

from fastnn.kernels.cpu.threads import pool_api


cdef Runtime shared
shared.pool = <const PoolApi*> PyCapsule_GetPointer(pool_api, kPoolCapsule)
shared.set_isa(best_isa())
shared.set_bfloat16(-1)
shared.activation_loop = NULL

api = PyCapsule_New(&shared, kRuntimeCapsule, NULL)


def built() -> tuple:
    """Instruction sets in this build, best last."""
    return tuple((<bytes> isa_at(i).name).decode() for i in range(isa_count()))


def isas() -> tuple:
    """Instruction sets in this build that the CPU can run, best last."""
    return tuple((<bytes> isa_at(i).name).decode() for i in range(isa_count()) if isa_at(i).runnable)


def isa() -> str:
    """The instruction set in use."""
    return (<bytes> isa_at(shared.active_isa()).name).decode()


def set_isa(name) -> None:
    """Use an instruction set from now on, in every thread: for tests and certificates. FASTNN_ISA sets it at import."""
    expected = f"expected one of {', '.join(map(repr, isas()))}"
    if not isinstance(name, str):
        raise TypeError(f"set_isa: name is {name!r} of type {type(name).__name__}; {expected}")
    if name not in isas():
        why = "which this CPU cannot run" if name in built() else "which this build does not hold"
        raise ValueError(f"set_isa: name is {name!r}, {why}; {expected}")
    shared.set_isa(built().index(name))


if shared.active_isa() < 0:
    raise ImportError(f"fastnn: this CPU can run none of the instruction sets of this build ({', '.join(built())})")
if os.environ.get("FASTNN_ISA"):
    try:
        set_isa(os.environ["FASTNN_ISA"])
    except ValueError as error:
        raise ValueError(str(error).replace("set_isa: name", "the environment variable FASTNN_ISA", 1)) from None
