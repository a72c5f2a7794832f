"""The tuning methods by name."""

from videossp.methods.adapter import Adapter
from videossp.methods.additional_scan import AdditionalScan
from videossp.methods.affix import Affix
from videossp.methods.attentive import Attentive
from videossp.methods.full import Full
from videossp.methods.linear import Linear
from videossp.methods.lora import LoRA
from videossp.methods.partial import Partial
from videossp.methods.ssp import SSP
from videossp.methods.st_adapter import STAdapter
from videossp.methods.state_offset import StateOffset
from videossp.methods.stop import STOP
from videossp.methods.svp import SVP
from videossp.methods.vfpt import VFPT
from videossp.methods.vpt import VPT
from videossp.tuner import Tuner

METHODS: dict[str, type[Tuner]] = {
    "linear": Linear,
    "attentive": Attentive,
    "full": Full,
    "partial": Partial,
    "adapter": Adapter,
    "st_adapter": STAdapter,
    "lora": LoRA,
    "vpt": VPT,
    "vfpt": VFPT,
    "svp": SVP,
    "additional_scan": AdditionalScan,
    "affix": Affix,
    "state_offset": StateOffset,
    "stop": STOP,
    "ssp": SSP,
}
