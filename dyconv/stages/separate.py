"""One voice a person, and how much of the partner is left in it.

P0_VOICE and P1_VOICE are mono 16 kHz FLAC, exactly as long as MIX, sample 0 with frame 0. Speech that was given to nobody
(unsure or off-screen turns) is in neither voice. Measures written for each person:

- `p0.bleed_db`: the partner's energy left in the track while only the partner speaks, relative to the partner's own level
  there. "Only the partner" is weighted by the probability that the partner speaks and the person does not, from SPEECH,
  so that doubtful attribution shows. None where the partner never speaks alone.
- `p0.overlap_share`: share of the person's speech during which the partner speaks too.
- `p0.voice_method`: what made the voice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dyconv.arrays import load_arrays
from dyconv.media.audio import read_audio, write_audio
from dyconv.models import registry
from dyconv.models.slots import Separator
from dyconv.records import PERSONS, Clip, Drop, DropReason, Key
from dyconv.speech.bleed import bleed_db
from dyconv.speech.turns import activity
from dyconv.stages.base import Files, Resources, Stage


@dataclass(frozen=True)
class Separate(Stage):
    """Attributes:
    separator: name in the model registry.
    max_bleed_db: drop a clip in which a voice has more of the partner than this; None takes all.
    max_overlap_share: drop a clip in which a larger share of a person's speech is overlapped; None takes all.
    """

    name: ClassVar[str] = "separate"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MIX, Key.SPEECH})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.P0_VOICE, Key.P1_VOICE})
    resources: ClassVar[Resources] = Resources(cpus=0.5)

    separator: str = "turn_gate"
    max_bleed_db: float | None = None
    max_overlap_share: float | None = None

    _model: ClassVar[Separator]  # set on the instance by setup

    def models(self) -> tuple[str, ...]:
        return (self.separator,)

    def setup(self) -> None:
        object.__setattr__(self, "_model", registry.load(self.separator))

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        mix = read_audio(files.path(clip, Key.MIX))
        speech = load_arrays(files.path(clip, Key.SPEECH))
        spoken = activity(clip.turns, clip.frames)
        voices = self._model.separate(mix, spoken)
        clip = self._measured(clip, voices, spoken, np.stack([speech[person] for person in PERSONS]))
        if refusal := self._refusal(clip):
            yield Drop(clip, DropReason.SEPARATION_POOR, refusal)
            return
        for person, voice in zip(PERSONS, voices, strict=True):
            path = files.new(clip, Key.of(person, "voice"))
            write_audio(path, voice)
            clip = files.add(clip, (Key.of(person, "voice"), path))
        yield clip

    def _measured(self, clip: Clip, voices: np.ndarray, spoken: np.ndarray, chance: np.ndarray) -> Clip:
        overlap = float(spoken.all(axis=0).sum())
        for index, person in enumerate(PERSONS):
            partner = 1 - index
            alone = np.minimum(chance[partner], 1.0 - chance[index])  # the most that the two posteriors allow for
            bleed = bleed_db(voices[index], voices[partner], alone)
            own = float(spoken[index].sum())
            clip = clip.measured(
                **{
                    f"{person}__bleed_db": None if bleed is None else round(bleed, 2),
                    f"{person}__overlap_share": round(overlap / own, 4) if own else 0.0,
                    f"{person}__voice_method": self._model.method,
                }
            )
        return clip

    def _refusal(self, clip: Clip) -> str | None:
        """What is wrong with the voices, or None. An unknown bleed is no reason: there was nothing to leave behind."""
        limits = (("bleed_db", self.max_bleed_db, "dB of bleed"), ("overlap_share", self.max_overlap_share, "overlap share"))
        for name, limit, what in limits:
            for person in PERSONS:
                found = clip.measures[f"{person}.{name}"]
                if limit is not None and isinstance(found, float) and found > limit:
                    return f"expected at most {limit:g} {what}, found {found:g} in the voice of {person}"
        return None
