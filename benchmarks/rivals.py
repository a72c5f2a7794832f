"""Two methods of other papers on time, for the comparison only, written from their descriptions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.methods.st_adapter import STAdapter
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


class Frame2Freq(STAdapter):
    """An adapter like Frame2Freq's (arXiv 2602.18977): a bottleneck that filters frequencies over time.

    ST-Adapter before the last blocks, with another bottleneck.

    Args:
        config: sizes of the backbone.
        width: of the bottleneck.
        layers: number of the last blocks that have an adapter.
    """

    undecayed = ("bottlenecks.*.gains",)

    def __init__(
        self, config: VideoMambaConfig, *, width: int | None = None, layers: int | None = None
    ) -> None:
        super().__init__(config, width=width, layers=layers)
        width = self.scaled["width"].resolve(width, config)
        filters = (Filter(config.d_model, width, config.frames) for _ in self.bottlenecks)
        self.bottlenecks = nn.ModuleList(filters)


class Filter(nn.Module):
    """up(GELU(filter(down(x)))) of patch tokens, which filters frequencies over time. `up` starts at zero.

    The filter is a Fourier transform over the frames, a learned complex gain for each channel and frequency,
    one at first, and the inverse transform.
    """

    def __init__(self, d_model: int, width: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.down, self.up = Linear(d_model, width), Linear(width, d_model)
        start = torch.tensor([1.0, 0.0]).expand(frames // 2 + 1, 1, width, 2)
        self.gains = nn.Parameter(start.clone())  # (frequency, 1, channel, real and imaginary part)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """As `Bottleneck.forward`."""
        spectrum = torch.fft.rfft(self.down(x).float(), dim=1) * torch.view_as_complex(self.gains)
        code = F.gelu(torch.fft.irfft(spectrum, n=self.frames, dim=1))
        return self.up(code), code

    def fold(self) -> bool:
        """Nothing can be folded."""
        return False


METHODS: dict[str, type[Tuner]] = {"step": Step, "frame2freq": Frame2Freq}
