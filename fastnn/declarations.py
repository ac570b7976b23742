"""Writes the type declarations of the functions that are made from the op table at import: functional.pyi, ufuncs.pyi.

    python fastnn/declarations.py FOLDER

The build runs it, when there are no compiled kernels yet: so it takes the table without importing the package.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastnn.op import Op

FUNCTIONAL = """\
# Written by declarations.py from the op table.
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

_F = TypeVar("_F", bound=np.floating[Any])
_Array = NDArray[_F]
_Gradient = NDArray[np.floating[Any]]
"""
UFUNCS = """\
# Written by declarations.py from the op table.
from numpy import ufunc
"""


def functional(ops: Iterable[Op]) -> str:
    """The text of functional.pyi: arrays of a floating dtype keep it; what else NumPy takes for an array gives Any."""
    names, parts = [], [FUNCTIONAL]
    for op in ops:
        learned = op.learned is not None
        for name, arrays, and_gradient in ((op.name, ("x",), False), (f"{op.name}_backward", ("dy", "saved"), learned)):
            names.append(name)
            for array, out, gradient in (("_Array[_F]", "_Array[_F]", "_Gradient"), ("ArrayLike", "Any", "Any")):
                arguments = [
                    *(f"{each}: {array}" for each in arrays),
                    *_parameters(op),
                    "*",
                    f"out: {out} | None = None",
                ]
                result = f"tuple[{out}, {gradient}]" if and_gradient else out
                parts.append(f"@overload\ndef {name}({', '.join(arguments)}) -> {result}: ...")
    return "\n".join([*parts, _all(names)])


def ufuncs(ops: Iterable[Op]) -> str:
    """The text of ufuncs.pyi."""
    names = []
    for op in ops:
        names += [op.name, f"{op.name}_backward"]
        if op.learned is not None:
            names.append(f"{op.name}_parameter_gradient")
    return "\n".join([UFUNCS, *(f"{name}: ufunc" for name in names), _all(names)])


def _parameters(op: Op) -> list[str]:
    return [
        f"{param.name}: ArrayLike" + ("" if param.default is None else f" = {param.default!r}") for param in op.params
    ]


def _all(names: Iterable[str]) -> str:
    return "\n__all__ = [\n" + "".join(f'    "{name}",\n' for name in names) + "]\n"


def _table(folder: Path) -> Iterable[Op]:
    for name, path in (("fastnn", folder), ("fastnn.table", folder / "table")):
        package = ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package
    rows: dict[str, Op] = importlib.import_module("fastnn.table.activations").OPS
    return rows.values()


def main(folder: Path) -> None:
    """Write both files."""
    ops = _table(Path(__file__).resolve().parent)
    (folder / "functional.pyi").write_text(functional(ops), encoding="utf-8")
    (folder / "ufuncs.pyi").write_text(ufuncs(ops), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
