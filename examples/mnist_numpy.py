"""A network with one hidden layer, trained with nothing but NumPy and fastnn's functions.

    FASTNN_DATA=folder python examples/mnist_numpy.py

The folder, or one below it, holds the four idx files of MNIST, gzipped or not. Where there are none, the network learns
to tell three spiral arms apart.
"""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn

Floats = NDArray[np.float32]
Labels = NDArray[np.intp]
HIDDEN, BATCH, EPOCHS, RATE, MOMENTUM = 256, 100, 5, 0.05, 0.9
rng = np.random.default_rng(0)


def idx(name: str) -> NDArray[np.uint8]:
    """An idx file: two zeros, the type (8: bytes), the number of dimensions n, n big-endian int32, the numbers."""
    folder = Path(os.environ.get("FASTNN_DATA", "."))
    for path in (*folder.glob(f"{name}*-ubyte*"), *folder.glob(f"*/{name}*-ubyte*")):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        shape = np.frombuffer(data, ">i4", data[3], offset=4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
    raise FileNotFoundError(f"no {name} in {folder.resolve()} or one folder below (set FASTNN_DATA)")


def mnist(name: str) -> tuple[Floats, Labels]:
    images, labels = idx(f"{name}-images"), idx(f"{name}-labels")
    return np.divide(images.reshape(len(images), -1), 255, dtype=np.float32), labels.astype(np.intp)


def spirals(n: int) -> tuple[Floats, Labels]:
    label, radius = rng.integers(3, size=n), rng.uniform(size=n)
    angle = 4 * (label + radius) + rng.normal(scale=0.2, size=n)
    return np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1).astype(np.float32), label


try:
    (x, labels), (x_test, labels_test) = mnist("train"), mnist("t10k")
except FileNotFoundError as error:
    print(f"{error}: generated spirals instead of MNIST")
    (x, labels), (x_test, labels_test) = spirals(30_000), spirals(10_000)

sizes = (x.shape[1], HIDDEN, labels.max() + 1)
weights = [rng.normal(0, np.sqrt(2 / m), (m, n)).astype(np.float32) for m, n in zip(sizes[:-1], sizes[1:], strict=True)]
biases = [np.zeros(n, np.float32) for n in sizes[1:]]
velocities = [np.zeros_like(p) for p in (*weights, *biases)]
z, h, dh = (np.empty((BATCH, HIDDEN), np.float32) for _ in range(3))

for epoch in range(EPOCHS):
    start, loss = time.perf_counter(), 0.0
    for batch in rng.permutation(len(x))[: len(x) // BATCH * BATCH].reshape(-1, BATCH):
        np.add(np.matmul(x[batch], weights[0], out=z), biases[0], out=z)
        logits = fnn.relu(z, out=h) @ weights[1] + biases[1]
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        loss -= np.log(p[np.arange(BATCH), labels[batch]]).sum(dtype=float)
        p[np.arange(BATCH), labels[batch]] -= 1  # p is now the gradient of the loss in the logits
        fnn.relu_backward(np.matmul(p, weights[1].T, out=dh), z, out=dh)
        gradients = x[batch].T @ dh, h.T @ p, dh.sum(axis=0), p.sum(axis=0)
        for parameter, velocity, gradient in zip((*weights, *biases), velocities, gradients, strict=True):
            velocity *= MOMENTUM
            velocity -= RATE / BATCH * gradient
            parameter += velocity
    print(f"epoch {epoch + 1}: loss {loss / len(x):.4f}, {time.perf_counter() - start:.1f} s")

guesses = (fnn.relu(x_test @ weights[0] + biases[0]) @ weights[1] + biases[1]).argmax(axis=1)
print(f"test accuracy: {np.mean(guesses == labels_test):.2%}")
