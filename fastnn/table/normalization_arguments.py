"""What the rows of the family `normalization` share."""

from __future__ import annotations

from fastnn.function import Argument

STATISTICS = (
    "Statistics are sums of x less a number near its mean, over 16 fixed lanes, four terms in the dtype computed in "
    "and those in double: stable for any mean and any number of elements, and the same for any number of threads. A "
    "second pass, over the cache where a channel fits it, subtracts the mean in two parts, for a float alone would cut "
    "it off. float32 squares overflow where x is 1e19 from its mean."
)
COPIES = "Arrays that are not C-contiguous are copied first (channels-last images too)."
DY = Argument(name="dy", role="array", doc="gradient of the loss by y, of x's shape")
SAVED_X = Argument(name="x", role="array", doc="the x of the forward pass")
OUT = Argument(name="out", doc="array of x's shape and dtype to write y into; it may be x itself")
OUT_DX = Argument(name="out", doc="array of x's shape and dtype to write dx into; it may be dy or x itself")
GAMMA = Argument(name="gamma", role="parameter", doc="scale of each channel, of shape (C,); None for 1")
BETA = Argument(name="beta", role="parameter", doc="shift of each channel, of shape (C,); None for 0")
EPS = Argument(name="eps", doc="number added to the variance, above 0")
Y = Argument(name="y", doc="array of x's shape and dtype")
DX = Argument(name="dx", doc="array of x's shape and dtype")
DGAMMA = Argument(name="dgamma", doc="gradient by gamma, in its shape; None where gamma is None")
DBETA = Argument(name="dbeta", doc="gradient by beta, in gamma's shape; None where gamma is None")
Y_FORMULA = "y = (x - mean) / sqrt(variance + eps) * gamma + beta"
BACKWARD_FORMULA = (
    "xhat = (x - mean) inv_std, g = dy gamma: dx = inv_std (g - mean(g) - xhat mean(g xhat)), "
    "dgamma = sum(dy xhat), dbeta = sum(dy)"
)
LOST = "What mean lost when it was rounded is found again from x, so that xhat is as accurate as in the forward pass."
READ_ONCE = "reads x once from memory if a {} fits the second-level cache, else twice; writes y once"
READ_BOTH = "reads x and dy once from memory if a {} fits the second-level cache, else twice; writes dx once"
FORWARD_OPERATIONS = "about 7 an element"
BACKWARD_OPERATIONS = "about 11 an element"
NO_MEMORY = "No memory beyond the results but for some numbers a channel."


def statistic(name: str, what: str, shape: str, role: str = "option") -> Argument:
    kind = "float64 for float64 x, float32 for the others"
    return Argument(name=name, role=role, doc=f"{what}, of shape {shape}, {kind}")


def statistics(shape: str, role: str = "option") -> tuple[Argument, Argument]:
    return (
        statistic("mean", "mean", shape, role),
        statistic("inv_std", "1 / sqrt(biased variance + eps)", shape, role),
    )


def memory(*names: str, shape: str) -> tuple[Argument, ...]:
    """Arguments that take results of the dtype that is computed in."""
    return tuple(
        Argument(name=name, role="parameter", doc=f"memory for {name}, of shape {shape}, written in place")
        for name in names
    )


def gradient_memory(shape: str, *names: str) -> tuple[Argument, ...]:
    """Those of backward: memory for the gradients, and whether they are added up there."""
    names = names or ("dgamma", "dbeta")
    return (
        *memory(*names, shape=shape),
        Argument(
            name="accumulate", doc=f"add to the {' and '.join(names)} given, in place of overwriting what is there"
        ),
    )
