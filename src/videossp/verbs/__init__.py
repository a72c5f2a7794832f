"""What each verb does: its flags, one function call, what it prints; heavy imports inside."""

from videossp.verbs.data import data, doctor
from videossp.verbs.demo import demo
from videossp.verbs.machine import bench, info
from videossp.verbs.training import compare, train
from videossp.verbs.using import evaluate, predict

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
