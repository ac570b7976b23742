// Batch norm with an activation and dropout behind it, one instance for every activation.
#include "batch_norm.cuh"
