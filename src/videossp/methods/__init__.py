"""The tuning methods by name."""

from videossp.methods.linear import Linear
from videossp.methods.ssp import SSP
from videossp.tuner import Tuner

METHODS: dict[str, type[Tuner]] = {
    "linear": Linear,
    "ssp": SSP,
}
