"""The verbs by name. Each adds its flags to a parser and returns the function that runs it.

Heavy imports are inside the verbs, so that `videossp --help` is fast.
"""

from videossp.cli.backbones import backbones
from videossp.cli.compare import compare
from videossp.cli.data import data, doctor
from videossp.cli.demo import demo
from videossp.cli.embed import embed, probe, similar
from videossp.cli.evaluate import evaluate
from videossp.cli.explain import explain
from videossp.cli.export import export
from videossp.cli.machine import bench, info
from videossp.cli.predict import predict
from videossp.cli.serve import serve
from videossp.cli.train import train
from videossp.cli.watch import watch

__all__ = ["VERBS"]

VERBS = {
    "demo": demo,
    "train": train,
    "compare": compare,
    "eval": evaluate,
    "predict": predict,
    "explain": explain,
    "export": export,
    "watch": watch,
    "serve": serve,
    "embed": embed,
    "similar": similar,
    "probe": probe,
    "info": info,
    "bench": bench,
    "backbones": backbones,
    "data": data,
    "doctor": doctor,
}
