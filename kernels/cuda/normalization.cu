// The kernels of the family `normalization`.
#include "batch_norm.cuh"
#include "row_norm.cuh"
