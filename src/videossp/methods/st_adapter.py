"""ST-Adapter: a bottleneck with a depthwise 3-D convolution (Pan et al., NeurIPS 2022, arXiv 2206.13559)."""

from collections.abc import Callable

from torch import Tensor, nn

from videossp.methods.check_sizes import check_kernel, check_size
from videossp.methods.layers.bottleneck import Bottleneck
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Scaled, Tuner
from videossp.model.tokens import Tokens


class STAdapter(Tuner):
    """Adds up(conv(down(x))) to every patch before the last blocks, without an activation. Starts at zero.

    Args:
        config: sizes of the backbone.
        width: width of the bottleneck; published: 384 at VideoMamba-M.
        kernel: (time, rows, columns) of the depthwise convolution.
        layers: number of the last blocks that have an adapter. The paper of SSP gives none; 6 of the 32
            blocks of VideoMamba-M fit its parameter count.
        residual: x is the sum of both streams, as in the paper; otherwise the last mixer's output alone.
    """

    scaled = {"width": Scaled(384, multiple_of=2), "layers": Scaled(6, by="depth")}

    def __init__(
        self,
        config: VideoMambaConfig,
        *,
        width: int | None = None,
        kernel: tuple[int, int, int] = (3, 1, 1),
        layers: int | None = None,
        residual: bool = True,
    ) -> None:
        super().__init__()
        width = self.scaled["width"].resolve(width, config)
        layers = self.scaled["layers"].resolve(layers, config)
        check_size("width", width)
        check_size("layers", layers)
        check_kernel("kernel", kernel, 3)
        self.first, self.residual = config.last_layers(layers).start, residual
        self.bottlenecks = nn.ModuleList(Bottleneck(config.d_model, width, kernel) for _ in range(layers))

    def layer_of(self, name: str) -> int | None:
        return self.first + int(name.split(".")[1])

    def first_block(self, depth: int) -> int:
        return self.first

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        i = layer - self.first
        if i < 0:
            return tokens
        patches = tokens.part("patches")
        read = patches + tokens.residual_part("patches") if self.residual else patches
        change, _ = self.bottlenecks[i](read, tokens.layout.grid)
        return tokens.write(patches=patches + change.to(patches.dtype))

    def merge(self, weight: Callable[[int, str], Tensor]) -> tuple[Tuner, str]:
        if not all(x.fold() for x in self.bottlenecks):  # type: ignore[operator]
            return self, "nothing to fold: the convolutions mix patches"
        return (
            self,
            "convolutions folded; the products stay, they add to the stream and not to a frozen product",
        )
