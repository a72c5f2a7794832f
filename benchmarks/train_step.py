"""Time one SSP training step of a frozen VideoMamba-M on one clip, and the memory of its process.

    python benchmarks/train_step.py [--rounds 5]

Beside it, in the same run, the matrix products of the forward pass and of its input gradients alone; then the
same with `grad_checkpoint`, whose promise is one forward pass more. Each of the two in a process of its own.
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
    parser.add_argument("--only", choices=["plain", "checkpoint"], help="one of the two, in this process")
    args = parser.parse_args()
    if args.only:
        print(report_step(args.backbone, args.rounds, grad_checkpoint=args.only == "checkpoint"))
        return
    for only in ("plain", "checkpoint"):
        command = [sys.executable, __file__, "--rounds", str(args.rounds), "--backbone", args.backbone]
        subprocess.run([*command, "--only", only], check=True)


if __name__ == "__main__":
    main()
