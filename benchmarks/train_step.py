"""Time one SSP training step of a frozen VideoMamba-M on one clip, and the peak memory of its process.

    python benchmarks/train_step.py [--rounds 5]

The same run also times the matrix products of the forward pass and its input gradients alone. Then everything
runs again with `grad_checkpoint`, which should cost one more forward pass. Each of the two has its own
process.
"""

import argparse
import subprocess
import sys

from videossp import prepare_process

prepare_process()  # before torch is loaded

from videossp.bench import report_step  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backbone", default="videomamba_middle")
    parser.add_argument("--only", choices=["plain", "checkpoint"], help="run one of the two, in this process")
    args = parser.parse_args()
    if args.only:
        print(report_step(args.backbone, args.rounds, grad_checkpoint=args.only == "checkpoint"))
        return
    for only in ("plain", "checkpoint"):
        command = [sys.executable, __file__, "--rounds", str(args.rounds), "--backbone", args.backbone]
        subprocess.run([*command, "--only", only], check=True)


if __name__ == "__main__":
    main()
