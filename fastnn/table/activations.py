"""One row an activation. Functions, tests, docstrings, benchmarks, certificates and layers are made from it.

A row's formulas are oracles over a namespace `m` of elementary functions (`fastnn.oracle`): textbook formulas, arranged
so that they are accurate in float64. `m.maximum(a, b)` and `m.minimum(a, b)` return `b` where the two are equal, so
that a clamp keeps -0.0; `m.times(a, b)` is the product in which infinity times 0 is 0. NaN is dealt with in `Op`.
"""

from __future__ import annotations

from math import inf
from typing import Any

from fastnn.op import Op, Param

SELU_ALPHA = "1.6732632423543772848170429916717"
SELU_LAMBDA = "1.0507009873554804934193349852946"


def _sigmoid(m: Any, x: Any) -> Any:
    return 1 / (1 + m.exp(-x))


def _softplus(m: Any, x: Any) -> Any:
    return m.maximum(0, x) + m.log1p(m.exp(-m.abs(x)))


def _swish_gradient(m: Any, x: Any, beta: Any) -> Any:
    """With s = sigmoid(z) and 1 - s = sigmoid(-z), which does not cancel."""
    z = beta * x
    return _sigmoid(m, z) + m.times(z, _sigmoid(m, z) * _sigmoid(m, -z))


def _mish_gradient(m: Any, x: Any) -> Any:
    t = m.tanh(_softplus(m, x))
    return t + m.times(x, (1 - t) * (1 + t) * _sigmoid(m, x))


def _gelu_gradient(m: Any, x: Any) -> Any:
    return m.erfc(-x * m.sqrt(m.number("0.5"))) / 2 + m.times(x, m.exp(-x * x / 2) / m.sqrt(2 * m.pi))


def _gelu_tanh_argument(m: Any, x: Any) -> Any:
    """2 u, for 1/2 (1 + tanh(u)) = sigmoid(2 u), which does not cancel where x < 0."""
    return 2 * m.sqrt(2 / m.pi) * (x + m.number("0.044715") * x * x * x)


def _gelu_tanh_gradient(m: Any, x: Any) -> Any:
    v = _gelu_tanh_argument(m, x)
    slope = 2 * m.sqrt(2 / m.pi) * (1 + 3 * m.number("0.044715") * x * x)
    return _sigmoid(m, v) + m.times(x * slope, _sigmoid(m, v) * _sigmoid(m, -v))


def _selu(m: Any, x: Any) -> Any:
    return m.number(SELU_LAMBDA) * m.where(x > 0, x, m.number(SELU_ALPHA) * m.expm1(x))


def _selu_gradient(m: Any, x: Any) -> Any:
    return m.number(SELU_LAMBDA) * m.where(x > 0, 1, m.number(SELU_ALPHA) * m.exp(x))


def _relu6(m: Any, x: Any) -> Any:
    return m.minimum(6, m.maximum(0, x))


def _softsign(m: Any, x: Any) -> Any:
    x = m.minimum(m.largest, m.maximum(-m.largest, x))
    return x / (1 + m.abs(x))


_ROWS = (
    Op(
        name="relu",
        title="Rectified linear unit",
        formula="max(0, x)",
        derivative="1 if x > 0 else 0",
        source="Nair and Hinton (2010), Rectified Linear Units Improve Restricted Boltzmann Machines, ICML",
        saves="input",
        special=((inf, inf), (-inf, 0.0), (0.0, 0.0), (-0.0, -0.0)),
        forward=lambda m, x: m.maximum(0, x),
        gradient=lambda m, x: m.where(x > 0, 1, 0),
        forward_ops=1,
        backward_ops=2,
        transcendental=False,
    ),
    Op(
        name="leaky_relu",
        title="Leaky rectified linear unit",
        params=(Param(name="negative_slope", default=0.01, doc="slope where x <= 0", examples=(0.1, 1.5, -0.25)),),
        formula="x if x > 0 else negative_slope x",
        derivative="1 if x > 0 else negative_slope",
        source="Maas, Hannun and Ng (2013), Rectifier Nonlinearities Improve Neural Network Acoustic Models, ICML",
        saves="input",
        special=((inf, inf), (-inf, -inf), (0.0, 0.0), (-0.0, -0.0)),
        forward=lambda m, x, negative_slope: m.where(x > 0, x, negative_slope * x),
        gradient=lambda m, x, negative_slope: m.where(x > 0, 1, negative_slope),
        forward_ops=3,
        backward_ops=3,
        transcendental=False,
    ),
    Op(
        name="prelu",
        title="Parametric rectified linear unit: the negative slope is learned",
        params=(Param(name="alpha", learned=True, doc="slope where x <= 0", examples=(0.25, -0.7, 1.5)),),
        formula="x if x > 0 else alpha x",
        derivative="1 if x > 0 else alpha;  dy/dalpha = 0 if x > 0 else x",
        source="He, Zhang, Ren and Sun (2015), Delving Deep into Rectifiers, ICCV",
        saves="input",
        special=((inf, inf), (-inf, -inf), (0.0, 0.0), (-0.0, -0.0)),
        forward=lambda m, x, alpha: m.where(x > 0, x, alpha * x),
        gradient=lambda m, x, alpha: m.where(x > 0, 1, alpha),
        param_gradient=lambda m, x, alpha: m.where(x > 0, 0, x),
        forward_ops=3,
        backward_ops=6,
        transcendental=False,
    ),
    Op(
        name="elu",
        title="Exponential linear unit",
        params=(Param(name="alpha", default=1.0, doc="-alpha is the limit at -infinity", examples=(0.3, 1.7)),),
        formula="x if x > 0 else alpha (exp(x) - 1)",
        derivative="1 if x > 0 else alpha exp(x)",
        source="Clevert, Unterthiner and Hochreiter (2016), Fast and Accurate Deep Network Learning by ELUs, ICLR",
        saves="input",
        special=((inf, inf), (-inf, -1.0), (0.0, 0.0), (-0.0, -0.0)),
        forward=lambda m, x, alpha: m.where(x > 0, x, alpha * m.expm1(x)),
        gradient=lambda m, x, alpha: m.where(x > 0, 1, alpha * m.exp(x)),
        forward_ops=20,
        backward_ops=18,
        transcendental=True,
    ),
    Op(
        name="parametric_elu",
        title="Parametric exponential linear unit: ELU whose alpha is learned",
        params=(Param(name="alpha", learned=True, doc="-alpha is the limit at -infinity", examples=(1.0, 0.3, 1.7)),),
        formula="x if x > 0 else alpha (exp(x) - 1)",
        derivative="1 if x > 0 else alpha exp(x);  dy/dalpha = 0 if x > 0 else exp(x) - 1",
        source="Trottier, Giguere and Chaib-draa (2017), Parametric Exponential Linear Unit for Deep Convolutional "
        "Neural Networks, ICMLA; here with its slope fixed at 1",
        saves="input",
        special=((inf, inf), (-inf, -1.0), (0.0, 0.0), (-0.0, -0.0)),
        forward=lambda m, x, alpha: m.where(x > 0, x, alpha * m.expm1(x)),
        gradient=lambda m, x, alpha: m.where(x > 0, 1, alpha * m.exp(x)),
        param_gradient=lambda m, x, alpha: m.where(x > 0, 0, m.expm1(x)),
        forward_ops=20,
        backward_ops=36,
        transcendental=True,
    ),
    Op(
        name="selu",
        title="Scaled exponential linear unit, whose activations normalise themselves",
        formula="lambda x if x > 0 else lambda alpha (exp(x) - 1), alpha = 1.67326324..., lambda = 1.05070098...",
        derivative="lambda if x > 0 else lambda alpha exp(x)",
        source="Klambauer, Unterthiner, Mayr and Hochreiter (2017), Self-Normalizing Neural Networks, NIPS",
        saves="input",
        special=((inf, inf), (-inf, -float(SELU_ALPHA) * float(SELU_LAMBDA)), (0.0, 0.0), (-0.0, -0.0)),
        forward=_selu,
        gradient=_selu_gradient,
        forward_ops=21,
        backward_ops=18,
        transcendental=True,
    ),
    Op(
        name="celu",
        title="Continuously differentiable exponential linear unit",
        params=(
            Param(
                name="alpha",
                default=1.0,
                low=0.0,
                excluded=(0.0,),
                doc="-alpha is the limit at -infinity, and the scale of the bend",
                examples=(0.5, 1.7, 0.3),
            ),
        ),
        formula="x if x > 0 else alpha (exp(x / alpha) - 1)",
        derivative="1 if x > 0 else exp(x / alpha)",
        source="Barron (2017), Continuously Differentiable Exponential Linear Units, arXiv:1704.07483",
        saves="input",
        special=((inf, inf), (-inf, -1.0), (0.0, 0.0), (-0.0, -0.0)),
        forward=lambda m, x, alpha: m.where(x > 0, x, alpha * m.expm1(x / alpha)),
        gradient=lambda m, x, alpha: m.where(x > 0, 1, m.exp(x / alpha)),
        forward_ops=22,
        backward_ops=20,
        transcendental=True,
    ),
    Op(
        name="gelu",
        title="Gaussian error linear unit, the exact form",
        formula="x Phi(x) = x/2 erfc(-x / sqrt(2))",
        derivative="Phi(x) + x exp(-x^2 / 2) / sqrt(2 pi)",
        source="Hendrycks and Gimpel (2016), Gaussian Error Linear Units, arXiv:1606.08415",
        saves="input",
        special=((inf, inf), (-inf, -0.0), (0.0, 0.0), (-0.0, -0.0)),
        forward=lambda m, x: m.times(x, m.erfc(-x * m.sqrt(m.number("0.5"))) / 2),
        gradient=_gelu_gradient,
        zeros=(-0.7517915246935645,),
        near=0.25,
        forward_ops=40,
        backward_ops=60,
        transcendental=True,
    ),
    Op(
        name="gelu_tanh",
        title="Gaussian error linear unit, the tanh approximation",
        formula="x/2 (1 + tanh(u)), u = sqrt(2 / pi) (x + 0.044715 x^3)",
        derivative="s + 2 x u' s (1 - s), s = (1 + tanh(u)) / 2, u' = sqrt(2 / pi) (1 + 0.134145 x^2)",
        source="Hendrycks and Gimpel (2016), Gaussian Error Linear Units, arXiv:1606.08415, section 2",
        saves="input",
        special=((inf, inf), (-inf, -0.0), (0.0, 0.0), (-0.0, -0.0)),
        forward=lambda m, x: m.times(x, _sigmoid(m, _gelu_tanh_argument(m, x))),
        gradient=_gelu_tanh_gradient,
        zeros=(-0.7524614220710163,),
        near=0.25,
        forward_ops=28,
        backward_ops=36,
        transcendental=True,
    ),
    Op(
        name="silu",
        title="Sigmoid linear unit (swish with beta = 1)",
        formula="x sigmoid(x)",
        derivative="s + x s (1 - s), s = sigmoid(x)",
        source="Elfwing, Uchibe and Doya (2018), Sigmoid-Weighted Linear Units, Neural Networks 107",
        saves="input",
        special=((inf, inf), (-inf, -0.0), (0.0, 0.0), (-0.0, -0.0)),
        forward=lambda m, x: m.times(x, _sigmoid(m, x)),
        gradient=lambda m, x: _swish_gradient(m, x, 1),
        zeros=(-1.2784645427610738,),
        near=0.25,
        forward_ops=20,
        backward_ops=26,
        transcendental=True,
    ),
    Op(
        name="swish",
        title="Swish: x times the sigmoid of beta x",
        params=(Param(name="beta", doc="steepness of the gate", examples=(1.0, 1.702, 0.3, -2.5)),),
        formula="x sigmoid(beta x)",
        derivative="s + beta x s (1 - s), s = sigmoid(beta x)",
        source="Ramachandran, Zoph and Le (2017), Searching for Activation Functions, arXiv:1710.05941",
        saves="input",
        special=((inf, inf), (-inf, -0.0), (0.0, 0.0), (-0.0, -0.0)),
        forward=lambda m, x, beta: m.times(x, _sigmoid(m, beta * x)),
        gradient=_swish_gradient,
        zeros=(-1.2784645427610738,),
        near=0.25,
        scale=lambda beta: beta,
        forward_ops=23,
        backward_ops=29,
        transcendental=True,
    ),
    Op(
        name="softplus",
        title="Softplus, the smooth ReLU",
        formula="log(1 + exp(x))",
        derivative="sigmoid(x)",
        source="Dugas, Bengio, Belisle, Nadeau and Garcia (2001), Incorporating Second-Order Functional Knowledge for "
        "Better Option Pricing, NIPS",
        saves="input",
        special=((inf, inf), (-inf, 0.0), (0.0, 0.6931471805599453), (-0.0, 0.6931471805599453)),
        forward=_softplus,
        gradient=_sigmoid,
        forward_ops=34,
        backward_ops=20,
        transcendental=True,
    ),
    Op(
        name="mish",
        title="Mish: x times tanh of softplus",
        formula="x tanh(softplus(x))",
        derivative="t + x (1 - t^2) sigmoid(x), t = tanh(softplus(x))",
        source="Misra (2020), Mish: A Self Regularized Non-Monotonic Activation Function, BMVC",
        saves="input",
        special=((inf, inf), (-inf, -0.0), (0.0, 0.0), (-0.0, -0.0)),
        forward=lambda m, x: m.times(x, m.tanh(_softplus(m, x))),
        gradient=_mish_gradient,
        zeros=(-1.1924312145154952,),
        near=0.25,
        forward_ops=24,
        backward_ops=34,
        transcendental=True,
    ),
    Op(
        name="sigmoid",
        title="Logistic sigmoid",
        formula="1 / (1 + exp(-x))",
        derivative="y (1 - y)",
        source="Rumelhart, Hinton and Williams (1986), Learning Representations by Back-Propagating Errors, Nature 323",
        saves="output",
        saved_range=(0.0, 1.0),
        special=((inf, 1.0), (-inf, 0.0), (0.0, 0.5), (-0.0, 0.5)),
        forward=_sigmoid,
        gradient=lambda m, y: y * (1 - y),
        forward_ops=19,
        backward_ops=3,
        transcendental=True,
    ),
    Op(
        name="tanh",
        title="Hyperbolic tangent",
        formula="(exp(x) - exp(-x)) / (exp(x) + exp(-x))",
        derivative="(1 - y) (1 + y)",
        source="LeCun, Bottou, Orr and Mueller (1998), Efficient BackProp, in Neural Networks: Tricks of the Trade",
        saves="output",
        saved_range=(-1.0, 1.0),
        special=((inf, 1.0), (-inf, -1.0), (0.0, 0.0), (-0.0, -0.0)),
        forward=lambda m, x: m.tanh(x),
        gradient=lambda m, y: (1 - y) * (1 + y),
        forward_ops=22,
        backward_ops=4,
        transcendental=True,
    ),
    Op(
        name="log_sigmoid",
        title="Logarithm of the logistic sigmoid",
        formula="log(1 / (1 + exp(-x))) = -softplus(-x)",
        derivative="sigmoid(-x)",
        source="Cox (1958), The Regression Analysis of Binary Sequences, Journal of the Royal Statistical Society 20, "
        "as the log-likelihood of the logistic model",
        saves="input",
        special=((inf, 0.0), (-inf, -inf), (0.0, -0.6931471805599453), (-0.0, -0.6931471805599453)),
        forward=lambda m, x: m.minimum(0, x) - m.log1p(m.exp(-m.abs(x))),
        gradient=lambda m, x: _sigmoid(m, -x),
        forward_ops=34,
        backward_ops=20,
        transcendental=True,
    ),
    Op(
        name="hardsigmoid",
        title="Hard sigmoid, piecewise linear",
        formula="relu6(x + 3) / 6",
        derivative="1/6 if -3 < x < 3 else 0",
        source="Howard et al. (2019), Searching for MobileNetV3, ICCV; after Courbariaux, Bengio and David (2015), "
        "BinaryConnect, NIPS",
        saves="input",
        special=((inf, 1.0), (-inf, 0.0), (0.0, 0.5), (-0.0, 0.5)),
        forward=lambda m, x: _relu6(m, x + 3) / 6,
        gradient=lambda m, x: m.where((x > -3) & (x < 3), m.number(1) / 6, 0),
        forward_ops=4,
        backward_ops=4,
        transcendental=False,
    ),
    Op(
        name="hardswish",
        title="Hard swish, piecewise quadratic",
        formula="x relu6(x + 3) / 6",
        derivative="0 if x <= -3, 1 if x >= 3, else (2 x + 3) / 6",
        source="Howard et al. (2019), Searching for MobileNetV3, ICCV",
        saves="input",
        special=((inf, inf), (-inf, -0.0), (0.0, 0.0), (-0.0, -0.0)),
        forward=lambda m, x: m.times(x, _relu6(m, x + 3) / 6),
        gradient=lambda m, x: m.where(x <= -3, 0, m.where(x >= 3, 1, (2 * x + 3) / 6)),
        forward_ops=5,
        backward_ops=7,
        transcendental=False,
    ),
    Op(
        name="hardtanh",
        title="Hard hyperbolic tangent: x clamped to an interval",
        params=(
            Param(name="min_val", default=-1.0, doc="lower bound, at most max_val", examples=(-0.5, 0.25)),
            Param(name="max_val", default=1.0, doc="upper bound, at least min_val", examples=(2.0, 0.75)),
        ),
        formula="min(max_val, max(min_val, x))",
        derivative="1 if min_val < x < max_val else 0",
        source="Collobert (2004), Large Scale Machine Learning, PhD thesis, Universite Paris VI",
        saves="input",
        special=((inf, 1.0), (-inf, -1.0), (0.0, 0.0), (-0.0, -0.0)),
        forward=lambda m, x, min_val, max_val: m.minimum(max_val, m.maximum(min_val, x)),
        gradient=lambda m, x, min_val, max_val: m.where((x > min_val) & (x < max_val), 1, 0),
        rising=True,
        forward_ops=2,
        backward_ops=4,
        transcendental=False,
    ),
    Op(
        name="relu6",
        title="Rectified linear unit clipped at 6",
        formula="min(6, max(0, x))",
        derivative="1 if 0 < x < 6 else 0",
        source="Krizhevsky (2010), Convolutional Deep Belief Networks on CIFAR-10, University of Toronto",
        saves="input",
        special=((inf, 6.0), (-inf, 0.0), (0.0, 0.0), (-0.0, -0.0)),
        forward=_relu6,
        gradient=lambda m, x: m.where((x > 0) & (x < 6), 1, 0),
        forward_ops=2,
        backward_ops=4,
        transcendental=False,
    ),
    Op(
        name="softsign",
        title="Softsign, which saturates polynomially",
        formula="x / (1 + |x|)",
        derivative="1 / (1 + |x|)^2",
        source="Bergstra, Desjardins, Lamblin and Bengio (2009), Quadratic Polynomials Learn Better Image Features, "
        "University of Montreal report 1337",
        saves="input",
        special=((inf, 1.0), (-inf, -1.0), (0.0, 0.0), (-0.0, -0.0)),
        forward=_softsign,
        gradient=lambda m, x: 1 / (1 + m.abs(x)) / (1 + m.abs(x)),
        forward_ops=3,
        backward_ops=5,
        transcendental=False,
    ),
    Op(
        name="sin",
        title="Sine",
        formula="sin(x)",
        derivative="cos(x)",
        source="Sitzmann et al. (2020), Implicit Neural Representations with Periodic Activation Functions, NeurIPS",
        saves="input",
        special=((inf, float("nan")), (-inf, float("nan")), (0.0, 0.0), (-0.0, -0.0)),
        forward=lambda m, x: m.sin(x),
        gradient=lambda m, x: m.cos(x),
        forward_ops=24,
        backward_ops=25,
        transcendental=True,
    ),
    Op(
        name="cos",
        title="Cosine",
        formula="cos(x)",
        derivative="-sin(x)",
        source="Rahimi and Recht (2007), Random Features for Large-Scale Kernel Machines, NIPS",
        saves="input",
        special=((inf, float("nan")), (-inf, float("nan")), (0.0, 1.0), (-0.0, 1.0)),
        forward=lambda m, x: m.cos(x),
        gradient=lambda m, x: -m.sin(x),
        forward_ops=24,
        backward_ops=25,
        transcendental=True,
    ),
)

OPS: dict[str, Op] = {op.name: op for op in _ROWS}
