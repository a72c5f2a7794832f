"""Interrupt a long training at random moments: it must end like an uninterrupted one.

    python benchmarks/soak.py [--steps 1000] [--faults 25] [--seed 0]

Two trainings by the command line on the same clips (examples/make_clips.py), each in its own process with a
worker process, and with every source of random numbers and every kind of state switched on. The quiet run
measures memory. The other is killed, receives one or two signals, loses its worker process, finds its newest
checkpoint damaged or truncated; each time it must end as documented, and it is resumed. The sha256 of the
adapter's weights and the figures of every epoch, except times, must be equal. If they are not, or if memory
grows, the exit code is 1.
"""

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from videossp.training.checkpoints import list_states

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from make_clips import make_clips

STEPS_PER_EPOCH = 8  # 4 classes of 10 videos, 2 of each held out, in batches of 4
SETTINGS = {
    "backbone": "videomamba_nano",
    "size": 32,
    "batch_size": 4,
    "workers": 1,
    "lr": 3e-3,
    "ema_decay": 0.95,
    "mixup": 0.4,
    "erasing": 0.3,
    "rand_augment": "rand-m5-n2-mstd0.5-inc1",
    "drop_path": 0.1,
    "dropout": 0.2,
    "max_grad_norm": 1.0,
    "save_minutes": 0.05,
}
TIMES = ("seconds", "seconds_per_clip", "data_wait")
FLAT = 1.1  # memory at the end over memory after a tenth of the steps
ENDS = {  # fault -> exit code
    "killed": -signal.SIGKILL,
    "SIGTERM": 130,
    "SIGINT": 130,
    "SIGINT twice": 130,
    "worker process killed": 1,
    "newest checkpoint damaged": -signal.SIGKILL,
    "newest checkpoint truncated": -signal.SIGKILL,
}


def start(*arguments):
    """Start `videossp train` in a new process."""
    code = "import sys; from videossp.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "train", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def flags(data, out, steps):
    """The arguments of both trainings."""
    settings = {**SETTINGS, "epochs": -(-steps // STEPS_PER_EPOCH), "out": out}
    return [data, *(f"--{name}={value}" for name, value in settings.items())]


def epochs_done(run):
    """Number of epochs in the history of a run."""
    file = run / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def newest(run):
    """(step, time of writing) of the newest checkpoint; (0, 0) without one."""
    for step, path in list_states(run / "checkpoints"):
        try:
            return step, path.stat().st_mtime_ns
        except FileNotFoundError:  # the training has just removed it
            continue
    return 0, 0


def quiet_run(data, run, steps):
    """Train without faults; returns seconds and resident MB after 10 %, 50 % and all of the epochs."""
    began, process = time.monotonic(), start(*flags(data, run, steps))
    watched, epochs = psutil.Process(process.pid), -(-steps // STEPS_PER_EPOCH)
    memory = {}
    while process.poll() is None:
        done = epochs_done(run) / epochs
        try:
            now = watched.memory_info().rss / 1e6
        except psutil.NoSuchProcess:
            break
        for fraction in (0.1, 0.5):
            if done >= fraction:
                memory.setdefault(fraction, now)
        memory[1.0] = now or memory.get(1.0, 0)  # a process that has just ended has 0
        time.sleep(0.1)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"the quiet run failed: {errors}")
    return time.monotonic() - began, [memory[fraction] for fraction in (0.1, 0.5, 1.0)]


def worker_of(process):
    """The worker process of a training; None between epochs and after the end."""
    try:
        children = psutil.Process(process.pid).children()
    except psutil.NoSuchProcess:
        return None
    return children[0] if children else None


def cause(process, fault):
    """Cause a fault in a training that is running."""
    if fault == "worker process killed":
        while process.poll() is None:
            if child := worker_of(process):
                child.kill()
                return
            time.sleep(0.001)
    elif fault.startswith("SIG"):
        for _ in range(2 if fault.endswith("twice") else 1):
            process.send_signal(getattr(signal, fault.split()[0]))
            time.sleep(0.05)
    else:
        process.kill()


def damage(run, fault):
    """Flip a bit of the newest checkpoint, or truncate it."""
    path = list_states(run / "checkpoints")[0][1]
    data = bytearray(path.read_bytes())
    if fault.endswith("damaged"):
        data[len(data) // 3] ^= 4
    path.write_bytes(data if fault.endswith("damaged") else data[: len(data) // 2])


def faulty_run(data, run, steps, faults, seconds, rng):
    """Train with faults at random moments.

    Args:
        faults: number of faults.
        seconds: time over which they are spread.

    Returns:
        How often each fault was caused, and a line for each that did not end as documented.
    """
    counts, unexpected = Counter(), []
    kinds = [kind for _ in range(-(-faults // len(ENDS))) for kind in rng.sample(list(ENDS), len(ENDS))]
    process = start(*flags(data, run, steps))
    for fault in kinds[:faults]:
        before = newest(run)[1]
        while newest(run)[1] == before and process.poll() is None:  # until it trains
            time.sleep(0.01)
        wait = rng.uniform(0, 2 * seconds / (faults + 1))
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            cause(process, fault)
        _, errors = process.communicate(timeout=120)
        if process.returncode == 0 or not list_states(run / "checkpoints"):
            return counts, unexpected  # the run ended before the fault
        if process.returncode != ENDS[fault] or "Traceback" in errors:
            unexpected.append(f"{fault}: exit code {process.returncode}: {errors.strip().splitlines()[-1:]}")
        if fault.startswith("newest"):
            damage(run, fault)
        counts[fault] += 1
        process = start("--resume", run)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"the last resume failed: {errors}")
    return counts, unexpected


def outcome(run):
    """sha256 of the adapter's weights, figures of the epochs without times, metrics in the adapter."""
    weights = (run / "adapter" / "adapter_model.safetensors").read_bytes()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = json.loads((run / "adapter" / "adapter_config.json").read_text())["metrics"]
    figures = [{name: x for name, x in row.items() if name not in TIMES} for row in rows]
    return hashlib.sha256(weights).hexdigest(), figures, metrics


def soak(steps, faults, seed):
    """Print the table of the faults; returns whether every check holds."""
    with tempfile.TemporaryDirectory() as folder:
        data, quiet, run = (Path(folder) / name for name in ("clips", "quiet", "faulty"))
        make_clips(data, 10, 1)
        seconds, memory = quiet_run(data, quiet, steps)
        print(f"quiet run: {epochs_done(quiet) * STEPS_PER_EPOCH} steps in {seconds:.0f} s")
        print("  memory after 10 %, 50 %, all of the steps   " + ", ".join(f"{x:.0f} MB" for x in memory))
        began = time.monotonic()
        counts, unexpected = faulty_run(data, run, steps, faults, seconds, random.Random(seed))
        print(f"run with {counts.total()} faults: {time.monotonic() - began:.0f} s, resumed each time")
        for fault, count in sorted(counts.items()):
            print(f"  {fault:28} {count:3} times, exit code {ENDS[fault]}")
        for line in unexpected:
            print(f"  NOT AS DOCUMENTED: {line}")
        (sha, figures, metrics), (expected, history, quiet_metrics) = outcome(run), outcome(quiet)
        left = [x.name for x in run.rglob("*") if x.is_file() and x.parent.name == "checkpoints"]
        growth = memory[2] / memory[0]
        checks = {
            f"weights of the adapter, sha256 {expected[:16]}": sha == expected,
            f"figures of the {len(history)} epochs": figures == history,
            "metrics in the adapter": metrics == quiet_metrics,
            "no checkpoint is left, complete or partial": not left,
            f"memory at the end {growth:.3f} times that after 10 %": growth < FLAT,
            f"all of {counts.total()} faults, at least half of --faults, ended as documented": (
                not unexpected and 2 * counts.total() >= faults
            ),
        }
        for name, holds in checks.items():
            print(f"  {name:60} {'yes' if holds else 'NO'}")
        return all(checks.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--faults", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not soak(args.steps, args.faults, args.seed):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
