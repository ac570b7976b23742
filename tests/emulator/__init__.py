"""CUDA and CuPy without a GPU: what the tests of kernels/cuda run on."""
