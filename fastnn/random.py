"""The one seed of a run: `fnn.manual_seed`, from which initial weights and the masks of random layers follow.

A random layer draws a 64-bit seed of its own when it is made and counts its calls; seed and count are all that its
masks depend on (see `fnn.philox`). So a run repeats to the last bit if the seed is set, then the model made, whatever
the number of threads.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from fastnn.arguments import checked_word

__all__ = ["default_rng", "manual_seed", "new_seed"]

if TYPE_CHECKING:
    Seed = SupportsIndex | np.random.Generator | None
else:
    Seed = object  # NumPy imports its generators when they are first used, which takes as long as all of fastnn

_lock = threading.Lock()
_generator: np.random.Generator | None = None


def manual_seed(seed: SupportsIndex) -> None:
    """Seed everything that draws random numbers without being given a generator; `seed` is an integer below 2^64."""
    global _generator
    number = checked_word("manual_seed", "seed", seed)
    with _lock:
        _generator = np.random.default_rng(number)


def _in_force() -> np.random.Generator:
    global _generator
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator


def default_rng(rng: Seed = None) -> np.random.Generator:
    """The generator in force for None; one of its own for an integer; a generator as it is."""
    if rng is None:
        with _lock:
            return _in_force()
    if isinstance(rng, np.random.Generator):
        return rng
    return np.random.default_rng(checked_word("default_rng", "rng", rng))


def new_seed() -> int:
    """A 64-bit seed drawn from the generator in force: one for each random layer."""
    with _lock:
        return int(_in_force().integers(2**64, dtype=np.uint64))
