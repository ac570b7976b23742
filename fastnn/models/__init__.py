"""Networks by name: `fnn.models.create("lenet5")`. `fnn.models.names()` lists them, `about(name)` describes one.

| name | network | input | parameters |
|---|---|---|---|
| mlp | 784-256-128-10, batch norm and dropout after each hidden layer | 1x28x28 | 235,530 |
| lenet5 | LeCun 1998: two 5x5 convolutions, three linear layers | 1x28x28 | 61,706 |
| alexnet4 | Krizhevsky's 4-layer CIFAR network: three 5x5 convolutions, one linear layer | 3x32x32 | 89,706 |
| vgg-small | Simonyan 2014 made small: three pairs of 3x3 convolutions, two linear layers | 3x32x32 | 551,146 |
| resnet8, resnet14, resnet20 | He 2015 for CIFAR: 1, 2 or 3 residual blocks a stage | 3x32x32 | 78,042 and on |
| mobilenet | Howard 2017 made small: a 3x3 convolution, five depthwise separable blocks | 3x32x32 | 136,778 |

All take any activation of the table, batch norm or none, dropout or none, another input shape and number of classes.
"""

from __future__ import annotations

from fastnn.models.zoo import about, assemble, create, input_shape, names

__all__ = ["about", "assemble", "create", "input_shape", "names"]
