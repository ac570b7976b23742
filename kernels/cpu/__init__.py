"""The native backend: C++ loops compiled once per instruction set, under Cython."""
