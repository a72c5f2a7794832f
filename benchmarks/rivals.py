"""Two methods of other papers on time, for the comparison only, written from their descriptions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.methods import register_method
from videossp.methods.registry import method_names
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Tuner
from videossp.model.tokens import Tokens
from videossp.ops.matmul import Linear


class Step(Tuner):
    """A probe like STEP (arXiv 2503.24298): attention over frozen tokens that know the number of their frame.

    A learned vector for each frame is added to its normed patch tokens. A learned token attends to them and
    to itself, in one layer of attention without skip connection, norm or MLP. Its output replaces cls.

    Args:
        config: sizes of the backbone.
        heads: of the attention.
    """

    undecayed = ("query", "frames")
    replaces_cls = True
    depends_on = "tokens"

    def __init__(self, config: VideoMambaConfig, *, heads: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.query = nn.Parameter(torch.empty(1, 1, config.d_model))
        self.frames = nn.Parameter(torch.empty(1, config.frames, 1, config.d_model))
        for x in (self.query, self.frames):
            nn.init.trunc_normal_(x, std=0.02)
        self.attention = nn.MultiheadAttention(config.d_model, heads, batch_first=True)

    def edit_cls(self, tokens: Tokens, y: Tensor) -> Tensor:
        patches = (tokens.part("patches") + tokens.residual_part("patches")).float()
        read = (self.norm(patches) + self.frames).flatten(1, 2)
        query = self.query.expand(read.shape[0], -1, -1)
        read = torch.cat([query, read], 1)
        out: Tensor = self.attention(query, read, read, need_weights=False)[0].squeeze(1)
        return out.to(y.dtype)


class Frame2Freq(Tuner):
    """An adapter like Frame2Freq's (arXiv 2602.18977): a bottleneck that filters frequencies over time.

    As ST-Adapter before the last blocks, with the convolution over time replaced by a Fourier transform over
    the frames, a learned complex gain for each channel and frequency, and the inverse transform. The gains
    start at one, `up` at zero.

    Args:
        config: sizes of the backbone.
        width: of the bottleneck.
        layers: number of the last blocks that have an adapter.
    """

    undecayed = ("gains",)

    def __init__(self, config: VideoMambaConfig, *, width: int = 128, layers: int = 2) -> None:
        super().__init__()
        self.first, self.count = config.last_layers(layers).start, config.frames
        self.down = nn.ModuleList(Linear(config.d_model, width) for _ in range(layers))
        self.up = nn.ModuleList(Linear(width, config.d_model) for _ in range(layers))
        start = torch.tensor([1.0, 0.0]).expand(layers, config.frames // 2 + 1, 1, width, 2)
        self.gains = nn.Parameter(start.clone())  # (layer, frequency, 1, channel, real and imaginary part)
        for up in self.up:
            nn.init.zeros_(up.weight)  # type: ignore[arg-type]
            nn.init.zeros_(up.bias)  # type: ignore[arg-type]

    def first_block(self, depth: int) -> int:
        return self.first

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        i = layer - self.first
        if i < 0:
            return tokens
        patches = tokens.part("patches")
        x = self.down[i](patches + tokens.residual_part("patches")).float()
        spectrum = torch.fft.rfft(x, dim=1) * torch.view_as_complex(self.gains[i])
        code = F.gelu(torch.fft.irfft(spectrum, n=self.count, dim=1))
        return tokens.write(patches=patches + self.up[i](code).to(patches.dtype))


METHODS: dict[str, type[Tuner]] = {"step": Step, "frame2freq": Frame2Freq}


def register() -> None:
    """Make the methods available in this process, once."""
    for name, cls in METHODS.items():
        if name not in method_names():
            register_method(name, cls)
