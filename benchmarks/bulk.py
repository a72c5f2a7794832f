"""Clips a second of `videossp predict --out`, and the overhead of shards and of Ray, as tables.

    python benchmarks/bulk.py [--clips 480] [--adapter FOLDER] [--keep FOLDER] [--no-ray]

The clips last 2 s, 60 frames of 112 px in H.264. Without --adapter, an untrained SSP on videomamba_nano
predicts. Each row is one run of the command. "clips/s" counts from the first part to the last, so that the
start of the processes does not count; "with start" is the whole command. "CPU" is the time of all its
processes, which depends less on other load of the machine. Overhead: shards of 1,000 names whose rows cost
nothing.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from videossp import Classifier, prepare_process
from videossp.bulk.parts import open_parts
from videossp.bulk.ray_cluster import Job, run_on_ray
from videossp.bulk.run_shards import run_shards
from videossp.bulk.video_list import read_list

COLUMNS = {"path": str, "error": str, "class_1": str, "probability_1": float}
CLIP = {"fps": 30, "frames": 60, "size": 112}


def make_clips(folder, count):
    """Write clips of a square that moves over coloured tiles."""
    import av
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    size, tile = CLIP["size"], CLIP["size"] // 8
    for number in range(count):
        path = folder / f"{number:06d}.mp4"
        if path.exists():
            continue
        draw = np.random.default_rng(number)
        ground = draw.integers(0, 255, (8, 8, 3)).astype(np.uint8).repeat(tile, 0).repeat(tile, 1)
        with av.open(str(path), "w") as file:
            stream = file.add_stream("libx264", rate=CLIP["fps"])
            stream.width = stream.height = size
            stream.pix_fmt = "yuv420p"
            for i in range(CLIP["frames"]):
                pixels, x = ground.copy(), (2 * i + number) % (size - 22)
                pixels[30:60, x : x + 20] = draw.integers(0, 255, 3)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            file.mux(stream.encode(None))


def rows(names):
    """A row for each name, at no cost."""
    for name in names:
        yield [{"path": name, "error": None, "top": [{"class": "a", "probability": 0.5}] * 5}]


def start(device, workers):
    """The same for actors of Ray."""
    return rows


def overhead(folder, count, ray):
    """Print the milliseconds that a clip costs besides its decoding and computing."""
    file = folder / "names.txt"
    file.write_text("".join(f"s3://bucket/some/folder/{i}.mp4\n" for i in range(count)))
    began = time.perf_counter()
    videos = read_list(file, 1000)
    scanned = time.perf_counter() - began
    print(f"\noverhead, {count} names in shards of 1000")
    print(f"  scan of the list   {1e3 * scanned / count:.4f} ms a clip")
    for form in ("jsonl", "parquet"):
        parts = open_parts(folder / form, form, COLUMNS, {})
        began = time.perf_counter()
        for _ in run_shards(range(videos.shards), videos.shard, parts, rows):
            pass
        print(f"  shards, {form:10} {1e3 * (time.perf_counter() - began) / count:.4f} ms a clip")
    if ray:
        parts = open_parts(folder / "ray", "jsonl", COLUMNS, {})
        began = time.perf_counter()
        stamps = [
            time.perf_counter()
            for _ in run_on_ray("local", range(videos.shards), videos.shard, parts, Job(start))
        ]
        per_clip = (stamps[-1] - stamps[0]) / (count - 1000)
        print(
            f"  Ray                {1e3 * per_clip:.4f} ms a clip, after {stamps[0] - began:.1f} s of start"
        )


def processor_time(session, seen):
    """Add the CPU seconds of the processes of a session to `seen`, by process (Linux)."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            seen[entry.parent.name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(title, folder, count, *flags, processes=1, threads=None):
    """Run the command in one process or several, and print its rates."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "videossp",
        "predict",
        "adapter",
        "--list",
        "list.txt",
        "--out",
        out.name,
    ]
    settings = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    began, seen = time.time(), {}
    running = [
        subprocess.Popen(
            [*command, *flags],
            cwd=folder,
            env=settings,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(processes)
    ]
    while any(x.poll() is None for x in running):
        for process in running:
            processor_time(process.pid, seen)
        time.sleep(0.1)
    whole = time.time() - began
    if any(x.returncode for x in running):
        raise SystemExit(f"{title}: ended with {[x.returncode for x in running]}")
    times = sorted(x.stat().st_mtime for x in out.glob("part-*"))
    rate = count * (len(times) - 1) / len(times) / (times[-1] - times[0])
    spent = 1e3 * sum(seen.values()) / count
    line = f"{title:44} {rate:7.1f} {count / whole:11.1f} {spent:7.1f} {rate * 86400 / 1e6:14.2f}"
    print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=480, help="a multiple of 40")
    parser.add_argument("--adapter", help="default: an untrained SSP on videomamba_nano")
    parser.add_argument("--keep", help="folder for the clips, which a later run uses again")
    parser.add_argument("--names", type=int, default=50_000, help="of the measurement of overhead")
    parser.add_argument("--no-ray", action="store_true", help="leave Ray out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        overhead(folder, args.names, not args.no_ray)
        clips = Path(args.keep or folder / "clips").absolute()
        make_clips(clips, args.clips)
        (folder / "list.txt").write_text("".join(f"{clips}/{i:06d}.mp4\n" for i in range(args.clips)))
        if args.adapter:
            (folder / "adapter").symlink_to(Path(args.adapter).absolute())
        else:
            Classifier.create("videomamba_nano", classes=[*"abcdef"], method="ssp").save(folder / "adapter")
        sharded = ("--shard-size", "40")
        print(f"\n{'run':44} clips/s  with start  CPU ms  million a day")
        for workers in (0, 1, 2):
            run(f"1 process, --workers {workers}", folder, args.clips, *sharded, "--workers", str(workers))
        run("1 process of 1 thread, --workers 1", folder, args.clips, *sharded, "--workers", "1", threads=1)
        run(
            "2 processes of 1 thread, --workers 0",
            folder,
            args.clips,
            *sharded,
            "--workers",
            "0",
            processes=2,
            threads=1,
        )
        run(
            "1 process, --workers 1, bf16",
            folder,
            args.clips,
            *sharded,
            "--workers",
            "1",
            "--precision",
            "bf16",
        )
        if not args.no_ray:
            run("--ray local, decoding in the actors", folder, args.clips, *sharded, "--ray", "local")
            run("--ray local, --workers 1", folder, args.clips, *sharded, "--ray", "local", "--workers", "1")


if __name__ == "__main__":
    prepare_process()
    main()
