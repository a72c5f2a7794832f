"""Hidden attention, chained over blocks: equal to the matrices written out."""

import pytest
import torch
import torch.nn.functional as F

from videossp.explanation.hidden_attention import hidden_attention
from videossp.ops.reference import scan_reference
from videossp.ops.scan import Scan


def scan_of(seed, *, reverse=False, batch=2, length=7, width=8, states=3):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    sequence = (batch, length, width)
    steps = draw(batch, length, states), draw(batch, length, states)
    rest = {"D": draw(width), "delta_bias": draw(width), "h0": draw(batch, width, states)}
    return Scan(draw(*sequence), draw(*sequence), -draw(width, states).exp(), *steps, **rest, reverse=reverse)


def matrix_of(scan):
    """a_ij of the definition in `hidden_attention`, rows divided by their sums: (batch, length, length)."""
    delta = F.softplus(scan.delta + scan.delta_bias).double()
    batch, length, width = delta.shape
    a = torch.zeros(batch, length, length, dtype=torch.float64)
    for i in range(length):
        for j in range(length):
            between = range(i, j) if scan.reverse else range(j + 1, i + 1)
            if (j < i if scan.reverse else j > i) and i != j:
                continue
            total = sum((delta[:, k] for k in between), torch.zeros(batch, width, dtype=torch.float64))
            terms = (scan.A * total[..., None]).exp() * (scan.C[:, i].abs() * scan.B[:, j].abs())[:, None]
            a[:, i, j] = (terms.sum(-1) * delta[:, j]).mean(-1)
    return a / a.sum(-1, keepdim=True)


@pytest.mark.parametrize("blocks", [1, 3])
def test_the_chain_is_the_product_of_the_matrices(blocks):
    scans = [{"scan": scan_of(2 * i), "scan_b": scan_of(2 * i + 1, reverse=True)} for i in range(blocks)]
    start, kept = torch.rand(2, 7), torch.ones(blocks, 7)
    found = hidden_attention(scans, kept, start)
    torch.testing.assert_close(found.double(), chained(scans, kept, start), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.sum(1), start.sum(1), rtol=1e-4, atol=1e-6)
    kept[-1, 2] = kept[0, 5] = 0  # replaced before the last block, and before the first
    found = hidden_attention(scans, kept, start)
    torch.testing.assert_close(found.double(), chained(scans, kept, start), rtol=1e-4, atol=1e-6)
    assert (found[:, 5] == 0).all() and (found.sum(1) < start.sum(1)).all()


def chained(scans, kept, start):
    """The product of the matrices of the blocks, written out."""
    weights = start.double()
    for block, mask in zip(reversed(scans), reversed(kept), strict=True):
        read = sum(torch.einsum("bi,bij->bj", weights, matrix_of(x)) for x in block.values()) / 2
        weights = mask * (weights + read) / 2
    return weights


def test_the_matrix_is_that_of_the_scan():
    """Where B and C are positive, D and h0 zero, a_ij u_j adds up to the output of the reference loop."""
    scan = scan_of(0, width=1, reverse=True)

    def output(u):
        parts = u, scan.delta, scan.A, scan.B.abs(), scan.C.abs()
        return scan_reference(*parts, delta_bias=scan.delta_bias, reverse=True)[..., 0].double()

    by_rows = torch.einsum("bij,bj->bi", matrix_of(scan), scan.u[..., 0].double())
    expected = output(scan.u) / output(torch.ones_like(scan.u))
    torch.testing.assert_close(by_rows, expected, rtol=1e-4, atol=1e-5)
