"""Building blocks of the CPU kernels: compilation, memory access, and exp, softplus, sigmoid for SIMD loops.

pip offers no SVML, so exp is a polynomial here. Everything is plain arithmetic, which LLVM turns into AVX2,
AVX-512 or NEON instructions inside a loop over channels.
"""

from contextlib import suppress
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic as numba_intrinsic
from numba.np.arrayobj import populate_array
from torch import Tensor

from videossp.ops.kernel_cache import KernelCache

LOG2E = np.float32(1.4426950408889634)
# Without "nnan" and "ninf": a NaN in the input must reach the output.
FAST = {"reassoc", "contract", "nsz", "arcp"}
OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": FAST, "error_model": "numpy"}
LOWEST = np.float32(-126.0)  # 2**LOWEST is the smallest float32 with all its bits
ROUNDING_SHIFT = 1.5 * 2**23  # a float32 of this size has no fractional bits
LINE = 16  # float32 values in a cache line


def intrinsic(function: Any) -> Any:
    """Decorator of an operation written as LLVM instructions; hides its arguments from the type checker."""
    return numba_intrinsic(function)


def kernel(**options: Any) -> Any:
    """Decorator: compile with Numba at first use; cache the result on disk if a folder is writable."""

    def compiled(function: Any) -> Any:
        dispatcher = njit(**OPTIONS, **options)(function)
        with suppress(RuntimeError):  # "no locator available": neither package nor home is writable
            dispatcher._cache = KernelCache(function)  # as njit(cache=True) sets Numba's own
        return dispatcher

    return compiled


def kernel_array(x: Tensor) -> np.ndarray:
    """A view of x (batch, length, width) for a kernel: C order, float32, or bfloat16 as uint16 bits.

    A slice of a wider tensor's last dimension is not copied. Its rows then have the pitch of the wider
    tensor, (batch, length, pitch): a kernel must not touch the columns from `width` on.
    """
    x = x.detach()
    if x.is_contiguous():
        array: np.ndarray = (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
        return array
    batch, length, width = x.shape
    pitch = x.stride(1) if length > 1 else width
    if x.stride(2) != 1 or pitch < width or (batch > 1 and x.stride(0) != length * pitch):
        x, pitch = x.contiguous(), width
    array = (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
    step = array.itemsize
    strides = (length * pitch * step, pitch * step, step)
    return np.lib.stride_tricks.as_strided(array, (batch, length, pitch), strides)


@intrinsic
def use_widest_vectors(typingctx):
    """Call at the top of a kernel: use the widest vectors. By default LLVM uses half of Intel's AVX-512."""

    def codegen(context, builder, signature, args):
        # llvmlite's `add` accepts attributes without a value only.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def work_array(typingctx, shape):
    """A zeroed float32 array on the kernel's stack, for tens of kilobytes. Call it outside of any loop.

    It is aligned to a cache line, so no vector crosses two. LLVM knows that it overlaps nothing; it would
    check arrays on the heap against each other before every loop.
    """
    kind = types.Array(types.float32, len(shape), "C")

    def codegen(context, builder, signature, args):
        sides = cgutils.unpack_tuple(builder, args[0])
        strides = [ir.Constant(sides[0].type, 4)]  # bytes, from the last to the first
        for side in reversed(sides):
            strides.append(builder.mul(strides[-1], side))
        size = strides.pop()
        memory = builder.alloca(ir.IntType(8), size)
        memory.align = 4 * LINE
        cgutils.memset(builder, memory, size, 0)
        array = context.make_array(kind)(context, builder)
        populate_array(
            array,
            data=builder.bitcast(memory, ir.FloatType().as_pointer()),
            shape=sides,
            strides=strides[::-1],
            itemsize=context.get_constant(types.intp, 4),
            meminfo=None,
        )
        return array._getvalue()

    return kind(shape), codegen


@intrinsic
def larger(typingctx, x, y):
    """The larger of two float32, NaN if one is."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.FloatType(), 2 * [ir.FloatType()])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.maximum.f32"), args)

    return types.float32(types.float32, types.float32), codegen


@intrinsic
def widen(typingctx, x):
    """An element of a `kernel_array` as float32."""
    if x == types.float32:
        return types.float32(x), lambda context, builder, signature, args: args[0]

    def codegen(context, builder, signature, args):
        bits = builder.zext(args[0], ir.IntType(32))
        return builder.bitcast(builder.shl(bits, ir.Constant(bits.type, 16)), ir.FloatType())

    return types.float32(types.uint16), codegen


@intrinsic
def narrow(typingctx, like, x):
    """A float32 as an element of the array `like`; bfloat16 is rounded to nearest even."""
    if like.dtype == types.float32:
        return types.float32(like, types.float32), lambda context, builder, signature, args: args[1]

    def codegen(context, builder, signature, args):
        i32 = ir.IntType(32)
        bits = builder.bitcast(args[1], i32)
        lowest_bit = builder.and_(builder.lshr(bits, ir.Constant(i32, 16)), ir.Constant(i32, 1))
        rounded = builder.add(bits, builder.add(lowest_bit, ir.Constant(i32, 0x7FFF)))
        is_nan = builder.fcmp_unordered("uno", args[1], args[1])
        bits = builder.select(is_nan, bits, rounded)
        return builder.trunc(builder.lshr(bits, ir.Constant(i32, 16)), ir.IntType(16))

    return types.uint16(like, types.float32), codegen


@intrinsic
def _prefetch(typingctx, array, index):
    """Prefetch the cache line of array.flat[index]; a hint that never faults."""

    def codegen(context, builder, signature, args):
        i32, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        address = builder.gep(
            context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]]
        )
        read, keep, data = ir.Constant(i32, 0), ir.Constant(i32, 3), ir.Constant(i32, 1)
        builder.call(hint, [builder.bitcast(address, byte), read, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@kernel(inline="always")
def prefetch(array, batch, t, first, width):
    """Prefetch channels [first, first + width) of row t, to be read or written in a few steps.

    A block of channels is a few cache lines of each row, and every row is on another page. The hardware does
    not predict that pattern, and waiting for memory at every step costs more than the arithmetic.
    """
    start = (batch * array.shape[1] + t) * array.shape[2] + first
    for c in range(0, width, LINE):
        _prefetch(array, start + c)


@intrinsic
def _nearest(typingctx, x):
    """x rounded to the nearest integer."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.rint.f32"), args)

    return types.float32(types.float32), codegen


@intrinsic
def _shifted(typingctx, x, y):
    """ROUNDING_SHIFT + x y, rounded once: its low bits hold x y rounded to the nearest integer."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.FloatType(), 3 * [ir.FloatType()])
        fma = cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.f32")
        return builder.call(fma, [*args, ir.Constant(ir.FloatType(), ROUNDING_SHIFT)])

    return types.float32(types.float32, types.float32), codegen


@intrinsic
def _unshifted(typingctx, x):
    """x - ROUNDING_SHIFT. LLVM would cancel it against a plain sum, but not against a fused multiply-add."""

    def codegen(context, builder, signature, args):
        return builder.fsub(args[0], ir.Constant(ir.FloatType(), ROUNDING_SHIFT))

    return types.float32(types.float32), codegen


@intrinsic
def _times_power_of_shifted(typingctx, x, shifted):
    """x * 2**exponent for shifted = ROUNDING_SHIFT + exponent."""

    def codegen(context, builder, signature, args):
        i32 = ir.IntType(32)
        exponent = builder.shl(builder.bitcast(args[1], i32), ir.Constant(i32, 23))
        return builder.bitcast(builder.add(builder.bitcast(args[0], i32), exponent), ir.FloatType())

    return types.float32(types.float32, types.float32), codegen


@intrinsic
def _times_power_of_two(typingctx, x, exponent):
    """x * 2**exponent for an integer exponent, which is added to the exponent bits of x."""

    def codegen(context, builder, signature, args):
        i32 = ir.IntType(32)
        shifted = builder.shl(builder.fptosi(args[1], i32), ir.Constant(i32, 23))
        return builder.bitcast(builder.add(builder.bitcast(args[0], i32), shifted), ir.FloatType())

    return types.float32(types.float32, types.float32), codegen


@kernel(inline="always")
def exp2(x):
    """2**x for x <= 0, relative error 1e-7: exponent bits for the integer part, a polynomial for the rest."""
    x = LOWEST if x < LOWEST else x
    integer = _nearest(x)
    return _times_power_of_two(_exp2_of_fraction(x - integer), integer)


@kernel(inline="always")
def exp2_of_product(x, y):
    """2**(x y) for LOWEST < x y <= 0, with a quarter fewer instructions than `exp2`."""
    shifted = _shifted(x, y)
    return _times_power_of_shifted(_exp2_of_fraction(x * y - _unshifted(shifted)), shifted)


@kernel(inline="always")
def _exp2_of_fraction(r):
    """2**r for -0.5 <= r <= 0.5 by a minimax polynomial."""
    q = np.float32(1.333353844e-03)
    q = q * r + np.float32(9.666245633e-03)
    q = q * r + np.float32(5.550500215e-02)
    q = q * r + np.float32(2.402235134e-01)
    q = q * r + np.float32(6.931471435e-01)
    # 1 + r q is exact at r = 0, so a decay close to 1 stays accurate over thousands of steps.
    return np.float32(1.0) + r * q


@kernel(inline="always")
def _log1p(x):
    """log(1 + x) for 0 <= x <= 1, relative error 1e-7."""
    q = np.float32(5.232690697e-03)
    q = q * x + np.float32(-2.950522892e-02)
    q = q * x + np.float32(7.822594433e-02)
    q = q * x + np.float32(-1.366324604e-01)
    q = q * x + np.float32(1.910600743e-01)
    q = q * x + np.float32(-2.484298259e-01)
    q = q * x + np.float32(3.331909690e-01)
    q = q * x + np.float32(-4.999949315e-01)
    q = q * x + np.float32(9.999999699e-01)
    return x * q


@kernel(inline="always")
def softplus(x):
    """log(1 + exp(x)) without overflow."""
    small = _log1p(exp2(-abs(x) * LOG2E))
    return small + (np.float32(0.0) if x < np.float32(0.0) else x)


@kernel(inline="always")
def sigmoid(x):
    """1 / (1 + exp(-x)) without overflow."""
    e = exp2(-abs(x) * LOG2E)
    return (e if x < np.float32(0.0) else np.float32(1.0)) / (np.float32(1.0) + e)
