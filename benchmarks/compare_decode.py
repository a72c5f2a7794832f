"""CPU time of decoding in two checkouts of this repository, interleaved call by call: A B B A A B ...

    python benchmarks/compare_decode.py A B [--pairs 100]

A and B are folders that contain src/videossp; both run with this Python and its packages, each in a process
of its own that stays. A call reads 8 uniform frames of one of the H.264 videos of decode.py (300 frames;
340 x 256 and 1280 x 720 pixels; a key frame every 250 or 30 frames), from opening the file on. The ratio of a
pair is the CPU time of B over that of A. The script prints the geometric mean of the ratios and its 95 %
interval.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = ((256, 340), (720, 1280))
GAPS = (250, 30)  # frames from key frame to key frame


def serve():
    """Read each file that a line of stdin names, and print the CPU seconds that it took."""
    from time import process_time

    from videossp.data.video import read_frames

    for line in sys.stdin:
        path = line.strip()
        os.utime(path)  # a new modification time makes the cached index invalid
        start = process_time()
        read_frames(path, lambda count: [int((i + 0.5) * count / 8) for i in range(8)])
        print(process_time() - start, flush=True)


class Reader:
    """A process that decodes with the source of a checkout."""

    def __init__(self, root):
        source = str((root / "src").resolve())
        environment = os.environ | {"PYTHONPATH": source}
        command = [sys.executable, __file__, "--serve"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)

    def seconds(self, path):
        """CPU seconds of reading a file."""
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("a process ended; its message is above")
        return float(answer)

    def end(self):
        """End the process."""
        self.process.communicate()


def compare(readers, path, pairs):
    """CPU seconds of both readers, of `pairs` calls each; who is first alternates."""
    for reader in readers:
        reader.seconds(path)  # to warm up
    seconds = ([], [])
    for pair in range(pairs):
        for side in (0, 1) if pair % 2 else (1, 0):
            seconds[side].append(readers[side].seconds(path))
    return seconds


def main():
    if sys.argv[1:] == ["--serve"]:
        serve()
        return
    from compare_checkouts import add_checkouts, ratio  # the scripts beside this one
    from decode import encode

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_checkouts(parser)
    parser.add_argument("--pairs", type=int, default=100, help="per video; default: 100")
    args = parser.parse_args()
    if args.pairs < 2:
        parser.error("--pairs must be at least 2")
    readers = [Reader(root) for root in (args.a, args.b)]
    with tempfile.TemporaryDirectory() as folder:
        for height, width in SIZES:
            for gap in GAPS:
                path = Path(folder, f"{width}_{gap}.mp4")
                encode(path, height, width, gap)
                a, b = compare(readers, path, args.pairs)
                mean, low, high = ratio(a, b)
                print(
                    f"{width} x {height}, a key frame every {gap}: {1e3 * statistics.median(a):.1f} ms, "
                    f"B / A {mean:.3f} ({low:.3f} to {high:.3f})",
                    flush=True,
                )
    for reader in readers:
        reader.end()


if __name__ == "__main__":
    main()
