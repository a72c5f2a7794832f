"""What each verb does: its flags, one function call, what it prints; heavy imports inside."""

from videossp.cli.compare import compare
from videossp.cli.data import data, doctor
from videossp.cli.demo import demo
from videossp.cli.evaluate import evaluate
from videossp.cli.machine import bench, info
from videossp.cli.predict import predict
from videossp.cli.train import train

__all__ = ["VERBS"]

VERBS = {
    "demo": demo,
    "train": train,
    "compare": compare,
    "eval": evaluate,
    "predict": predict,
    "info": info,
    "bench": bench,
    "data": data,
    "doctor": doctor,
}
