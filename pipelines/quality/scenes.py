"""Which conversations are composed: drawn once from a fixed seed, so that every run compares the same ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from dyconv.records import dump
from pipelines.quality.identities import Cast

VERSION = 1  # of how a scene becomes a file: raise it when the same scene gives other bytes
SIZES = {"two-shot": (640, 360), "side": (640, 360), "stacked": (640, 480), "pip": (960, 540), "cuts": (640, 360)}
OVERLAPS = (0.0, 0.1, 0.2, 0.3)
SHIFTS_MS: tuple[int, ...] = (40, -80, 200, -40, 80, -200)
_MANY = {"two-shot": 10, "side": 8, "stacked": 6, "pip": 6, "cuts": 10}
_LENGTHS_S = (20.0, 22.0, 24.0, 26.0, 28.0)
_SNRS_DB = (5.0, 10.0, 15.0, 20.0)
_SMALL = (0, 0, 0, 1, 0)  # which of the full set are in the small one, over and over
_NOISES = ("pink", "babble", "white")


@dataclass(frozen=True)
class Scene:
    """One conversation to compose.

    Attributes:
        a, b: names out of the cast.
        overlap: share of speech time in which both speak.
        narrator: number of the off-screen voice, or None.
        under: what is heard under the speech, at `snr_db`: a noise of `dyconv.synth.sound`, or a file.
        telephone: whether the sound ends at 3.4 kHz, as of 8 kHz material.
        shift_ms: by how much the sound is later than the picture.
    """

    layout: str
    a: str
    b: str
    overlap: float
    seconds: float
    seed: int
    narrator: int | None = None
    under: str | None = None
    snr_db: float = 20.0
    telephone: bool = False
    shift_ms: int = 0

    @property
    def id(self) -> str:
        """Readable, and different whenever anything about the scene is."""
        file = Path(self.under).name if self.under else None
        mark = hashlib.sha256(dump([VERSION, {**vars(self), "under": file}])).hexdigest()[:8]
        return f"{self.layout}-{self.a}-{self.b}-{mark}"

    @property
    def size(self) -> tuple[int, int]:
        return SIZES[self.layout]

    @property
    def conditions(self) -> tuple[str, ...]:
        """What makes it harder than two clean voices."""
        found = {
            "off-screen voice": self.narrator is not None,
            "music or noise": self.under is not None,
            "telephone band": self.telephone,
            "shifted": bool(self.shift_ms),
        }
        return tuple(name for name, there in found.items() if there)


def plan(cast: Cast, sounds: list[Path], size: str) -> list[Scene]:
    """The scenes of a set: `full` (40 conversations and 6 shifted copies), or `small` (8 and 3).

    Args:
        sounds: music and noises nobody trained on; generated noise alone where there are none.
    """
    scenes = _dressed(_bare(cast, _MANY if cast.real else dict.fromkeys(_MANY, 2)), cast, sounds)
    shifts = SHIFTS_MS
    if size == "small":
        scenes, shifts = [scene for scene, chosen in zip(scenes, cycle(_SMALL), strict=False) if chosen], SHIFTS_MS[:3]
    plain = [scene for scene in scenes if scene.layout in ("two-shot", "side", "stacked") and not scene.conditions]
    return scenes + [replace(scene, shift_ms=shift) for scene, shift in zip(cycle(plain), shifts, strict=False)]


def _bare(cast: Cast, many: dict[str, int]) -> list[Scene]:
    """Pairs go round the cast, each time with another distance, so that everybody meets many others."""
    names, rng = sorted(cast.people), np.random.default_rng(3)
    scenes: list[Scene] = []
    for layout, count in many.items():
        for number in range(count):
            index = len(scenes)
            lap, place = divmod(index, len(names))
            first, second = names[place], names[(place + 1 + lap % (len(names) - 1)) % len(names)]
            a, b = (first, second) if rng.uniform() < 0.5 else (second, first)
            overlap = OVERLAPS[number % len(OVERLAPS)]
            scenes.append(Scene(layout, a, b, overlap, float(rng.choice(_LENGTHS_S)), seed=100 + index))
    return scenes


def _dressed(scenes: list[Scene], cast: Cast, sounds: list[Path]) -> list[Scene]:
    """A fourth gets music or noise, a tenth a narrator, a tenth a telephone's band, drawn without regard to the layout."""
    rng = np.random.default_rng(4)
    noises, snrs = cycle(_mixed(sounds)), cycle(_SNRS_DB)
    order = [rng.permutation(len(scenes)).tolist() for _ in range(3)]
    under, told, thin = (set(one[: round(len(scenes) * share)]) for one, share in zip(order, (0.25, 0.1, 0.1), strict=True))
    out = []
    for index, scene in enumerate(scenes):
        if index in under:
            scene = replace(scene, under=next(noises), snr_db=next(snrs))
        if index in told and cast.narrators:
            scene = replace(scene, narrator=index % len(cast.narrators))
        out.append(replace(scene, telephone=index in thin))
    return out


def _mixed(sounds: list[Path]) -> list[str]:
    """Files, and after every second one a generated noise."""
    noises = cycle(_NOISES)
    mixed = [name for index, path in enumerate(sounds) for name in [str(path), *islice(noises, index % 2)]]
    return mixed or list(_NOISES)
