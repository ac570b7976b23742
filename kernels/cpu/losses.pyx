# cython: language_level=3, freethreading_compatible=True
"""The native backend of the losses: partial sums over chunks of fixed size, added up in order."""
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t

cimport numpy as cnp

from runtime cimport Runtime, dtype_index, kRuntimeCapsule

from fastnn.kernels.cpu.runtime import api

cnp.import_array()

cdef extern from "losses.hpp" namespace "fastnn_cpu" nogil:
    struct ClassLoss:
        const void* scores
        void* gradient
        const int64_t* labels
        const void* targets
        const void* weight
        double* losses
        double smoothing, margin, scale
        int64_t ignored, classes, inner
    struct ElementLoss:
        const void* x
        const void* target
        void* gradient
        void* losses
        const void* weight
        const void* positive_weight
        int64_t weight_step, positive_weight_step
        double scale
    ctypedef double (*ClassLoop)(const ClassLoss&, int64_t, int64_t, void*) noexcept nogil
    ctypedef double (*ElementLoop)(const ElementLoss&, int64_t, int64_t, void*) noexcept nogil
    struct Losses:
        ClassLoop cross_entropy[4]
        ClassLoop hinge[4]
        ElementLoop squared_error[4]
        ElementLoop binary_cross_entropy[4]
    const Losses& losses_table "fastnn_cpu::losses"(int isa)
    int64_t half_room(int64_t classes, int64_t inner)
cdef extern from "scratch.hpp" namespace "fastnn_cpu" nogil:
    void* working_memory "fastnn_cpu::scratch"(int64_t bytes)

cdef Runtime* runtime = <Runtime*> PyCapsule_GetPointer(api, kRuntimeCapsule)


cdef struct Call:
    ClassLoop over_classes
    ElementLoop over_elements
    ClassLoss classes
    ElementLoss elements
    int64_t grain
    double* partial
    int64_t room  # bytes of working memory that a thread needs
    bint failed


cdef void body(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef Call* call = <Call*> context
    cdef void* room = NULL
    if call.room > 0:
        room = working_memory(call.room)
        if room == NULL:
            call.failed = True
            return
    if call.over_classes != NULL:
        call.partial[begin // call.grain] = call.over_classes(call.classes, begin, end, room)
    else:
        call.partial[begin // call.grain] = call.over_elements(call.elements, begin, end, room)


cdef double add_up(const double* x, int64_t n) noexcept nogil:
    """The sum with the rounding errors of its steps (Neumaier's)."""
    cdef double high = 0.0, low = 0.0, total, difference
    cdef int64_t i
    for i in range(n):
        total = high + x[i]
        difference = total - high
        low += (high - (total - difference)) + (x[i] - difference)
        high = total
    return high + low if high - high == 0.0 else high


cdef object run(Call* call, int64_t n, int64_t elements):
    """The sum of all losses, of n columns or elements, in which there are `elements` numbers."""
    cdef int64_t chunks = (n + call.grain - 1) // call.grain, i
    cdef double total
    if n == 0:
        return 0.0
    call.failed = False
    call.partial = <double*> PyMem_Malloc(chunks * sizeof(double))
    if call.partial == NULL:
        raise MemoryError(f"no memory for {chunks} partial sums")
    with nogil:
        if elements < 65536:
            for i in range(chunks):
                body(call, i * call.grain, min((i + 1) * call.grain, n))
        else:
            runtime.pool.parallel_for(n, call.grain, body, call)
        total = 0.0 if call.failed else add_up(call.partial, chunks)
    PyMem_Free(call.partial)
    if call.failed:
        raise MemoryError(f"no memory to work in: {call.room} bytes a thread")
    return total


cdef void* data(array) noexcept:
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray> array)


cdef void over_classes(Call* call, cnp.ndarray scores, labels, int64_t ignored, double scale, gradient, losses) noexcept:
    cdef int64_t classes = scores.shape[1]
    call.classes.scores, call.classes.gradient = cnp.PyArray_DATA(scores), data(gradient)
    call.classes.labels = <const int64_t*> data(labels)
    call.classes.targets = call.classes.weight = NULL
    call.classes.losses = <double*> data(losses)
    call.classes.smoothing, call.classes.margin, call.classes.scale = 0.0, 0.0, scale
    call.classes.ignored, call.classes.classes, call.classes.inner = ignored, classes, scores.shape[2]
    call.room = half_room(classes, scores.shape[2]) if cnp.PyArray_ITEMSIZE(scores) == 2 else 0
    # whole tiles of columns, of about 2^14 elements
    call.grain = (16384 // classes // 128 + 1) * 128 if classes < 1024 else 16


def check_labels(cnp.ndarray labels, int64_t classes, ignored, weight) -> tuple:
    """(the flat index of the first label that is no class, or -1; how many labels count, each with its class's weight).

    None is ignored where `ignored` is None.
    """
    cdef const int64_t* label = <const int64_t*> cnp.PyArray_DATA(labels)
    cdef const double* each = <const double*> data(weight)
    cdef int64_t n = cnp.PyArray_SIZE(labels), i, bad = -1, count = 0
    cdef bint ignores = ignored is not None
    cdef int64_t other = ignored if ignores else 0
    cdef double total = 0.0
    with nogil:
        for i in range(n):
            if ignores and label[i] == other:
                continue
            if label[i] < 0 or label[i] >= classes:
                bad = i
                break
            count += 1
            if each != NULL:
                total += each[label[i]]
    return bad, total if weight is not None else <double> count


def cross_entropy(cnp.ndarray logits, labels, targets, weight, int64_t ignored, double smoothing, double scale, gradient,
                  losses) -> float:
    """The sum over the columns of logits (outer, classes, inner) of -sum of target * log_softmax.

    `labels` is int64 of shape (outer, inner), or None where `targets` (like logits) says it all; `weight` has one number
    for each class, in the dtype computed in, or is None. `gradient` (like logits) gets `scale` times the gradient of the
    sum, `losses` (float64, (outer, inner)) each column's loss, unless they are None.
    """
    cdef Call call
    call.over_classes = losses_table(runtime.active_isa()).cross_entropy[dtype_index(runtime, logits.descr.type_num)]
    over_classes(&call, logits, labels, ignored, scale, gradient, losses)
    call.classes.targets, call.classes.weight, call.classes.smoothing = data(targets), data(weight), smoothing
    return run(&call, logits.shape[0] * logits.shape[2], cnp.PyArray_SIZE(logits))


def hinge_loss(cnp.ndarray scores, cnp.ndarray labels, int64_t ignored, double margin, double scale, gradient,
               losses) -> float:
    """The sum over the columns of scores (outer, classes, inner) of sum of max(0, x - score of the label + margin)."""
    cdef Call call
    call.over_classes = losses_table(runtime.active_isa()).hinge[dtype_index(runtime, scores.descr.type_num)]
    over_classes(&call, scores, labels, ignored, scale, gradient, losses)
    call.classes.margin = margin
    return run(&call, scores.shape[0] * scores.shape[2], cnp.PyArray_SIZE(scores))


cdef object over_elements(Call* call, cnp.ndarray x, cnp.ndarray target, weight, positive_weight, double scale, gradient,
                          losses):
    call.over_classes = NULL
    call.elements.x, call.elements.target = cnp.PyArray_DATA(x), cnp.PyArray_DATA(target)
    call.elements.gradient, call.elements.losses = data(gradient), data(losses)
    call.elements.weight, call.elements.positive_weight = data(weight), data(positive_weight)
    call.elements.weight_step = weight is not None and weight.ndim > 0
    call.elements.positive_weight_step = positive_weight is not None and positive_weight.ndim > 0
    call.elements.scale = scale
    call.room = half_room(1, 1) if cnp.PyArray_ITEMSIZE(x) == 2 else 0
    call.grain = 16384
    return run(call, cnp.PyArray_SIZE(x), cnp.PyArray_SIZE(x))


def squared_error(cnp.ndarray x, cnp.ndarray target, double scale, gradient, losses) -> float:
    """The sum of (x - target)^2; `losses` is of the dtype computed in."""
    cdef Call call
    call.over_elements = losses_table(runtime.active_isa()).squared_error[dtype_index(runtime, x.descr.type_num)]
    return over_elements(&call, x, target, None, None, scale, gradient, losses)


def binary_cross_entropy(cnp.ndarray x, cnp.ndarray target, weight, positive_weight, double scale, gradient,
                         losses) -> float:
    """The sum of weight ((1 - t) softplus(x) + positive_weight t softplus(-x)).

    A weight is None for 1, one number (0-d) or an array like x, in the dtype computed in.
    """
    cdef Call call
    call.over_elements = losses_table(runtime.active_isa()).binary_cross_entropy[dtype_index(runtime, x.descr.type_num)]
    return over_elements(&call, x, target, weight, positive_weight, scale, gradient, losses)
