"""Numerical operations: plain torch definitions (`reference.py`), and fast kernels that equal them."""
