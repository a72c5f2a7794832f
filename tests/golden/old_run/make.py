"""Makes the files of this folder with version 0.1 of the package (commit 08e6bf9 or older).

    PYTHON_OF_VERSION_0.1 make.py FOLDER

backbone.safetensors: the random weights of the backbone; data/: twelve videos; run/: a run folder as an
interruption in the last of three epochs left it; end/: the adapter's weights, the figures of the epochs and
the machine of the same run without interruption.
"""

import contextlib
import json
import platform
import shutil
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from safetensors.torch import save_file

from videossp import process

process.prepare_process()

from videossp.adapter import versions  # noqa: E402
from videossp.datasets import read_data  # noqa: E402
from videossp.loop import Loop  # noqa: E402
from videossp.plan import TrainConfig  # noqa: E402
from videossp.train import train  # noqa: E402
from videossp.tuner import Spec  # noqa: E402
from videossp.videomamba import SPECS  # noqa: E402

from videossp.classifier import Classifier  # noqa: E402

SPECS["videomamba_old_run"] = Spec(depth=2, d_model=16, frames=2, size=(32, 32), d_state=4)
CONFIG = TrainConfig(
    epochs=3,
    batch_size=2,
    accumulate=2,
    lr=1e-2,
    seed=1,
    num_sample=2,
    scale=(0.6, 1.0),
    rand_augment="rand-m5-n2-mstd0.5-inc1",
    erasing=0.3,
    mixup=0.5,
    cutmix=0.5,
    val_share=0.3,
    clip_grad=1.0,
    ema=0.9,
    save_minutes=0,
)


def write_videos(folder):
    rng = np.random.default_rng(0)
    for name, level in (("bright", 180), ("dark", 70)):
        for i in range(6):
            path = folder / name / f"{i}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            with av.open(str(path), "w") as container:
                stream = container.add_stream("libx264", rate=Fraction(12), options={"crf": "30"})
                stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
                for pixels in rng.normal(level, 30, (4, 32, 48, 3)).clip(0, 255).astype(np.uint8):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                container.mux(stream.encode())


def create():
    # Options that are not given have the published defaults: width 64.
    return Classifier.create(
        "videomamba_old_run",
        classes=["bright", "dark"],
        method="adapter",
        drop_path=0.2,
        dropout=0.2,
        seed=CONFIG.seed,
        drop=0.1,
    )


class Break(Exception):
    pass


def main():
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    write_videos(folder / "data")
    data = read_data(folder / "data")
    weights = {name: x.contiguous() for name, x in create().backbone.state_dict().items()}
    save_file(weights, folder / "backbone.safetensors")
    train(create(), data, CONFIG, out=folder / "whole")
    (folder / "end").mkdir()
    shutil.copy(folder / "whole" / "adapter" / "adapter_model.safetensors", folder / "end")
    shutil.copy(folder / "whole" / "metrics.jsonl", folder / "end")
    cpu = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")][0]
    machine = {"versions": versions(), "machine": platform.machine(), "cpu": cpu.split(": ")[1]}
    machine["vectors"] = torch.backends.cpu.get_cpu_capability()
    (folder / "end" / "machine.json").write_text(json.dumps(machine, indent=2) + "\n")
    shutil.rmtree(folder / "whole")

    loss = Loop.loss

    def break_in_step_6(self, batch, number):
        if self.state.step == 5:
            raise Break
        return loss(self, batch, number)

    Loop.loss = break_in_step_6
    with contextlib.suppress(Break):
        train(create(), data, CONFIG, out=folder / "run")
    older = sorted((folder / "run" / "checkpoints").iterdir(), key=lambda x: x.stat().st_mtime)[:-1]
    for path in [*older, folder / "run" / ".lock"]:
        path.unlink()
    config = folder / "run" / "config.yaml"
    config.write_text(config.read_text().replace(f"data: {folder / 'data'}", "data: DATA"))


if __name__ == "__main__":
    main()
