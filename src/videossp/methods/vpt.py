"""Visual Prompt Tuning: learned tokens in the sequence (Jia et al., ECCV 2022, arXiv 2203.12119)."""

from typing import Literal

from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Scaled, Tuner
from videossp.model.tokens import Place, Tokens


class VPT(Tuner):
    """Learned tokens; deep: new ones before every block, in place of what the block before made of its own.

    Args:
        config: sizes of the backbone.
        length: tokens, 80 at VideoMamba-M; in every frame with position "per_frame" (the same in all frames).
        deep: new tokens before every block, else one set that runs through all.
        position: after_cls as published (the backward scan meets them right before cls), prepend (before
            cls), suffix, prefix_suffix (half and half), per_frame (after its patches).
        accumulate: tokens of a block are added to the residual of those before, as SSP's own prompts are;
            else a block reads exactly its tokens.
    """

    scaled = {"length": Scaled(80)}
    not_merged = "its tokens are in the sequence"

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
        places: dict[str, dict[Place, int]] = {
            "after_cls": {"after_cls": length},
            "prepend": {"before_cls": length},
            "suffix": {"end": length},
            "prefix_suffix": {"before_cls": length // 2, "end": length - length // 2},
            "per_frame": {"frame_end": length},
        }
        if length < 1 + (position == "prefix_suffix") or position not in places:
            raise ValueError(f"length must be at least 1 (2 for both ends), position of {', '.join(places)}")
        self.places, self.deep, self.accumulate = places[position], deep, accumulate
        self.prompts = config.prompts(config.depth if deep else 1, length)

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        if layer == 0:
            for place, count in self.places.items():
                tokens = tokens.insert(f"vpt_{place}", place, count)
        elif not self.deep:
            return tokens
        values = self.prompts[layer].split(list(self.places.values()))
        parts = {f"vpt_{place}": x for place, x in zip(self.places, values, strict=True)}
        if self.accumulate:
            return tokens.write(**{name: x.expand_as(tokens.part(name)) for name, x in parts.items()})
        return tokens.restart(**parts)
