"""softplus and sigmoid for the Triton kernels, without overflow and with float32 accuracy."""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def softplus(v):
    """log(1 + exp(v)).

    log(1 + w), w = exp(-|v|) <= 1, is a polynomial, as on a CPU: log2(1 + w) loses the digits of a small w.
    """
    w = tl.exp2(-tl.abs(v) * LOG2E)
    q = w * 5.232690697e-03 - 2.950522892e-02
    q = q * w + 7.822594433e-02
    q = q * w - 1.366324604e-01
    q = q * w + 1.910600743e-01
    q = q * w - 2.484298259e-01
    q = q * w + 3.331909690e-01
    q = q * w - 4.999949315e-01
    q = q * w + 9.999999699e-01
    return q * w + tl.maximum(v, 0.0)


@triton.jit
def sigmoid(v):
    """1 / (1 + exp(-v))."""
    w = tl.exp2(-tl.abs(v) * LOG2E)
    return tl.where(v < 0, w, 1.0) / (1.0 + w)


@triton.jit
def nothing_kernel(x):
    """Does nothing: its launch shows whether Triton works."""
