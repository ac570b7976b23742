# cython: language_level=3, freethreading_compatible=True
"""Convolutions and pools of images whose channels lie in blocks of 16, for the steps of compiled sessions.

(N, ceil(C / 16), H, W, 16) of float32, C-contiguous. Nothing is checked here: sessions know their arrays.
"""
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport int64_t
from libcpp cimport bool as cbool

cimport numpy as cnp

from runtime cimport Loop, Runtime, isa_count, kRuntimeCapsule, max_isas, pass_forward

from fastnn.kernels.cpu.runtime import api

import numpy as np

cnp.import_array()

cdef extern from "blocked_run.hpp" namespace "fastnn_cpu" nogil:
    struct Blocked:
        const float* weight
        const float* bias
        const double* counts[2]
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
    struct Operation:
        cbool (*run)(const Operation*, void* const*) noexcept nogil
    const char[] kOperationCapsule
    struct BlockedStep:
        Operation operation
        Blocked job
        cbool adds
        Loop loops[max_isas]
        const Runtime* runtime
    void plan_step(BlockedStep&)

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
    pool: of "conv" and "depthwise": the result is the maxima over squares of 2 by 2 of what has y_shape
    added: a second input, of the layout of y, is added before the activation; it may be y if that has an even width
    weight, bias: packed by `pack`; counts: of "avg_pool", the factors of each row's and each column's divisor, float64
    activation: name and parameters, or None

    `operation`, of program.hpp, runs it; so does a call, with the inputs and the result.
    """
    cdef BlockedStep step
    cdef float parameters[4]
    cdef tuple kept
    cdef readonly object operation

    def __init__(self, str kind, tuple x_shape, tuple y_shape, kernel=(1, 1), stride=(1, 1), before=(0, 0), dilation=(1, 1),
                 groups=1, planes=False, pool=False, added=False, weight=None, bias=None, counts=(None, None), activation=None):
        cdef int axis, isa
        cdef const char* name
        cdef Blocked* job = &self.step.job
        job.kind, job.planes, job.pool, job.groups = KINDS.index(kind), planes, pool, groups
        job.images, job.channels, job.rows, job.cols = x_shape
        _, job.outputs, job.out_rows, job.out_cols = y_shape
        for axis in range(2):
            job.kernel[axis], job.stride[axis] = kernel[axis], stride[axis]
            job.before[axis], job.dilation[axis] = before[axis], dilation[axis]
            job.counts[axis] = <const double*> data(counts[axis])
        taps = np.empty(kernel[0] * kernel[1], np.longlong)
        self.kept = taps, weight, bias, counts
        job.tap, job.weight, job.bias = <long long*> data(taps), data(weight), data(bias)
        job.low, job.high = BOUNDS.get(None if activation is None else activation[0], (-np.inf, np.inf))
        if activation is not None and activation[0] not in BOUNDS:
            encoded = activation[0].encode()
            name = encoded
            for isa in range(isa_count()):
                self.step.loops[isa] = runtime.activation_loop(isa, name, pass_forward, 0)
            for value in activation[1]:
                self.parameters[job.parameters] = value
                job.parameter[job.parameters] = &self.parameters[job.parameters]
                job.parameters += 1
        self.step.adds, self.step.runtime = added, runtime
        plan_step(self.step)
        self.operation = PyCapsule_New(&self.step, kOperationCapsule, NULL)

    def __call__(self, *arrays) -> None:
        cdef void* at[3]
        cdef int k
        cdef cbool done
        for k in range(len(arrays)):
            at[k] = data(arrays[k])
        with nogil:
            done = self.step.operation.run(&self.step.operation, at)
        if not done:
            raise MemoryError("session: no memory to work in")


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
