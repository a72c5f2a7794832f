"""`frame_weights`: how much each frame tells, from the entropy of its prompts."""

import torch
from torch import Tensor

from videossp.ops.entropy import softmax_entropy


@torch.no_grad()
def frame_weights(prompt: Tensor, importance: str) -> Tensor:
    """How telling the prompt (batch, frames, patches, channels) of each frame is: (batch, frames), sum 1.

    By the channel entropy relative to the largest of the clip, the largest there can be ("constant"), or the
    largest of the batch, see `methods.ssp`.
    """
    entropy = softmax_entropy(prompt)
    largest = entropy.amax((1, 2), keepdim=True) if importance == "clip" else entropy.amax()
    if importance == "constant":
        largest = entropy.new_tensor(prompt.shape[-1]).log()
    return (1 - entropy / largest.clamp_min(1e-10)).mean(-1).softmax(-1).to(prompt.dtype)
