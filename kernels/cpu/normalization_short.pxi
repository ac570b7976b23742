# The short way of fastnn/functions: arguments that are what kernels take already are looked at in a microsecond. Where they
# are not, or where something is wrong with them, the answer is None, nothing has been changed, and the long way says what.

cdef struct Layout:
    int type, ndim, number  # number: the type of parameters and statistics
    const cnp.npy_intp* dims


cdef bint laid_out(object x, Layout* layout) noexcept:
    """x is plain, of a dtype that kernels know, and not empty."""
    if not ndarray_is_plain(<PyObject*> x) or dtype_of(x) < 0 or cnp.PyArray_SIZE(x) == 0:
        return False
    layout.type, layout.ndim, layout.dims = cnp.PyArray_TYPE(x), cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x)
    layout.number = cnp.NPY_DOUBLE if layout.type == cnp.NPY_DOUBLE else cnp.NPY_FLOAT
    return True


cdef inline bint fits(object array, int type, int ndim, const cnp.npy_intp* dims) noexcept:
    return ndarray_is(<PyObject*> array, type, ndim, dims)


cdef inline bint may_fit(object array, int type, int ndim, const cnp.npy_intp* dims) noexcept:
    return array is None or fits(array, type, ndim, dims)


cdef inline object ready(object array, int ndim, const cnp.npy_intp* dims, int type):
    return cnp.PyArray_EMPTY(ndim, <cnp.npy_intp*> dims, type, 0) if array is None else array


cdef inline bint same_memory(object out, object x) noexcept:
    return out is not None and data(out) == data(x)


cdef inline bint is_average(object array, Layout* layout) noexcept:
    """A running average that the loop above takes."""
    return fits(array, cnp.NPY_FLOAT, 1, layout.dims + 1) or fits(array, cnp.NPY_DOUBLE, 1, layout.dims + 1)


cdef bint is_variance(object array) noexcept:
    """float32 or float64, contiguous, and none of it negative; NaN is for the result to show."""
    cdef int64_t i
    if cnp.PyArray_TYPE(array) == cnp.NPY_DOUBLE:
        for i in range(cnp.PyArray_SIZE(array)):
            if (<double*> data(array))[i] < 0:
                return False
    else:
        for i in range(cnp.PyArray_SIZE(array)):
            if (<float*> data(array))[i] < 0:
                return False
    return True


cdef inline bint is_number(object value, double above, double most) noexcept:
    return type(value) is float and above < <double> value <= most


def _train(x, gamma, beta, running_mean, running_var, momentum, eps, activation, dropout, out, mean, inv_std):
    cdef Layout layout
    cdef PyObject* arrays[8]
    cdef double count
    if not laid_out(x, &layout) or layout.ndim < 2 or cnp.PyArray_SIZE(x) // layout.dims[1] < 2:
        return None
    if not (is_number(eps, 0, largest) and is_number(momentum, -least, 1)
            and fits(gamma, layout.number, 1, layout.dims + 1) and fits(beta, layout.number, 1, layout.dims + 1)
            and may_fit(mean, layout.number, 1, layout.dims + 1) and may_fit(inv_std, layout.number, 1, layout.dims + 1)
            and may_fit(out, layout.type, layout.ndim, layout.dims)):
        return None
    if running_mean is not None or running_var is not None:
        if not (is_average(running_mean, &layout) and is_average(running_var, &layout) and is_variance(running_var)):
            return None
    arrays[0], arrays[1], arrays[2] = <PyObject*> mean, <PyObject*> inv_std, <PyObject*> running_mean
    arrays[3], arrays[4], arrays[5], arrays[6] = <PyObject*> running_var, <PyObject*> out, <PyObject*> gamma, <PyObject*> beta
    arrays[7] = <PyObject*> (None if same_memory(out, x) else x)
    if not ndarray_apart(arrays, 5, 8):
        return None
    y = ready(out, layout.ndim, layout.dims, layout.type)
    mean, inv_std = ready(mean, 1, layout.dims + 1, layout.number), ready(inv_std, 1, layout.dims + 1, layout.number)
    variance = doubles(layout.dims[1])
    batch_norm_train(x, y, gamma, beta, mean, inv_std, variance, eps, activation, dropout)
    if running_mean is not None:
        count = cnp.PyArray_SIZE(x) // layout.dims[1]
        _update(running_mean, mean, 1, momentum)
        _update(running_var, variance, count / (count - 1), momentum)
    return y, mean, inv_std


def _infer(x, gamma, beta, running_mean, running_var, eps, activation, out):
    cdef Layout layout
    cdef PyObject* arrays[6]
    cdef cnp.ndarray variance
    cdef int64_t i
    if not laid_out(x, &layout) or layout.ndim < 2 or not is_number(eps, 0, largest):
        return None
    if not (fits(gamma, layout.number, 1, layout.dims + 1) and fits(beta, layout.number, 1, layout.dims + 1)
            and fits(running_mean, layout.number, 1, layout.dims + 1) and fits(running_var, layout.number, 1, layout.dims + 1)
            and may_fit(out, layout.type, layout.ndim, layout.dims) and is_variance(running_var)):
        return None
    arrays[0], arrays[1], arrays[2], arrays[3] = <PyObject*> out, <PyObject*> gamma, <PyObject*> beta, <PyObject*> running_mean
    arrays[4], arrays[5] = <PyObject*> running_var, <PyObject*> (None if same_memory(out, x) else x)
    if not ndarray_apart(arrays, 1, 6):
        return None
    y = ready(out, layout.ndim, layout.dims, layout.type)
    if layout.number == cnp.NPY_DOUBLE:
        variance = running_var
    else:
        variance = doubles(layout.dims[1])
        for i in range(layout.dims[1]):
            (<double*> data(variance))[i] = (<float*> data(running_var))[i]
    batch_norm_infer(x, y, gamma, beta, running_mean, variance, eps, activation)
    return y


def _backward(dy, x, gamma, beta, mean, inv_std, activation, dropout, out, dgamma, dbeta, accumulate):
    cdef Layout layout
    cdef PyObject* arrays[9]
    if not laid_out(x, &layout) or layout.ndim < 2 or not fits(dy, layout.type, layout.ndim, layout.dims):
        return None
    if not (fits(gamma, layout.number, 1, layout.dims + 1) and fits(mean, layout.number, 1, layout.dims + 1)
            and fits(inv_std, layout.number, 1, layout.dims + 1) and may_fit(beta, layout.number, 1, layout.dims + 1)
            and may_fit(dgamma, layout.number, 1, layout.dims + 1) and may_fit(dbeta, layout.number, 1, layout.dims + 1)
            and may_fit(out, layout.type, layout.ndim, layout.dims)):
        return None
    if type(accumulate) is not bool or accumulate and (dgamma is None or dbeta is None):
        return None
    if activation is not None or dropout is not None:
        if layout.type != layout.number or same_memory(out, x) or activation is not None and beta is None:
            return None
    arrays[0], arrays[1], arrays[2], arrays[3] = <PyObject*> dgamma, <PyObject*> dbeta, <PyObject*> out, <PyObject*> gamma
    arrays[4], arrays[5], arrays[6] = <PyObject*> beta, <PyObject*> mean, <PyObject*> inv_std
    arrays[7] = <PyObject*> (None if same_memory(out, x) else x)
    arrays[8] = <PyObject*> (None if same_memory(out, dy) else dy)
    if not ndarray_apart(arrays, 3, 9):
        return None
    dx = ready(out, layout.ndim, layout.dims, layout.type)
    dgamma, dbeta = ready(dgamma, 1, layout.dims + 1, layout.number), ready(dbeta, 1, layout.dims + 1, layout.number)
    batch_norm_backward(dy, x, dx, dx, gamma, gamma if beta is None else beta, mean, inv_std, dgamma, dbeta, accumulate,
                        activation, dropout)
    return dx, dgamma, dbeta


# What rows are, of x in some layout: their View, the shape of gamma, that of the statistics.
cdef struct Rows:
    View view
    int parameter_ndim, statistics_ndim
    const cnp.npy_intp* parameter_dims
    const cnp.npy_intp* statistics_dims
    cnp.npy_intp by_group[2]


_each = object()  # in place of a number of groups: every channel is one


cdef bint rows_of(Rows* rows, Layout* layout, object axis, object groups) except -1:
    """Rows along `axis` and all after it if groups is None."""
    cdef int first, k
    cdef int64_t count, positions = 1
    if groups is None:
        if type(axis) is not int or not -layout.ndim <= axis < layout.ndim:
            return False
        first = axis + layout.ndim if axis < 0 else axis
        rows.view = View(1, 1, 1, 1)
        for k in range(layout.ndim):
            if k < first:
                rows.view.samples *= layout.dims[k]
            else:
                rows.view.channels *= layout.dims[k]
        rows.parameter_ndim, rows.parameter_dims = layout.ndim - first, layout.dims + first
        rows.statistics_ndim, rows.statistics_dims = first, layout.dims
        return True
    if layout.ndim < 2:
        return False
    for k in range(2, layout.ndim):
        positions *= layout.dims[k]
    if groups is _each:
        if positions < 2:
            return False
        count = layout.dims[1]
    elif type(groups) is not int or not 1 <= groups <= layout.dims[1] or layout.dims[1] % <int64_t> groups != 0:
        return False
    else:
        count = groups
    rows.view = View(layout.dims[0], count, layout.dims[1] // count, positions)
    rows.parameter_ndim, rows.parameter_dims = 1, layout.dims + 1
    rows.by_group[0], rows.by_group[1] = layout.dims[0], count
    rows.statistics_ndim, rows.statistics_dims = 2, rows.by_group
    return True


def _rows(x, axis, groups, gamma, beta, eps, bint centred, out, mean, inv_std):
    cdef Layout layout
    cdef Rows rows
    cdef PyObject* arrays[6]
    if not laid_out(x, &layout) or not rows_of(&rows, &layout, axis, groups) or not is_number(eps, 0, largest):
        return None
    if not (fits(gamma, layout.number, rows.parameter_ndim, rows.parameter_dims)
            and may_fit(beta, layout.number, rows.parameter_ndim, rows.parameter_dims)
            and may_fit(mean, layout.number, rows.statistics_ndim, rows.statistics_dims)
            and may_fit(inv_std, layout.number, rows.statistics_ndim, rows.statistics_dims)
            and may_fit(out, layout.type, layout.ndim, layout.dims)):
        return None
    arrays[0], arrays[1], arrays[2], arrays[3] = <PyObject*> mean, <PyObject*> inv_std, <PyObject*> out, <PyObject*> gamma
    arrays[4], arrays[5] = <PyObject*> beta, <PyObject*> (None if same_memory(out, x) else x)
    if not ndarray_apart(arrays, 3, 6):
        return None
    y = ready(out, layout.ndim, layout.dims, layout.type)
    if centred:
        mean = ready(mean, rows.statistics_ndim, rows.statistics_dims, layout.number)
    inv_std = ready(inv_std, rows.statistics_ndim, rows.statistics_dims, layout.number)
    if beta is None:
        beta = cnp.PyArray_ZEROS(rows.parameter_ndim, <cnp.npy_intp*> rows.parameter_dims, layout.number, 0)
    forward_rows(rows.view, x, y, gamma, beta, mean, inv_std, eps)
    return (y, mean, inv_std) if centred else (y, inv_std)


def _rows_backward(dy, x, axis, groups, gamma, mean, inv_std, bint centred, out, dgamma, dbeta, accumulate):
    cdef Layout layout
    cdef Rows rows
    cdef PyObject* arrays[8]
    if not laid_out(x, &layout) or not rows_of(&rows, &layout, axis, groups) or type(accumulate) is not bool:
        return None
    if accumulate and (dgamma is None or centred and dbeta is None):
        return None
    if not (fits(dy, layout.type, layout.ndim, layout.dims)
            and fits(gamma, layout.number, rows.parameter_ndim, rows.parameter_dims)
            and may_fit(dgamma, layout.number, rows.parameter_ndim, rows.parameter_dims)
            and may_fit(dbeta, layout.number, rows.parameter_ndim, rows.parameter_dims)
            and (mean is None) != centred
            and may_fit(mean, layout.number, rows.statistics_ndim, rows.statistics_dims)
            and fits(inv_std, layout.number, rows.statistics_ndim, rows.statistics_dims)
            and may_fit(out, layout.type, layout.ndim, layout.dims)):
        return None
    arrays[0], arrays[1], arrays[2], arrays[3] = <PyObject*> dgamma, <PyObject*> dbeta, <PyObject*> out, <PyObject*> gamma
    arrays[4], arrays[5] = <PyObject*> mean, <PyObject*> inv_std
    arrays[6] = <PyObject*> (None if same_memory(out, x) else x)
    arrays[7] = <PyObject*> (None if same_memory(out, dy) else dy)
    if not ndarray_apart(arrays, 3, 8):
        return None
    dx = ready(out, layout.ndim, layout.dims, layout.type)
    dgamma = ready(dgamma, rows.parameter_ndim, rows.parameter_dims, layout.number)
    if centred:
        dbeta = ready(dbeta, rows.parameter_ndim, rows.parameter_dims, layout.number)
    backward_rows(rows.view, dy, x, dx, gamma, mean, inv_std, dgamma, dbeta, accumulate)
    return (dx, dgamma, dbeta) if centred else (dx, dgamma)
