"""The steps of a training never make the CPU wait for a GPU; on a GPU without values."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("fake_training.py")


def test_no_step_of_a_training_waits_for_the_gpu():
    cases = [
        {"unfinished": True, "max_grad_norm": 1.0, "ema_decay": 0.9, "grad_accum_steps": 2},
        {"mixup": 0.5, "cutmix": 1.0, "precision": "float32"},
        {"reads_each_step": True},
    ]
    command = [sys.executable, "-W", "ignore", str(SCRIPT)]
    done = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    *found, planted = json.loads(done.stdout)
    assert found == [[], []] and len(planted) == 1 and planted[0].startswith("copy from gpu:0 to cpu")
