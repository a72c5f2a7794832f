"""`frame_weights`: the importance of each frame, from the entropy of its prompts (SSP)."""

from torch import Tensor

from videossp.ops.entropy import differentiable_entropy, softmax_entropy


def frame_weights(prompt: Tensor, importance: str, *, detach: bool = True) -> Tensor:
    """softmax over frames of the mean over patches n of 1 - entropy(n) / normaliser.

    entropy(n) is that of the softmax of a prompt over its channels. Frames whose prompts have low entropy
    weigh more.

    Args:
        prompt: (batch, frames, patches, channels).
        importance: normaliser of the entropy: maximum over the clip ("clip"), over the batch ("batch",
            published), or log(channels) ("constant").
        detach: no gradient flows (published).

    Returns:
        Weights (batch, frames) with sum 1 over the frames of a clip.
    """
    entropy = softmax_entropy(prompt) if detach else differentiable_entropy(prompt)
    largest = entropy.amax((1, 2), keepdim=True) if importance == "clip" else entropy.amax()
    if importance == "constant":
        largest = entropy.new_full((), prompt.shape[-1]).log()  # no copy from the CPU
    return (1 - entropy / largest.clamp_min(1e-10)).mean(-1).softmax(-1).to(prompt.dtype)
