"""Numerical operations: plain torch definitions (`reference.py`) and fast CPU kernels that equal them."""
