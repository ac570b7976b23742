"""Rows of batch normalisation."""

from __future__ import annotations

from fastnn.function import Argument, Function
from fastnn.table import batch_norm_oracles as oracles
from fastnn.table.normalization_arguments import (
    BACKWARD_FORMULA,
    BACKWARD_OPERATIONS,
    BETA,
    COPIES,
    DBETA,
    DGAMMA,
    DX,
    DY,
    EPS,
    FORWARD_OPERATIONS,
    GAMMA,
    LOST,
    NO_MEMORY,
    OUT,
    OUT_DX,
    READ_BOTH,
    READ_ONCE,
    SAVED_X,
    STATISTICS,
    Y_FORMULA,
    Y,
    gradient_memory,
    memory,
    statistics,
)

CONVENTION = (
    "running = momentum * batch + (1 - momentum) * running: momentum is the weight of the new batch, as in PyTorch. "
    "The biased variance (divided by n) normalises; the unbiased one (by n - 1) goes into the running average."
)
X = Argument(name="x", role="array", doc="array of shape (N, C) or (N, C, *spatial); channels are axis 1")
ACTIVATION = Argument(
    name="activation",
    doc="activation applied to y while it is in the cache: a name, or a tuple of a name and its parameters",
)
DROPOUT = (
    Argument(name="dropout_p", doc="probability of dropping an element behind the activation, 0 for no dropout"),
    Argument(name="seed", doc="an int from 0 to 2^64 - 1, needed for dropout, as in dropout"),
    Argument(name="offset", doc="which of the seed's masks, an int from 0 to 2^64 - 1, as in dropout"),
)
BATCH_SOURCE = "Ioffe and Szegedy (2015), Batch Normalization, ICML"

ROWS: tuple[Function, ...] = (
    Function(
        name="batch_norm_train",
        family="normalization",
        title="Batch normalisation with the statistics of the batch, which it adds to running averages",
        formula=f"{Y_FORMULA}, mean and variance by channel over the batch and all positions",
        arguments=(
            X,
            GAMMA,
            BETA,
            Argument(
                name="running_mean",
                role="parameter",
                doc="running average of the mean, of shape (C,), any float dtype, updated in place; None for none",
            ),
            Argument(
                name="running_var",
                role="parameter",
                doc="running average of the unbiased variance, of shape (C,), updated in place; None for none",
            ),
            Argument(name="momentum", doc="weight of this batch in the running averages, from 0 to 1"),
            EPS,
            ACTIVATION,
            *DROPOUT,
            OUT,
            *memory("mean", "inv_std", shape="(C,)"),
        ),
        returns=(Y, *statistics("(C,)")),
        source=BATCH_SOURCE,
        notes=(
            CONVENTION,
            STATISTICS,
            f"{COPIES} {NO_MEMORY}",
            "With an activation y is the same, to the last bit in float32 and float64, as that of two calls, and with "
            "dropout_p that of dropout(..., dropout_p, seed=seed, offset=offset) behind them; both run over blocks of "
            "some thousand numbers that are in the cache.",
            "A batch with one value a channel has no variance and is refused.",
        ),
        oracle=oracles.batch_train,
        examples=oracles.batch_examples,
        ulp=(4.0, 2.0, 4.0),
        scale=oracles.batch_train_scale,
        gradients=oracles.batch_gradients,
        bytes=READ_ONCE.format("channel"),
        operations=FORWARD_OPERATIONS,
    ),
    Function(
        name="batch_norm_infer",
        family="normalization",
        title="Batch normalisation with running averages for statistics",
        formula=Y_FORMULA.replace("mean", "running_mean").replace("variance", "running_var"),
        arguments=(
            X,
            GAMMA,
            BETA,
            Argument(name="running_mean", role="parameter", doc="mean of each channel, of shape (C,)"),
            Argument(name="running_var", role="parameter", doc="variance of each channel, of shape (C,), 0 or more"),
            EPS,
            ACTIVATION,
            OUT,
        ),
        returns=(Y,),
        source=BATCH_SOURCE,
        notes=(
            "The mean is subtracted first, then one multiply-add: folding it into the shift would lose the digits of "
            "channels whose mean is large beside their deviation.",
            f"{COPIES} {NO_MEMORY}",
        ),
        oracle=oracles.batch_infer,
        examples=oracles.infer_examples,
        ulp=4.0,
        scale=oracles.batch_infer_scale,
        bytes="reads x once, writes y once",
        operations="3 an element and those of the activation",
    ),
    Function(
        name="batch_norm_backward",
        family="normalization",
        title="Gradient of batch_norm_train, through the statistics",
        formula=f"{BACKWARD_FORMULA}; means and sums by channel over the batch and all positions",
        arguments=(
            DY,
            SAVED_X,
            GAMMA,
            *statistics("(C,)", "parameter"),
            Argument(name="beta", role="parameter", doc="the beta of the forward pass, needed with an activation"),
            Argument(name="activation", doc="the activation of the forward pass"),
            *DROPOUT,
            OUT_DX,
            *gradient_memory("(C,)"),
        ),
        returns=(DX, DGAMMA, DBETA),
        source=BATCH_SOURCE,
        notes=(
            LOST,
            "With an activation or dropout dy is the gradient by its result. The activation's input is computed again "
            "from x, and the mask from the seed, so that nothing but x and the statistics need be kept.",
            f"{COPIES} {NO_MEMORY} With an activation or dropout, float16 and bfloat16 take a float32 array of x's "
            "shape, and so does an out that is x.",
        ),
        oracle=oracles.batch_backward,
        examples=oracles.batch_backward_examples,
        ulp=(8.0, 8.0, 8.0),
        scale=oracles.batch_backward_scale,
        gradient_of="batch_norm_train",
        bytes=READ_BOTH.format("channel"),
        operations=f"{BACKWARD_OPERATIONS}; with an activation those of its forward and backward pass too",
    ),
)
