"""Time the selective scan against other implementations, forward and with input gradients.

    python benchmarks/scan.py [--rounds 7]

The shape is that of VideoMamba-M on 8 frames of 224 px with SSP's prompts: (1, 1593, 1152, 16). The peer is
the parallel scan of mambapy (extra `bench`), a common one in plain torch. Then the scan of videossp runs on
clips of 8 to 64 frames.
"""

import argparse

from videossp import prepare_process

prepare_process()  # before torch is loaded

import torch  # noqa: E402

from videossp.bench import clock, format_seconds, forward_and_backward, scan_arguments, scans  # noqa: E402

LENGTH, D_INNER, D_STATE = 1593, 1152, 16


def mambapy_scan(t):
    """mambapy's pscan, with the operations around it of mambapy's Mamba block."""
    from mambapy.pscan import pscan

    dt = torch.nn.functional.softplus(t["delta"])
    decay = torch.exp(dt[..., None] * t["A"])
    drive = (dt * t["u"])[..., None] * t["B"][:, :, None]
    return (pscan(decay, drive) @ t["C"][..., None]).squeeze(3) + t["D"] * t["u"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    tensors = scan_arguments(LENGTH, D_INNER, D_STATE)
    runs = scans()
    try:
        import mambapy  # noqa: F401

        runs["mambapy pscan"] = mambapy_scan
    except ImportError:
        print("mambapy is not installed (pip install 'videossp[bench]'): skipped")
    expected = runs["plain torch, loop over time"]({name: x.double() for name, x in tensors.items()})
    print(f"scan of (batch, length, d_inner, d_state) = (1, {LENGTH}, {D_INNER}, {D_STATE}), float32,")
    print(f"{torch.get_num_threads()} threads; error: largest difference to a float64 loop / largest output")
    cells = LENGTH * D_INNER * D_STATE
    for title, prepare in (
        ("forward", lambda run: lambda: run(tensors)),
        ("forward and input gradients", lambda run: forward_and_backward(run, tensors)),
    ):
        works = {name: prepare(run) for name, run in runs.items()}
        if title == "forward":
            works = {name: torch.no_grad()(work) for name, work in works.items()}
        times = clock(works, args.rounds)
        base = times["videossp"]
        print(f"\n{title}")
        for name, took in times.items():
            error = ((runs[name](tensors) - expected).abs().max() / expected.abs().max()).item()
            print(f"  {name:28}{took}  {took.median / base.median:6.1f} x   error {error:.0e}")
        print(f"  videossp, per (token, channel, state): {1e9 * base.median / cells:.3f} ns")
    print("\nlonger clips, videossp forward")
    for frames in (8, 16, 32, 64):
        length = 1 + 196 * frames
        tensors = scan_arguments(length, D_INNER, D_STATE)
        took = torch.no_grad()(lambda t=tensors: clock({"": lambda: scans()["videossp"](t)}, args.rounds))()[
            ""
        ]
        per_cell = 1e9 * took.median / (length * D_INNER * D_STATE)
        print(
            f"  {frames:3} frames {length:6} tokens {format_seconds(took.median):>9}"
            f"   {per_cell:.3f} ns a cell"
        )


if __name__ == "__main__":
    main()
