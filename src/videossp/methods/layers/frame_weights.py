"""`frame_weights`: the importance of each frame, from the entropy of its prompts (SSP)."""

import torch
from torch import Tensor

from videossp.ops.entropy import softmax_entropy


@torch.no_grad()
def frame_weights(prompt: Tensor, importance: str) -> Tensor:
    """Weights of the frames of a clip: the lower the channel entropy of a frame's prompts, the larger.

    Args:
        prompt: (batch, frames, patches, channels).
        importance: the entropy is divided by the largest of the clip ("clip"), the largest of the batch
            ("batch"), or the largest possible one, log(channels) ("constant"); see `methods.ssp`.

    Returns:
        (batch, frames), sum 1 over the frames, in the dtype of prompt.
    """
    entropy = softmax_entropy(prompt)
    largest = entropy.amax((1, 2), keepdim=True) if importance == "clip" else entropy.amax()
    if importance == "constant":
        largest = entropy.new_tensor(prompt.shape[-1]).log()
    return (1 - entropy / largest.clamp_min(1e-10)).mean(-1).softmax(-1).to(prompt.dtype)
