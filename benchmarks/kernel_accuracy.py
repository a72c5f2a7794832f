"""The largest errors of the Triton kernels against plain torch in float64, as a table.

    python benchmarks/kernel_accuracy.py [--device cpu] [--quick]

On a CPU, Triton's interpreter computes the kernels, without a GPU and slowly: a few minutes. An error is the
largest deviation, divided by the largest value of the exact output or gradient.
"""

import argparse
import itertools
import os
import sys

if "cuda" not in " ".join(sys.argv):
    os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported

import torch
import torch.nn.functional as F

from videossp.ops import conv_triton, gate_triton, norm_triton, scan_triton
from videossp.ops.reference import conv_reference, scan_reference

NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias", "h0")
LENGTHS, WIDTHS, STATES = (1, 3, 63, 130), (4, 48), (1, 8, 16, 22)


def draw(device, *shape):
    return torch.randn(shape).to(device)


def error(actual, exact):
    return float(((actual.double() - exact).abs().max() / exact.abs().max().clamp_min(1e-3)).detach())


def scan_errors(device, length, d_inner, d_state, reverse, dt=None):
    """Errors of y and of every gradient; steps are about dt, or random."""
    shapes = (2 * [(1, length, d_inner)]) + [(d_inner, d_state)] + 2 * [(1, length, d_state)]
    shapes += 2 * [(d_inner,)] + [(1, d_inner, d_state)]
    t = dict(zip(NAMES, [draw(device, *shape) for shape in shapes], strict=True))
    t["A"] = -t["A"].abs() - 0.1
    if dt is not None:
        t["delta"], t["delta_bias"] = 0.1 * t["delta"] + dt, 0 * t["delta_bias"]
    exact = {name: x.double().requires_grad_() for name, x in t.items()}
    y = scan_reference(**exact, reverse=reverse)
    dy = draw(device, *y.shape)
    grads = torch.autograd.grad(y, list(exact.values()), dy.double())
    inputs = list(t.values())[:7]
    cut = None if length < 64 else (-(-length // 64), 64)
    ours, states = scan_triton.scan_forward(*inputs, t["h0"], reverse=reverse, keep_states=True, cut=cut)
    found = scan_triton.scan_backward(dy, *inputs, states, reverse=reverse, wanted=8 * (True,), cut=cut)
    pairs = zip(("y", *NAMES), (ours, *found), (y, *grads), strict=True)
    return {name: error(a, b) for name, a, b in pairs}


def conv_errors(device, length, width):
    x, du, du_b = (draw(device, 1, length, width) for _ in range(3))
    parameters = [draw(device, *shape) for shape in ((width, 1, 4), (width,), (width, 1, 4), (width,))]
    exact = [t.double().requires_grad_() for t in (x, *parameters)]
    u, u_b = conv_reference(*exact[:3]), conv_reference(exact[0], *exact[3:], reverse=True)
    grads = torch.autograd.grad([u, u_b], exact, [du.double(), du_b.double()])
    ours = conv_triton.conv_forward(x, *parameters)
    dx, dweight, dbias = conv_triton.conv_backward(du, du_b, x, *parameters, (True, True, True))
    pairs = [
        (ours[0], u),
        (ours[1], u_b),
        (dx, grads[0]),
        (dweight[0].mT[:, None], grads[1]),
        (dbias[1], grads[4]),
    ]
    return {"convolution": max(error(a, b) for a, b in pairs)}


def gate_errors(device, length, width):
    y, y_b, z, dout = (draw(device, 1, length, width) for _ in range(4))
    exact = [t.double().requires_grad_() for t in (y, y_b, z)]
    out = (exact[0] + exact[1]) * F.silu(exact[2])
    grads = torch.autograd.grad(out, exact, dout.double())
    ours, total = gate_triton.gate_forward(y, y_b, z, keep_total=True)
    dy, dz = gate_triton.gate_backward(dout, total, z, (True, True))
    return {"gate": max(error(ours, out), error(dy, grads[0]), error(dz, grads[2]))}


def norm_errors(device, length, width):
    residual, hidden, dtotal, dx = (draw(device, 1, length, width) for _ in range(4))
    weight = draw(device, width)
    exact = [t.double().requires_grad_() for t in (residual, weight)]
    total = exact[0] + hidden.double()
    x = F.rms_norm(total, (width,), exact[1], 1e-5)
    grads = torch.autograd.grad([total, x], exact, [dtotal.double(), dx.double()])
    sums, ours, scale = norm_triton.norm_forward(residual, hidden, weight, 1e-5)
    found = norm_triton.norm_backward(dtotal, dx, sums, scale, weight, for_weight=True)
    return {"norm": max(error(a, b) for a, b in zip((ours, *found), (x, *grads), strict=True))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="few cases")
    options = parser.parse_args()
    torch.manual_seed(0)
    device, worst = torch.device(options.device), {}
    lengths = LENGTHS[:2] if options.quick else LENGTHS
    cases = list(itertools.product(lengths, WIDTHS, STATES, (False, True)))
    rows = [("scan", scan_errors(device, *case)) for case in cases]
    slow = [] if options.quick else [scan_errors(device, 1024, 4, 4, False, dt=-7.0)]
    for function in (conv_errors, gate_errors, norm_errors):
        rows += [("around", function(device, length, width)) for length in lengths for width in (3, 130)]
    for _, errors in rows:
        for name, value in errors.items():
            worst[name] = max(value, worst.get(name, 0.0))
    print(f"{len(cases)} scans on {device.type}, float32, largest relative errors")
    print(" | ".join(f"{name} {value:.1e}" for name, value in worst.items()))
    for errors in slow:
        print("1,024 steps at dt about 1e-3: " + " | ".join(f"{n} {v:.1e}" for n, v in errors.items()))


if __name__ == "__main__":
    main()
