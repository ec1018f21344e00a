"""Music and noise taken from under the speech: MIX -> CLEAN, the speech of everybody.

CLEAN is mono 16 kHz FLAC, exactly as long as MIX; the rest is MIX - CLEAN. A segment is either cleaned as a whole or not at
all: where there is next to nothing under the speech, CLEAN is an exact copy of MIX, and so are the voices that are cut from
it later. A network that came and went inside a conversation would be heard. Measures:

- `clean.rest_db`: level of what the enhancer took out against what it left, over the segment; probes of a long one.
- `clean.method`: what made CLEAN, or `copy of the mix`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dyconv.media.audio import read_audio, write_audio
from dyconv.models import registry
from dyconv.models.slots import Enhancer
from dyconv.records import Clip, Drop, DropReason, Key
from dyconv.stages.base import Files, Resources, Stage
from dyconv.time import SAMPLE_RATE

COPY = "copy of the mix"
_SILENCE_DB = -99.0
_FADE = SAMPLE_RATE // 4  # at the edges of a probe, where the network knows one side only


@dataclass(frozen=True)
class Clean(Stage):
    """Attributes:
    enhancer: name in the model registry.
    min_rest_db: rest against speech from which a segment is cleaned. A network always takes a little; its own error on
        clean speech lies below this.
    max_rest_db: more than this is dropped, since too little of the speech comes through; None takes all.
    probes, probe_s: so many stretches of so many seconds decide; a segment not longer than all of them is heard whole.
    """

    name: ClassVar[str] = "clean"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MIX})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.CLEAN})
    resources: ClassVar[Resources] = Resources(cpus=1.0)

    enhancer: str = "htdemucs_small"
    min_rest_db: float = -12.0
    max_rest_db: float | None = None
    probes: int = 10
    probe_s: float = 6.0

    _model: ClassVar[Enhancer]  # set on the instance by setup

    def models(self) -> tuple[str, ...]:
        return (self.enhancer,)

    def setup(self) -> None:
        object.__setattr__(self, "_model", registry.load(self.enhancer))

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        mix = read_audio(files.path(clip, Key.MIX))
        whole = len(mix) <= self.probes * self.probe_s * SAMPLE_RATE
        speech = self._model.speech(mix) if whole else None
        rest_db = level_db(mix - speech, speech) if speech is not None else self._probed(mix)
        if self.max_rest_db is not None and rest_db > self.max_rest_db:
            found = f"music or noise at {rest_db:+.1f} dB against the speech"
            yield Drop(clip, DropReason.SEPARATION_POOR, f"expected at most {self.max_rest_db:+g} dB, found {found}")
            return
        clip = clip.measured(clean__rest_db=round(rest_db, 2))
        path = files.new(clip, Key.CLEAN)
        if rest_db < self.min_rest_db:
            write_audio(path, mix)
            yield files.add(clip.measured(clean__method=COPY), (Key.CLEAN, path))
            return
        write_audio(path, speech if speech is not None else self._model.speech(mix))
        yield files.add(clip.measured(clean__method=self._model.method), (Key.CLEAN, path))

    def _probed(self, mix: np.ndarray) -> float:
        """Rest against speech in dB over stretches spread evenly over the segment."""
        length = round(self.probe_s * SAMPLE_RATE)
        heard, left = [], []
        for start in np.linspace(0, len(mix) - length, self.probes).astype(int):
            part = mix[start : start + length]
            inside = slice(_FADE, length - _FADE)
            speech = self._model.speech(part)[inside]
            heard.append(speech)
            left.append(part[inside] - speech)
        return level_db(np.concatenate(left), np.concatenate(heard))


def level_db(rest: np.ndarray, speech: np.ndarray) -> float:
    """Energy of `rest` against `speech` in dB, within -99 to 99."""
    above = float(np.square(rest, dtype=np.float64).sum())
    below = float(np.square(speech, dtype=np.float64).sum())
    if above <= 0.0:
        return _SILENCE_DB
    return float(np.clip(10 * np.log10(above / max(below, 1e-12)), _SILENCE_DB, -_SILENCE_DB))
