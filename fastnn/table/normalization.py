"""Rows of the family `normalization`."""

from __future__ import annotations

from fastnn.function import Argument, Function
from fastnn.table import normalization_oracles as oracles

CONVENTION = (
    "running = momentum * batch + (1 - momentum) * running: momentum is the weight of the new batch, as in PyTorch. "
    "The biased variance (divided by n) normalises; the unbiased one (by n - 1) goes into the running average."
)
STATISTICS = (
    "Statistics are sums of x less a number near its mean, over 16 fixed lanes, four terms in the dtype computed in "
    "and those in double: stable for any mean and any number of elements, and the same for any number of threads. A "
    "second pass, over the cache where a channel fits it, subtracts the mean in two parts, for a float alone would cut "
    "it off. float32 squares overflow where x is 1e19 from its mean."
)
COPIES = "Arrays that are not C-contiguous are copied first (channels-last images too)."

# ---- arguments that rows share ----

_X = Argument(name="x", role="array", doc="array of shape (N, C) or (N, C, *spatial); channels are axis 1")
_ROW_X = Argument(name="x", role="array", doc="array of one axis or more")
_GROUP_X = Argument(name="x", role="array", doc="array of shape (N, C) or (N, C, *spatial)")
_DY = Argument(name="dy", role="array", doc="gradient of the loss by y, of x's shape")
_SAVED_X = Argument(name="x", role="array", doc="the x of the forward pass")
_OUT = Argument(name="out", doc="array of x's shape and dtype to write y into; it may be x itself")
_OUT_DX = Argument(name="out", doc="array of x's shape and dtype to write dx into; it may be dy or x itself")
_ACTIVATION = Argument(
    name="activation",
    doc="activation applied to y while it is in the cache: a name, or a tuple of a name and its parameters",
)
_DROPOUT = (
    Argument(name="dropout_p", doc="probability of dropping an element behind the activation, 0 for no dropout"),
    Argument(name="seed", doc="an int from 0 to 2^64 - 1, needed for dropout, as in dropout"),
    Argument(name="offset", doc="which of the seed's masks, an int from 0 to 2^64 - 1, as in dropout"),
)
_GAMMA = Argument(name="gamma", role="parameter", doc="scale of each channel, of shape (C,); None for 1")
_BETA = Argument(name="beta", role="parameter", doc="shift of each channel, of shape (C,); None for 0")
_EPS = Argument(name="eps", doc="number added to the variance, above 0")
_Y = Argument(name="y", doc="array of x's shape and dtype")
_DX = Argument(name="dx", doc="array of x's shape and dtype")
_DGAMMA = Argument(name="dgamma", doc="gradient by gamma, in its shape; None where gamma is None")
_DBETA = Argument(name="dbeta", doc="gradient by beta, in gamma's shape; None where gamma is None")
_AXIS = Argument(name="axis", doc="the first of the axes that are normalised together: this one and all after it")


def _statistic(name: str, what: str, shape: str, role: str = "option") -> Argument:
    kind = "float64 for float64 x, float32 for the others"
    return Argument(name=name, role=role, doc=f"{what}, of shape {shape}, {kind}")


def _statistics(shape: str, role: str = "option") -> tuple[Argument, Argument]:
    return (
        _statistic("mean", "mean", shape, role),
        _statistic("inv_std", "1 / sqrt(biased variance + eps)", shape, role),
    )


# ---- rows ----

_BATCH_SOURCE = "Ioffe and Szegedy (2015), Batch Normalization, ICML"
_LAYER_SOURCE = "Ba, Kiros and Hinton (2016), Layer Normalization"
_GROUP_SOURCE = "Wu and He (2018), Group Normalization, ECCV"
_INSTANCE_SOURCE = "Ulyanov, Vedaldi and Lempitsky (2016), Instance Normalization"
_RMS_SOURCE = "Zhang and Sennrich (2019), Root Mean Square Layer Normalization, NeurIPS"
_Y_FORMULA = "y = (x - mean) / sqrt(variance + eps) * gamma + beta"
_BACKWARD_FORMULA = (
    "xhat = (x - mean) inv_std, g = dy gamma: dx = inv_std (g - mean(g) - xhat mean(g xhat)), "
    "dgamma = sum(dy xhat), dbeta = sum(dy)"
)
_LOST = "What mean lost when it was rounded is found again from x, so that xhat is as accurate as in the forward pass."
_READ_ONCE = "reads x once from memory if a {} fits the second-level cache, else twice; writes y once"
_READ_BOTH = "reads x and dy once from memory if a {} fits the second-level cache, else twice; writes dx once"
_FORWARD_OPERATIONS = "about 7 an element"
_BACKWARD_OPERATIONS = "about 11 an element"
_NO_MEMORY = "No memory beyond the results but for some numbers a channel."

ROWS: tuple[Function, ...] = (
    Function(
        name="batch_norm_train",
        family="normalization",
        title="Batch normalisation with the statistics of the batch, which it adds to running averages",
        formula=f"{_Y_FORMULA}, mean and variance by channel over the batch and all positions",
        arguments=(
            _X,
            _GAMMA,
            _BETA,
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
            _EPS,
            _ACTIVATION,
            *_DROPOUT,
            _OUT,
        ),
        returns=(_Y, *_statistics("(C,)")),
        source=_BATCH_SOURCE,
        notes=(
            CONVENTION,
            STATISTICS,
            f"{COPIES} {_NO_MEMORY}",
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
        bytes=_READ_ONCE.format("channel"),
        operations=_FORWARD_OPERATIONS,
    ),
    Function(
        name="batch_norm_infer",
        family="normalization",
        title="Batch normalisation with running averages for statistics",
        formula=_Y_FORMULA.replace("mean", "running_mean").replace("variance", "running_var"),
        arguments=(
            _X,
            _GAMMA,
            _BETA,
            Argument(name="running_mean", role="parameter", doc="mean of each channel, of shape (C,)"),
            Argument(name="running_var", role="parameter", doc="variance of each channel, of shape (C,), 0 or more"),
            _EPS,
            _ACTIVATION,
            _OUT,
        ),
        returns=(_Y,),
        source=_BATCH_SOURCE,
        notes=(
            "The mean is subtracted first, then one multiply-add: folding it into the shift would lose the digits of "
            "channels whose mean is large beside their deviation.",
            f"{COPIES} {_NO_MEMORY}",
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
        formula=f"{_BACKWARD_FORMULA}; means and sums by channel over the batch and all positions",
        arguments=(
            _DY,
            _SAVED_X,
            _GAMMA,
            *_statistics("(C,)", "parameter"),
            Argument(name="beta", role="parameter", doc="the beta of the forward pass, needed with an activation"),
            Argument(name="activation", doc="the activation of the forward pass"),
            *_DROPOUT,
            _OUT_DX,
        ),
        returns=(_DX, _DGAMMA, _DBETA),
        source=_BATCH_SOURCE,
        notes=(
            _LOST,
            "With an activation or dropout dy is the gradient by its result. The activation's input is computed again "
            "from x, and the mask from the seed, so that nothing but x and the statistics need be kept.",
            f"{COPIES} {_NO_MEMORY} With an activation or dropout, float16 and bfloat16 take a float32 array of x's "
            "shape, and so does an out that is x.",
        ),
        oracle=oracles.batch_backward,
        examples=oracles.batch_backward_examples,
        ulp=(8.0, 8.0, 8.0),
        scale=oracles.batch_backward_scale,
        gradient_of="batch_norm_train",
        bytes=_READ_BOTH.format("channel"),
        operations=f"{_BACKWARD_OPERATIONS}; with an activation those of its forward and backward pass too",
    ),
    Function(
        name="layer_norm",
        family="normalization",
        title="Layer normalisation",
        formula=f"{_Y_FORMULA}, mean and variance over the last axes",
        arguments=(
            _ROW_X,
            Argument(name="gamma", role="parameter", doc="scale of each element, of shape x.shape[axis:]; None for 1"),
            Argument(name="beta", role="parameter", doc="shift of each element, of shape x.shape[axis:]; None for 0"),
            _AXIS,
            _EPS,
            _OUT,
        ),
        returns=(_Y, *_statistics("x.shape[:axis]")),
        source=_LAYER_SOURCE,
        notes=(STATISTICS, f"{COPIES} {_NO_MEMORY}"),
        oracle=oracles.layer,
        examples=oracles.layer_examples,
        ulp=(4.0, 2.0, 4.0),
        scale=oracles.layer_scale,
        gradients=oracles.layer_gradients,
        bytes=_READ_ONCE.format("row"),
        operations=_FORWARD_OPERATIONS,
    ),
    Function(
        name="layer_norm_backward",
        family="normalization",
        title="Gradient of layer_norm",
        formula=f"{_BACKWARD_FORMULA}; means over the last axes, sums over the others",
        arguments=(
            _DY,
            _SAVED_X,
            Argument(name="gamma", role="parameter", doc="the gamma of the forward pass, or None"),
            *_statistics("x.shape[:axis]", "parameter"),
            _AXIS,
            _OUT_DX,
        ),
        returns=(_DX, _DGAMMA, _DBETA),
        source=_LAYER_SOURCE,
        notes=(
            _LOST,
            f"{COPIES} Sums by element of a row take 16 bytes an element, in up to 16 copies while a row has fewer "
            "than 16384 elements: samples are cut into that many blocks, whatever the number of threads.",
        ),
        oracle=oracles.layer_backward,
        examples=oracles.layer_backward_examples,
        ulp=(8.0, 8.0, 8.0),
        scale=oracles.layer_backward_scale,
        gradient_of="layer_norm",
        bytes=_READ_BOTH.format("row"),
        operations=_BACKWARD_OPERATIONS,
    ),
    Function(
        name="group_norm",
        family="normalization",
        title="Group normalisation",
        formula=f"{_Y_FORMULA}, mean and variance by sample over the channels of a group and all positions",
        arguments=(
            _GROUP_X,
            Argument(name="groups", doc="number of groups that the channels are cut into; it divides them"),
            _GAMMA,
            _BETA,
            _EPS,
            _OUT,
        ),
        returns=(_Y, *_statistics("(N, groups)")),
        source=_GROUP_SOURCE,
        notes=(STATISTICS, f"{COPIES} {_NO_MEMORY}"),
        oracle=oracles.group,
        examples=oracles.group_examples,
        ulp=(4.0, 2.0, 4.0),
        scale=oracles.group_scale,
        gradients=oracles.group_gradients,
        bytes=_READ_ONCE.format("group"),
        operations=_FORWARD_OPERATIONS,
    ),
    Function(
        name="group_norm_backward",
        family="normalization",
        title="Gradient of group_norm",
        formula=f"{_BACKWARD_FORMULA}; means by sample and group, sums by channel",
        arguments=(
            _DY,
            _SAVED_X,
            Argument(name="groups", doc="the number of groups of the forward pass"),
            Argument(name="gamma", role="parameter", doc="the gamma of the forward pass, or None"),
            *_statistics("(N, groups)", "parameter"),
            _OUT_DX,
        ),
        returns=(_DX, _DGAMMA, _DBETA),
        source=_GROUP_SOURCE,
        notes=(_LOST, f"{COPIES} 16 bytes a sample and channel beyond the results."),
        oracle=oracles.group_backward,
        examples=oracles.group_backward_examples,
        ulp=(8.0, 8.0, 8.0),
        scale=oracles.group_backward_scale,
        gradient_of="group_norm",
        bytes=_READ_BOTH.format("group"),
        operations=_BACKWARD_OPERATIONS,
    ),
    Function(
        name="instance_norm",
        family="normalization",
        title="Instance normalisation: every channel of every sample by itself",
        formula=f"{_Y_FORMULA}, mean and variance by sample and channel over all positions",
        arguments=(
            Argument(name="x", role="array", doc="array of shape (N, C, *spatial), of 2 positions or more"),
            _GAMMA,
            _BETA,
            _EPS,
            _OUT,
        ),
        returns=(_Y, *_statistics("(N, C)")),
        source=_INSTANCE_SOURCE,
        notes=(STATISTICS, f"{COPIES} {_NO_MEMORY}"),
        oracle=oracles.instance,
        examples=oracles.instance_examples,
        ulp=(4.0, 2.0, 4.0),
        scale=oracles.instance_scale,
        gradients=oracles.instance_gradients,
        bytes=_READ_ONCE.format("channel of a sample"),
        operations=_FORWARD_OPERATIONS,
    ),
    Function(
        name="instance_norm_backward",
        family="normalization",
        title="Gradient of instance_norm",
        formula=f"{_BACKWARD_FORMULA}; means by sample and channel, sums by channel",
        arguments=(
            _DY,
            _SAVED_X,
            Argument(name="gamma", role="parameter", doc="the gamma of the forward pass, or None"),
            *_statistics("(N, C)", "parameter"),
            _OUT_DX,
        ),
        returns=(_DX, _DGAMMA, _DBETA),
        source=_INSTANCE_SOURCE,
        notes=(_LOST, f"{COPIES} 16 bytes a sample and channel beyond the results."),
        oracle=oracles.instance_backward,
        examples=oracles.instance_backward_examples,
        ulp=(8.0, 8.0, 8.0),
        scale=oracles.instance_backward_scale,
        gradient_of="instance_norm",
        bytes=_READ_BOTH.format("channel of a sample"),
        operations=_BACKWARD_OPERATIONS,
    ),
    Function(
        name="rms_norm",
        family="normalization",
        title="Root-mean-square normalisation: layer_norm without the mean",
        formula="y = x / sqrt(mean(x^2) + eps) * gamma, the mean over the last axes",
        arguments=(
            _ROW_X,
            Argument(name="gamma", role="parameter", doc="scale of each element, of shape x.shape[axis:]; None for 1"),
            _AXIS,
            Argument(name="eps", doc="number added to the mean of the squares, above 0; None for the eps of x's dtype"),
            _OUT,
        ),
        returns=(_Y, _statistic("inv_rms", "1 / sqrt(mean(x^2) + eps)", "x.shape[:axis]")),
        source=_RMS_SOURCE,
        notes=(
            "Four squares are added up in the dtype computed in, and those sums in double.",
            f"{COPIES} {_NO_MEMORY}",
        ),
        oracle=oracles.rms,
        examples=oracles.rms_examples,
        ulp=(4.0, 2.0),
        gradients=oracles.rms_gradients,
        bytes=_READ_ONCE.format("row"),
        operations="about 5 an element",
    ),
    Function(
        name="rms_norm_backward",
        family="normalization",
        title="Gradient of rms_norm",
        formula="xhat = x inv_rms, g = dy gamma: dx = inv_rms (g - xhat mean(g xhat)), dgamma = sum(dy xhat)",
        arguments=(
            _DY,
            _SAVED_X,
            Argument(name="gamma", role="parameter", doc="the gamma of the forward pass, or None"),
            _statistic("inv_rms", "as rms_norm returned it", "x.shape[:axis]", "parameter"),
            _AXIS,
            _OUT_DX,
        ),
        returns=(_DX, _DGAMMA),
        source=_RMS_SOURCE,
        notes=(f"{COPIES} Memory as in layer_norm_backward.",),
        oracle=oracles.rms_backward,
        examples=oracles.rms_backward_examples,
        ulp=(8.0, 8.0),
        scale=oracles.rms_backward_scale,
        gradient_of="rms_norm",
        bytes=_READ_BOTH.format("row"),
        operations=_BACKWARD_OPERATIONS,
    ),
)
