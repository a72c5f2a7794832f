"""Generate a set of small labelled videos.

    python benchmarks/minibench SET --out FOLDER [--data PATH] [--seed 0] [--processes 2]
                                [--train N] [--val N] [--test N]

SET is one of:
- tabletop, source, people, fresh_tabletop;
- motion, recipes, fresh_motion, fresh_recipes: PATH is a clone of the Bandai-Namco Research Motion Dataset
  (see capture.py);
- sprites, fresh_sprites: PATH is Debian's package flare-game (apt-get download flare-game), or the folder
  with its content.

N is the number of clips per class. The script needs the extra `bench` and libosmesa6 (apt), or MUJOCO_GL=egl
and libegl1. It may be interrupted at any time: the same command resumes, and a larger N adds clips. It also
writes train.csv, val.csv, test.csv, a README and a contact sheet (sheet.png); then it runs `videossp doctor`.
"""

import argparse
import importlib
import signal
import sys
from pathlib import Path

from clipset import make_set
from note import write_note
from sheet import draw_sheet

from videossp.cli.main import main as videossp

SETS = (
    *(f"fresh_{x}" for x in ("motion", "recipes", "sprites", "tabletop")),
    *("motion", "people", "recipes", "source", "sprites", "tabletop"),
)


def main() -> int:
    """Exit code: that of the doctor; 2 if the folder or the data does not fit, 130 if stopped."""
    parser = argparse.ArgumentParser(prog="minibench", description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--out", type=Path, required=True, help="folder of the set")
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="source data of motion, recipes and sprites"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    for split in ("train", "val", "test"):
        parser.add_argument(f"--{split}", type=int, metavar="N", help="clips per class (default: set by SET)")
    args = parser.parse_args()
    module = importlib.import_module(args.set)
    counts = {x: getattr(args, x) for x in ("train", "val", "test")}
    sizes = module.SPLITS | {split: count for split, count in counts.items() if count is not None}
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # otherwise the worker processes would outlive it
    try:
        clips = make_set(args.set, args.out, args.seed, sizes, args.processes, args.data)
    except KeyboardInterrupt:
        print("stopped; run the same command to resume", file=sys.stderr)
        return 130
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    shown = [(x.label, args.out / x.path) for x in clips if x.split == clips[0].split and x.number == 0]
    draw_sheet(args.out / "sheet.png", shown, f"{args.set}: a {clips[0].split} clip of each class")
    write_note(args.out, args.set, module.ABOUT, ("python", "benchmarks/minibench", *sys.argv[1:]))
    return videossp(["doctor", str(args.out)])


if __name__ == "__main__":
    sys.exit(main())
