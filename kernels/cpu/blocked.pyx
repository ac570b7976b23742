# cython: language_level=3, freethreading_compatible=True
"""Convolutions and pools of images whose channels lie in blocks of 16, for the steps of compiled sessions.

(N, ceil(C / 16), H, W, 16) of float32, C-contiguous. Nothing is checked here: sessions know their arrays.
"""
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t
from libcpp cimport bool as cbool

cimport numpy as cnp

from runtime cimport Loop, Runtime, kRuntimeCapsule, pass_forward

from fastnn.kernels.cpu.runtime import api

import numpy as np

cnp.import_array()

cdef extern from "blocked_run.hpp" namespace "fastnn_cpu" nogil:
    struct Blocked:
        const float* x
        const float* added
        float* y
        const float* weight
        const float* bias
        const double* counts[2]
        Loop activation
        const void* parameter[4]
        int parameters, kind
        float low, high
        cbool planes, pool
        int64_t images, groups, channels, rows, cols, outputs, out_rows, out_cols
        int64_t kernel[2]
        int64_t stride[2]
        int64_t before[2]
        int64_t dilation[2]
        long long* tap
    void plan_blocked(Blocked&)
    cbool run_blocked(const Runtime&, Blocked&)
    void run_block(const Runtime&, Blocked&)
    void run_unblock(const Runtime&, Blocked&)

cdef extern from "ndarray.hpp":
    char* ndarray_data(PyObject*) nogil

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)
cdef tuple KINDS = ("conv", "depthwise", "max_pool", "avg_pool", "block", "unblock")
cdef dict BOUNDS = {"relu": (0.0, np.inf), "relu6": (0.0, 6.0)}  # activations that are done in registers


cdef inline float* data(object array):
    return <float*> (NULL if array is None else ndarray_data(<PyObject*> array))


cdef class Step:
    """One step with everything known but the arrays, for one size of batch.

    kind: "conv", "depthwise", "max_pool", "avg_pool"; "block" and "unblock" turn (N, C, H, W) into blocks, and back
    x_shape, y_shape: (N, C, H, W), whatever the layout
    kernel, stride, before, dilation: of rows and columns; before is the padding in front
    groups, planes: of "conv"; planes says that x is (N, C, H, W), else it lies in blocks
    pool: of "conv" and "depthwise": y is what follows of the maxima over squares of 2 by 2; y_shape is that before
    weight, bias: packed by `pack`; counts: of "avg_pool", the factors of each row's and each column's divisor, float64
    activation: name and parameters, or None
    """
    cdef Blocked job
    cdef int kind, isa
    cdef bytes name
    cdef float parameters[4]
    cdef tuple kept

    def __init__(self, str kind, tuple x_shape, tuple y_shape, kernel=(1, 1), stride=(1, 1), before=(0, 0), dilation=(1, 1),
                 groups=1, planes=False, pool=False, weight=None, bias=None, counts=(None, None), activation=None):
        cdef int axis
        cdef Blocked* job = &self.job
        self.kind, self.isa = KINDS.index(kind), -1
        job.kind, job.planes, job.pool, job.groups = self.kind, planes, pool, groups
        job.images, job.channels, job.rows, job.cols = x_shape
        _, job.outputs, job.out_rows, job.out_cols = y_shape
        for axis in range(2):
            job.kernel[axis], job.stride[axis] = kernel[axis], stride[axis]
            job.before[axis], job.dilation[axis] = before[axis], dilation[axis]
            job.counts[axis] = <const double*> data(counts[axis])
        taps = np.empty(kernel[0] * kernel[1], np.longlong)
        self.kept = taps, weight, bias, counts
        job.tap, job.weight, job.bias = <long long*> data(taps), data(weight), data(bias)
        job.parameters = 0
        job.low, job.high = -np.inf, np.inf
        job.activation = NULL
        if activation is not None:
            if activation[0] in BOUNDS:
                job.low, job.high = BOUNDS[activation[0]]
            else:
                self.name = activation[0].encode()
                for value in activation[1]:
                    self.parameters[job.parameters] = value
                    job.parameter[job.parameters] = &self.parameters[job.parameters]
                    job.parameters += 1
        if self.kind < 4:
            plan_blocked(job[0])

    def run(self, x, y, added=None) -> None:
        """y = activation(conv(x) + added), or what else it is; `added` has the layout of y, and may be y if that has an even width."""
        cdef const char* name
        cdef int isa = runtime.active_isa()
        cdef cbool done = True
        if isa != self.isa:
            self.isa = isa
            if self.name is not None:
                name = self.name
                self.job.activation = runtime.activation_loop(isa, name, pass_forward, 0)
        self.job.x, self.job.y, self.job.added = data(x), data(y), data(added)
        with nogil:
            if self.kind < 4:
                done = run_blocked(runtime[0], self.job)
            elif self.kind == 4:
                run_block(runtime[0], self.job)
            else:
                run_unblock(runtime[0], self.job)
        if not done:
            raise MemoryError("session: no memory for tiles")


def pack(weight, int groups):
    """The weights of a convolution, (O, I / groups, kH, kW), as (blocks of outputs, terms, 16).

    The blocks are those of each group. The terms are in the order in which they are summed up: blocks of 16 inputs, in
    them rows, columns of the kernel, then inputs.
    """
    outputs, inputs, rows, cols = weight.shape
    each = outputs // groups
    blocks = -(-each // 16)
    padded = np.zeros((groups, blocks * 16, inputs, rows, cols), weight.dtype)
    padded[:, :each] = weight.reshape(groups, each, inputs, rows, cols)
    terms = [padded[:, :, k:k + 16].transpose(0, 1, 3, 4, 2).reshape(groups, blocks, 16, -1) for k in range(0, inputs, 16)]
    packed = np.concatenate(terms, axis=-1).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(packed.reshape(groups * blocks, -1, 16))


def pack_channels(values, int groups):
    """One number a channel of the result as (blocks of outputs, 16)."""
    each = len(values) // groups
    padded = np.zeros((groups, -(-each // 16) * 16), values.dtype)
    padded[:, :each] = values.reshape(groups, each)
    return padded.reshape(-1, 16)
