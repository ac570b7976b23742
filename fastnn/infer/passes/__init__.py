"""From the steps of a model to those that the native kernels run: fused further, and in layouts of their own.

The plan follows from the graph alone: neither from the instruction set nor from threads or batch. Other backends run
the graph as it is, and files hold that; `Session.describe` and the C exporter show and translate the plan.
"""

from __future__ import annotations

import numpy as np

from fastnn.infer.graph import Graph
from fastnn.infer.passes.layouts import in_blocks
from fastnn.infer.passes.sums import with_sums_fused


def native_plan(graph: Graph) -> Graph:
    """The steps for the native kernels; the graph itself where these have no other form, which is in float32 only."""
    if graph.dtype != np.float32:
        return graph
    return in_blocks(with_sums_fused(graph))
