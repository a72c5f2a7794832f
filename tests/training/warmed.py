"""Imported by the fork server of forking.py: its children find the kernels and the libraries loaded."""

import pytest  # noqa: F401
import test_resume  # noqa: F401
import torch

import videossp.training.train  # noqa: F401
from conftest import SMALL, SSP_SMALL
from videossp.classifier import Classifier
from videossp.model.config import BACKBONES

torch.set_num_threads(1)  # no OpenMP threads before a fork: the child would wait for them for ever
BACKBONES["videomamba_small_test"] = SMALL
classifier = Classifier.create(
    "videomamba_small_test", num_classes=2, drop_path=0.3, dropout=0.3, **SSP_SMALL
)
classifier(torch.zeros(2, 3, 4, 32, 32)).sum().backward()
