"""What only a real GPU can show: `pytest -m gpu`. All else is in the tests of `device`, which run there too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import arrays, nn

pytestmark = pytest.mark.gpu

MANY = 2**31 + 17  # elements: more than 32-bit indices reach


def test_more_elements_than_32_bits_count(real_cupy: Any) -> None:
    """At both ends, and on both sides of the limits: float16 in place, 4 GiB."""
    places = [0, 1, 2**31 - 1, 2**31, 2**31 + 1, MANY - 1]
    x = real_cupy.zeros(MANY, np.float16)
    for k, place in enumerate(places):
        x[place] = k - 3
    fnn.relu(x, out=x)
    assert [float(x[place]) for place in places] == [0, 0, 0, 0, 1, 2]
    x.fill(1)
    fnn.dropout(x, 0.5, seed=3, out=x)
    kept = fnn.dropout_mask(64, 0.5, seed=3, start=2**31 - 32)
    np.testing.assert_array_equal(arrays.host(x[2**31 - 32 : 2**31 + 32]) != 0, kept)


def test_masks_are_the_cpus(real_cupy: Any) -> None:
    """Bit for bit, over more blocks than run at once."""
    x = np.ones(3_000_001, np.float32)
    np.testing.assert_array_equal(
        arrays.host(fnn.dropout(real_cupy.asarray(x), 0.3, seed=5, offset=2)), fnn.dropout(x, 0.3, seed=5, offset=2)
    )


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh", "sigmoid", "softplus", "mish", "silu", "sin"])
def test_elementwise_bits_are_the_cpus(real_cupy: Any, name: str) -> None:
    x = np.random.default_rng(0).integers(0, 2**32, 1_000_003, np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        expected, got = getattr(fnn, name)(x), arrays.host(getattr(fnn, name)(real_cupy.asarray(x)))
    np.testing.assert_array_equal(got, expected)


def test_a_stream_of_ones_own(real_cupy: Any) -> None:
    """Calls go to the stream that is current, and wait for none."""
    stream = real_cupy.cuda.Stream(non_blocking=True)
    x = real_cupy.ones((512, 512), np.float32)
    real_cupy.cuda.get_current_stream().synchronize()
    with stream:
        for _ in range(100):
            fnn.softmax(x, out=x)
        event = stream.record()
    event.synchronize()
    np.testing.assert_allclose(arrays.host(x).sum(1), 1, rtol=1e-4)


def test_two_real_devices(real_cupy: Any) -> None:
    if real_cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two GPUs")
    layer, x = nn.Linear(3, 2).to("cuda:1"), np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match="the current device is 0"):
        layer(real_cupy.asarray(x))
    with real_cupy.cuda.Device(1):
        assert layer(real_cupy.asarray(x)).device.id == 1


@pytest.mark.parametrize("name", ["mlp", "lenet5"])
def test_networks_train_to_the_cpus_accuracy(real_cupy: Any, name: str, mnist_folder: Path) -> None:
    """Two epochs of MNIST, on both: within one percent."""
    train, test = (fnn.data.mnist(split, mnist_folder) for split in ("train", "test"))
    shape = {"input_shape": train.x.shape[1:], "classes": 10}
    scores = {}
    for place in ("cpu", "cuda"):
        fnn.manual_seed(1)
        model = fnn.models.create(name, **shape).to(place)
        optimizer = fnn.optim.Adam(model.parameters(), lr=1e-3)
        fnn.train.fit(model, train, optimizer=optimizer, epochs=2, progress=False, monitor=False)
        scores[place] = fnn.train.evaluate(model, test).accuracy
    assert scores["cuda"] > 0.96 and abs(scores["cuda"] - scores["cpu"]) < 0.01
