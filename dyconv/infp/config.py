"""Sizes of the two stages.

`debug` runs anywhere in seconds; `tiny128` is what the packaged weights are, as much as two CPU cores learn in an hour;
`tiny` is the same idea at 256 pixels, for a GPU; `base` is the paper's scale.

A config is stored beside the weights it belongs to; `Stage1Config.from_json` and `Stage2Config.from_json` refuse names they
do not know, so that weights of another version are not half read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from dyconv.errors import UsageError

_LARGEST, _MOST = 1 << 16, 32  # of a number, and of a list of numbers


class _Stored:
    """Reading and writing of a config as JSON."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """
        Raises:
            UsageError: naming fields that this version does not have, or values that no network has.
        """
        known = {field.name: str(field.type) for field in fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(values) - known.keys()):
            raise UsageError(
                f"{cls.__name__} of another version: unknown {', '.join(unknown)}", hint="use the version the weights came with"
            )
        for name, value in values.items():
            if not _fits(known[name], value):
                raise UsageError(f"{cls.__name__}: {name} is {str(value)[:60]!r}", hint="take the weights as they came")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _fits(declared: str, value: Any) -> bool:
    """Whether a value of JSON is one for a field of this type, and no larger than any network's."""
    if declared.startswith("tuple"):
        return isinstance(value, list | tuple) and len(value) <= _MOST and all(_fits("int", item) for item in value)
    if declared == "str":
        return isinstance(value, str)
    numbers = (int,) if declared == "int" else (int, float)
    return type(value) in numbers and 0 <= value <= _LARGEST


@dataclass(frozen=True)
class Stage1Config(_Stored):
    """Motion-based head imitation.

    Attributes:
        size: side of the pictures, pixels; a power of two.
        latent: length of the motion latent.
        directions: orthogonal directions the latent is made of.
        channels: of the encoders by scale, from `size` down to 4 x 4; its length is log2(size / 4) + 1.
        warped: sides of the feature maps that are warped by flow, from coarse to fine.
        style: length of the codes that modulate the renderer.
        dropped: share of the masked input's dots left out in training.
    """

    size: int = 64
    latent: int = 512
    directions: int = 20
    channels: tuple[int, ...] = (16, 24, 32, 48, 64)
    warped: tuple[int, ...] = (8, 16, 32)
    style: int = 128
    dropped: float = 0.1

    def __post_init__(self) -> None:
        """
        Raises:
            UsageError: where the sizes do not fit together.
        """
        if self.size != 4 * 2 ** (len(self.channels) - 1):
            raise UsageError(
                f"Stage1Config: {len(self.channels)} channels go with a size of {4 * 2 ** (len(self.channels) - 1)}"
            )
        if not set(self.warped) <= set(self.sides[:-1]) or any(wide % 8 for wide in self.channels):
            raise UsageError(f"Stage1Config: warped must be among {self.sides[:-1]}, and channels multiples of 8")

    @property
    def sides(self) -> tuple[int, ...]:
        """Of the maps, from the picture's down to 4."""
        return tuple(self.size >> step for step in range(len(self.channels)))


@dataclass(frozen=True)
class Stage2Config(_Stored):
    """Audio-guided motion generation.

    Attributes:
        latent: length of a motion latent, as Stage 1 has it.
        width: of every token.
        blocks, heads: of the denoiser.
        bank: slots of each memory bank.
        window, context: frames generated at once, and frames of what came before.
        bands: mel bands of the audio features; 0: wav2vec2 or HuBERT is used instead.
        audio_model: hub id or local path of wav2vec2 or HuBERT; empty for mel bands.
        steps: of the diffusion in training.
        drop_style, drop_motion: probability of leaving out the style, and (each by itself) f_m and the previous motion.
        codes: principal components of the latents that are generated, as many as Stage 1 has directions: more dimensions hold
            nothing but noise to be removed. 0: the latents themselves.
        schedule: of the diffusion's noise, "cosine" or "linear".
        predicts: what the denoiser predicts: "noise" as the paper has it, or "v", from which the noise follows exactly. After
            a short training v gives motion of the right size already, and noise motion of nearly twice that.
        velocity: weight of the loss on differences between frames.
        sample_steps: of DDIM.
        guide_motion, guide_style: default scales of classifier-free guidance; 1: none.
        join: frames over which a jump between windows is spread; 0: windows are left as they come.
    """

    latent: int = 512
    width: int = 128
    blocks: int = 2
    heads: int = 4
    bank: int = 16
    window: int = 75
    context: int = 10
    bands: int = 80
    audio_model: str = ""
    steps: int = 1000
    drop_style: float = 0.3
    drop_motion: float = 0.5
    codes: int = 20
    schedule: str = "cosine"
    predicts: str = "v"
    velocity: float = 0.5
    sample_steps: int = 20
    guide_motion: float = 1.5
    guide_style: float = 1.5
    join: int = 3

    @property
    def coded(self) -> int:
        """Numbers a frame that are generated."""
        return self.codes or self.latent


STAGE1 = {
    "debug": Stage1Config(),
    "tiny128": Stage1Config(size=128, channels=(8, 16, 32, 64, 128, 192), warped=(8, 16, 32, 64), style=192),
    "tiny": Stage1Config(size=256, channels=(16, 24, 48, 96, 160, 192, 224), warped=(8, 16, 32, 64), style=256),
    "base": Stage1Config(size=256, channels=(64, 128, 256, 512, 512, 512, 512), warped=(8, 16, 32, 64, 128), style=512),
}
STAGE2 = {
    "debug": Stage2Config(width=64, bank=8),
    "tiny128": Stage2Config(width=128, blocks=4, bank=64, drop_motion=0.25),
    "tiny": Stage2Config(width=192, blocks=4, bank=64),
    "base": Stage2Config(width=512, blocks=4, heads=8, bank=64),
}
