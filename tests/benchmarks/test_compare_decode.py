"""CPU time of decoding in two checkouts: both decode the same file, in turn."""

import subprocess
import sys
from pathlib import Path

from conftest import numbered_frames, write_video

ROOT = Path(__file__).parents[2]


def test_both_checkouts_decode_in_turn(benchmarks, tmp_path):
    script = benchmarks("compare_decode")
    write_video(tmp_path / "a.mp4", numbered_frames(20))
    readers = [script.Reader(ROOT), script.Reader(ROOT)]
    a, b = script.compare(readers, tmp_path / "a.mp4", 3)
    assert len(a) == len(b) == 3 and min(a + b) > 0
    for reader in readers:
        reader.end()
        assert reader.process.returncode == 0


def test_a_folder_that_is_no_checkout_ends_in_one_line():
    command = [sys.executable, "benchmarks/compare_decode.py", ".", "nowhere"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "nowhere: no src/videossp in it" in done.stderr.splitlines()[-1]
