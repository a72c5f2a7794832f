"""A small classifier of any method, with random weights, and a random clip."""

import torch

from conftest import SMALL, switch_on
from videossp import Classifier

SIZES = {"ssp": {"gather_width": 16, "spread_width": 16, "heads": 4}, "stop": {"pixel_kernel": 3, "heads": 4}}


def made(method, **options):
    torch.manual_seed(0)
    names = [method] if "+" not in method else method.split("+")
    given = {x: SIZES[x] for x in names if x in SIZES}
    classifier = Classifier.create(
        SMALL,
        classes=["a", "b", "c"],
        method=method,
        **((given if "+" in method else SIZES.get(method, {})) | options),
    )
    switch_on(classifier)
    return classifier.eval()


def clip_of(seed=0):
    return torch.randn(3, SMALL.frames, *SMALL.size, generator=torch.Generator().manual_seed(seed))
