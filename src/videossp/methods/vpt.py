"""Visual Prompt Tuning: learned tokens in the sequence (Jia et al., ECCV 2022, arXiv 2203.12119)."""

from typing import Literal

from videossp.methods.check_sizes import check_size
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Scaled, Tuner
from videossp.model.tokens import Place, Tokens


class VPT(Tuner):
    """Puts learned tokens into the sequence.

    Args:
        config: sizes of the backbone.
        length: number of tokens, 80 at VideoMamba-M; in every frame with position "per_frame" (the same
            tokens in all frames).
        deep: write new tokens before every block, over the output of the block before; otherwise one set of
            tokens passes through all blocks.
        position: after_cls (published; the backward scan reads them just before cls), prepend (before cls),
            suffix, prefix_suffix (half and half), per_frame (after the patches of each frame).
        accumulate: the tokens of a block are added to the residual of those before, as with the slots of SSP;
            otherwise a block reads exactly its tokens.
    """

    scaled = {"length": Scaled(80)}
    not_merged = "it adds tokens to the sequence"

    def __init__(
        self,
        config: VideoMambaConfig,
        *,
        length: int | None = None,
        deep: bool = True,
        position: Literal["after_cls", "prepend", "suffix", "prefix_suffix", "per_frame"] = "after_cls",
        accumulate: bool = False,
    ) -> None:
        super().__init__()
        length = self.scaled["length"].resolve(length, config)
        check_size("length", length, least=2 if position == "prefix_suffix" else 1)
        counts: dict[str, dict[Place, int]] = {
            "after_cls": {"after_cls": length},
            "prepend": {"before_cls": length},
            "suffix": {"end": length},
            "prefix_suffix": {"before_cls": length // 2, "end": length - length // 2},
            "per_frame": {"frame_end": length},
        }
        if position not in counts:
            raise ValueError(f"position must be one of {', '.join(counts)}, got {position!r}")
        self.counts, self.deep, self.accumulate = counts[position], deep, accumulate
        self.prompts = config.prompts(config.depth if deep else 1, length)

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        if layer == 0:
            for place, count in self.counts.items():
                tokens = tokens.insert(f"vpt_{place}", place, count)
        elif not self.deep:
            return tokens
        values = self.prompts[layer].split(list(self.counts.values()))
        parts = {f"vpt_{place}": x for place, x in zip(self.counts, values, strict=True)}
        if self.accumulate:
            return tokens.write(**{name: x.expand_as(tokens.part(name)) for name, x in parts.items()})
        return tokens.restart(**parts)
