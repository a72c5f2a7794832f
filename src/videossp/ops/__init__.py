"""Numerical operations: plain torch definitions (`reference.py`) and fast kernels for CPU and GPU that equal them."""
