"""How well do temperatures that are fitted on validation calibrate the probabilities of test videos?

    python benchmarks/calibration.py DATA RUN [RUN ...] [--out FILE.jsonl]

RUN is the folder of a training on DATA, a data set with val and test splits. For each run it prints the
calibration error and the loss on test: without a temperature, with one that is fitted without a prior, and
with priors of several widths (`fit_temperature`). FILE gets a line for each run.
"""

import argparse
import json
import math
from pathlib import Path

from videossp import prepare_process

prepare_process()  # before torch is loaded

import torch  # noqa: E402

from videossp import evaluate, load, read_data  # noqa: E402
from videossp.inference.calibration import fit_temperature  # noqa: E402
from videossp.inference.evaluate import Evaluation, relabel  # noqa: E402

PRIORS = 0.25, 0.5, 1.0, math.inf


def figures(evaluation: Evaluation) -> dict[str, float | None]:
    """Calibration error and loss in nats."""
    return {"error": evaluation.reliability.error, "loss": evaluation.loss}


def measured(run: Path, data: Path) -> dict[str, object]:
    """The figures of one run."""
    classifier, samples = load(run), read_data(data)
    classifier.head.temperature = 1.0
    found = {}
    for split in ("val", "test"):
        known = relabel(samples.splits[split], samples.classes, classifier.classes)
        found[split] = evaluate(classifier, known, batch_size=8)
    val, test = found["val"], found["test"]
    labels = torch.tensor([x.label for x in val.samples])
    row: dict[str, object] = {
        "data": data.name,
        "method": classifier.method,
        "val": {"videos": len(val.samples), "top1": val.top(1)},
        "test": {"videos": len(test.samples), "top1": test.top(1)},
        "without": figures(test),
    }
    for prior in PRIORS:
        temperature = fit_temperature(val.view_scores, labels, prior)
        name = "no prior" if prior == math.inf else f"prior {prior:g}"
        row[name] = {"temperature": temperature, **figures(test.at_temperature(temperature))}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl")
    args = parser.parse_args()
    for run in args.runs:
        row = measured(run, args.data)
        print(json.dumps(row), flush=True)
        if args.out:
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
