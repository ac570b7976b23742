"""Every hot loop of fastnn: cpu (C++ under Cython), jit (Numba), cuda (CuPy), and the plain NumPy reference."""
