"""`VideoMamba`, its `Block` and `Mixer`: the frozen backbone, which calls the hooks of a `Tuner`."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from videossp.model.config import ProjectionName, ScanName, VideoMambaConfig
from videossp.model.hooks import Tuner
from videossp.model.tokens import Layout, Tokens
from videossp.ops.conv import conv_silu
from videossp.ops.float32_conv import Float32Conv3d
from videossp.ops.gate import gate
from videossp.ops.matmul import Linear, linear
from videossp.ops.norm import add_norm
from videossp.ops.recompute import recompute_in_backward
from videossp.ops.scan import Scan, selective_scan
from videossp.system.process import give_back_memory

NO_TUNER = Tuner()  # edits nothing
# Blocks between two gradient checkpoints. A checkpoint takes a third of the memory that the inside of one
# block takes, so larger groups would need more memory in all.
BLOCKS_PER_CHECKPOINT = 2


class Mixer(nn.Module):
    """Bidirectional Mamba: two scans, forward and backward in time, between shared projections.

    Parameter names are those of the published checkpoints; `_b` marks the backward direction.
    """

    def __init__(self, config: VideoMambaConfig) -> None:
        super().__init__()
        self.d_state, rank = config.d_state, config.width("dt_proj")[0]
        self.in_proj = Linear(*config.width("in_proj"), bias=False)
        self.out_proj = Linear(*config.width("out_proj"), bias=False)
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        # Where only shapes are wanted, no value is computed: torch would import its compiler for it (2 s).
        values = not self.in_proj.weight.is_meta
        if values:
            self.out_proj.weight.data /= math.sqrt(config.depth)
        for q in ("", "_b"):
            conv = nn.Conv1d(config.d_inner, config.d_inner, config.d_conv, groups=config.d_inner)
            dt_proj = Linear(*config.width("dt_proj"))
            nn.init.uniform_(dt_proj.weight, -(rank**-0.5), rank**-0.5)
            if values:  # steps start log-uniform in [0.001, 0.1], by the inverse of softplus (Gu & Dao 2023)
                dt = torch.exp(torch.empty(config.d_inner).uniform_(math.log(1e-3), math.log(1e-1)))
                dt_proj.bias.data = dt + torch.log(-torch.expm1(-dt))
            setattr(self, f"conv1d{q}", conv)
            setattr(self, f"x_proj{q}", Linear(*config.width("x_proj"), bias=False))
            setattr(self, f"dt_proj{q}", dt_proj)
            A_log = torch.empty(config.d_inner, config.d_state)
            if values:
                A_log[:] = torch.arange(1, config.d_state + 1, dtype=torch.float32).log()
            setattr(self, f"A{q}_log", nn.Parameter(A_log))
            setattr(self, f"D{q}", nn.Parameter(torch.ones(config.d_inner)))

    def forward(self, x: Tensor, layer: int, tuner: Tuner, save_memory: bool = True) -> Tensor:
        """(batch, length, d_model) -> (batch, length, d_model).

        Args:
            x: normalised tokens.
            layer, tuner: the number of this block, and the hooks to call.
            save_memory: recompute large tensors that are cheap to compute in the backward pass instead of
                keeping them. This halves the memory.
        """
        x_in, z = tuner.edit_projection(layer, "in_proj", x, self.in_proj(x)).chunk(2, dim=-1)
        convs: Any = (self.conv1d, self.conv1d_b)
        weights = [x for conv in convs for x in (conv.weight, conv.bias)]
        computed = dict(enumerate(conv_silu(x_in, *weights)))

        def scan_input(direction: int) -> Tensor:
            """Return u of one scan and drop it here. If it is missing (in the backward), recompute both."""
            if direction not in computed:
                computed.update(enumerate(conv_silu(x_in, *weights)))
            return computed.pop(direction)

        y = self._scan_direction(False, lambda: scan_input(0), layer, tuner, save_memory)
        y_b = self._scan_direction(True, lambda: scan_input(1), layer, tuner, save_memory)
        y = gate(y, y_b, z)
        return tuner.edit_projection(layer, "out_proj", y, self.out_proj(y))

    def _scan_direction(
        self, reverse: bool, make_u: Callable[[], Tensor], layer: int, tuner: Tuner, save_memory: bool
    ) -> Tensor:
        """The scan of one direction, before the gate: (batch, length, d_inner)."""
        x_name: ProjectionName = "x_proj_b" if reverse else "x_proj"
        dt_name: ProjectionName = "dt_proj_b" if reverse else "dt_proj"
        scan_name: ScanName = "scan_b" if reverse else "scan"
        A_log: Any = self.A_b_log if reverse else self.A_log
        D: Any = self.D_b if reverse else self.D
        x_proj, dt_proj = getattr(self, x_name), getattr(self, dt_name)

        u = make_u()
        delta_B_C = tuner.edit_projection(layer, x_name, u, x_proj(u))
        dt, B, C = delta_B_C.split([dt_proj.in_features, self.d_state, self.d_state], dim=-1)
        # Keep a local reference: `functional_call` restores the module's own weights before the backward.
        weight = dt_proj.weight
        product = linear(dt, weight)
        delta = tuner.edit_projection(layer, dt_name, dt, product)
        scan = Scan(
            u=u,
            delta=delta,
            A=-torch.exp(A_log.float()),
            B=B,
            C=C,
            D=D,
            delta_bias=dt_proj.bias,
            reverse=reverse,
        )
        scan = tuner.edit_scan(layer, scan_name, scan)
        recipes = (u, make_u), (product, lambda: linear(dt, weight))
        recompute = save_memory and not torch.compiler.is_compiling()
        with recompute_in_backward(*recipes) if recompute else nullcontext():
            y = selective_scan(scan)
        return tuner.edit_scan_output(layer, scan_name, scan, y)


class Block(nn.Module):
    """One block on two streams: residual <- residual + hidden; hidden <- mixer(norm(residual))."""

    def __init__(self, config: VideoMambaConfig, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(config.d_model, eps=1e-5)
        self.mixer = Mixer(config)
        self.drop_path = drop_path

    def forward(self, tokens: Tokens, layer: int, tuner: Tuner, save_memory: bool = True) -> Tokens:
        hidden = drop(tokens.hidden, self.drop_path if self.training else 0.0)
        residual, x = add_norm(tokens.residual, hidden, self.norm.weight)
        read = replace(tokens, hidden=x, residual=residual)
        mixed = self.mixer(x, layer, tuner, save_memory)
        return replace(read, hidden=tuner.edit_mixer_output(layer, read, mixed))


def drop(hidden: Tensor, rate: float) -> Tensor:
    """Stochastic depth (Huang et al. 2016): zero the branch of a clip with probability `rate`.

    The branches that are kept are scaled by 1 / (1 - rate), which keeps the mean.
    """
    if rate == 0:
        return hidden
    keep = torch.rand(hidden.shape[0], 1, 1, device=hidden.device) >= rate
    return hidden * keep / (1 - rate)


class VideoMamba(nn.Module):
    """VideoMamba (Li et al. 2024, arXiv 2403.06977): patches of all frames as one sequence, cls first.

    Args:
        config: the sizes.
        drop_path: stochastic depth of the last block while training; 0 for a frozen backbone.

    Attributes:
        grad_checkpoint: use gradient checkpointing: the tokens are kept only after every second block, and
            the backward recomputes the rest. This takes much less memory and one more forward pass.
    """

    def __init__(self, config: VideoMambaConfig, drop_path: float = 0.0) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path must be at least 0 and below 1, got {drop_path}")
        self.config = config
        self.drop_path = drop_path
        self.grad_checkpoint = False
        side = (1, config.patch, config.patch)
        self.patch_embed = nn.ModuleDict({"proj": Float32Conv3d(3, config.d_model, side, stride=side)})
        rows, columns = config.grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.d_model))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + rows * columns, config.d_model))
        self.temporal_pos_embedding = nn.Parameter(torch.zeros(1, config.frames, config.d_model))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        # The published rates: linspace shifted by one, so that the first two blocks drop nothing.
        last = max(1, config.depth - 1)
        self.layers = nn.ModuleList(
            Block(config, drop_path * max(0, layer - 1) / last) for layer in range(config.depth)
        )

    def embed(self, clip: Tensor) -> Tokens:
        """(batch, 3, frames, height, width), normalised, to tokens with a residual of zero."""
        x = self.patch_embed["proj"](clip).flatten(3).permute(0, 2, 3, 1)  # (batch, frames, patches, d_model)
        x = x + self.pos_embed[:, None, 1:] + self.temporal_pos_embedding[:, :, None]
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(x.shape[0], -1, -1)
        hidden = torch.cat([cls, x.flatten(1, 2)], dim=1)
        layout = Layout(self.config.frames, self.config.grid)
        return Tokens(hidden, hidden.new_zeros(hidden.shape, dtype=torch.float32), layout)

    def forward(self, clip: Tensor, tuner: Tuner = NO_TUNER) -> Tensor:
        """The feature that the head reads, (batch, d_model): see `feature`."""
        return self.feature(self.encode(clip, tuner), tuner)

    def feature(self, tokens: Tokens, tuner: Tuner = NO_TUNER) -> Tensor:
        """(batch, d_model): cls after the last block, both streams added, as the method edits it."""
        cls = (tokens.residual_part("cls") + tokens.part("cls")).squeeze(1)
        return tuner.edit_cls(tokens, cls)

    def encode(self, clip: Tensor, tuner: Tuner = NO_TUNER) -> Tokens:
        """The tokens after the last block.

        Raises:
            ValueError: the clip does not have the shape that the config gives.
        """
        expected = (3, self.config.frames, *self.config.size)
        if clip.ndim != 5 or tuple(clip.shape[1:]) != expected:
            raise ValueError(
                "a clip must be (batch, 3, frames, height, width) = "
                f"(batch, {', '.join(map(str, expected))}), got {tuple(clip.shape)}"
            )
        memory: dict[str, Any] = {}
        tokens = replace(self.embed(tuner.edit_clip(clip, memory)), memory=memory)
        return self.run_blocks(tokens, range(len(self.layers)), tuner)

    def run_blocks(self, tokens: Tokens, numbers: range, tuner: Tuner = NO_TUNER) -> Tokens:
        """The tokens after these blocks, which follow those that have computed `tokens`."""
        blocks: Any = self.layers
        checkpointed = self.grad_checkpoint and torch.is_grad_enabled()
        group = BLOCKS_PER_CHECKPOINT if checkpointed else max(1, len(numbers))

        def run(first: int, tokens: Tokens) -> Tokens:
            for layer in range(first, min(first + group, numbers.stop)):
                edited = tuner.edit_tokens(layer, tokens)
                # Checkpointing and `save_memory` both install saved-tensor hooks, so use only one of them.
                tokens = blocks[layer](edited, layer, tuner, save_memory=not checkpointed)
            return tokens

        for first in numbers[::group]:
            if checkpointed:
                if tokens.hidden.device.type == "cpu":
                    give_back_memory()
                tokens = checkpoint(run, first, tokens, use_reentrant=False)
            else:
                tokens = run(first, tokens)
        if numbers.stop < len(blocks):
            return tokens
        return replace(tokens, hidden=drop(tokens.hidden, self.drop_path if self.training else 0.0))

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """As `forward`."""
        return super().__call__(*args, **kwargs)  # type: ignore[no-any-return]
