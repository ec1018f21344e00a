"""One voice a person, and how good it is.

P0_VOICE and P1_VOICE are mono 16 kHz FLAC, exactly as long as MIX, sample 0 with frame 0. They are made from CLEAN where
there is one, else from MIX. Speech that was given to nobody (unsure or off-screen turns) is in neither voice. What is in
neither is the rest: voices and rest sum to that sound. Where `people` found one person on each channel of the source
(measure `people.channels`), the voices are those channels as they are. Measures written for each person:

- `p0.bleed_db`: the partner's energy left in the track while only the partner speaks, relative to the partner's own level
  there. "Only the partner" is weighted by the probability that the partner speaks and the person does not, from SPEECH,
  so that doubtful attribution shows. None where the partner never speaks alone.
- `p0.overlap_share`: share of the person's speech during which the partner speaks too.
- `p0.voice_method`: what made the voice; with the share of the overlap in which it is the mix, where it was not separated.
- `p0.si_sdr_est_db`: SI-SDR that this separator reaches on a remix of what the two say alone, like this clip's overlaps
  (see `dyconv.speech.remix`). None without overlap, or where somebody says too little alone, or with a channel each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dyconv.arrays import load_arrays
from dyconv.errors import StoreError
from dyconv.media.audio import read_audio, read_channels, write_audio
from dyconv.models import registry
from dyconv.models.slots import Separator
from dyconv.records import PERSONS, Clip, Drop, DropReason, Key
from dyconv.speech.bleed import bleed_db
from dyconv.speech.remix import estimated_si_sdr_db
from dyconv.speech.turns import activity
from dyconv.stages.base import Files, Resources, Stage
from dyconv.time import SAMPLES_PER_FRAME

CHANNELS = "people.channels"  # the measure of `people`: "p0=0,p1=1" or "p0=1,p1=0"


@dataclass(frozen=True)
class Separate(Stage):
    """Attributes:
    separator: name in the model registry.
    max_bleed_db: drop a clip in which a voice has more of the partner than this; None takes all.
    max_overlap_share: drop a clip in which a larger share of a person's speech is overlapped; None takes all.
    min_si_sdr_db: drop a clip in which a voice is estimated to be worse than this in overlap; None takes all.
    """

    name: ClassVar[str] = "separate"
    version: ClassVar[int] = 2
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MIX, Key.SPEECH})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.P0_VOICE, Key.P1_VOICE})
    resources: ClassVar[Resources] = Resources(cpus=0.5)

    separator: str = "target_tasnet"
    max_bleed_db: float | None = None
    max_overlap_share: float | None = None
    min_si_sdr_db: float | None = None

    _model: ClassVar[Separator]  # set on the instance by setup

    def models(self) -> tuple[str, ...]:
        return (self.separator,)

    def setup(self) -> None:
        object.__setattr__(self, "_model", registry.load(self.separator))

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        spoken = activity(clip.turns, clip.frames)
        order = _own_channels(clip)
        if order is not None:
            voices = read_channels(files.path(clip, Key.CHANNELS))[list(order)]
            clip = _measured(clip, "channel: one person a channel of the source", [None, None])
        else:
            mix = read_audio(files.path(clip, Key.CLEAN if Key.CLEAN in clip.assets else Key.MIX))
            enrolment = _enrolment(clip, files)
            voices = self._model.separate(mix, spoken, enrolment)
            expected = estimated_si_sdr_db(self._model.separate, mix, voices, spoken, enrolment)
            clip = _measured(clip, self._model.method + _left_mixed(voices, spoken), expected)
        speech = load_arrays(files.path(clip, Key.SPEECH))
        clip = _compared(clip, voices, spoken, np.stack([speech[person] for person in PERSONS]))
        if refusal := self._refusal(clip):
            yield Drop(clip, DropReason.SEPARATION_POOR, refusal)
            return
        for person, voice in zip(PERSONS, voices, strict=True):
            path = files.new(clip, Key.of(person, "voice"))
            write_audio(path, voice)
            clip = files.add(clip, (Key.of(person, "voice"), path))
        yield clip

    def _refusal(self, clip: Clip) -> str | None:
        """What is wrong with the voices, or None. What could not be measured is no reason: there was nothing to measure."""
        most = (("bleed_db", self.max_bleed_db, "dB of bleed"), ("overlap_share", self.max_overlap_share, "overlap share"))
        for person in PERSONS:
            for name, limit, what in most:
                found = clip.measures[f"{person}.{name}"]
                if limit is not None and isinstance(found, float) and found > limit:
                    return f"expected at most {limit:g} {what}, found {found:g} in the voice of {person}"
            found = clip.measures[f"{person}.si_sdr_est_db"]
            if self.min_si_sdr_db is not None and isinstance(found, float) and found < self.min_si_sdr_db:
                return f"expected at least {self.min_si_sdr_db:g} dB of SI-SDR in overlap, estimated {found:g} for {person}"
        return None


def _own_channels(clip: Clip) -> tuple[int, int] | None:
    """The channels of p0 and p1 where each has one, else None.

    Raises:
        StoreError: where the measure says so in words that mean nothing.
    """
    told = clip.measures.get(CHANNELS)
    if not told or Key.CHANNELS not in clip.assets:
        return None
    known = {"p0=0,p1=1": (0, 1), "p0=1,p1=0": (1, 0)}
    if told not in known:
        raise StoreError(f"clip {clip.id}: expected {CHANNELS} to be one of {', '.join(known)}, found {told!r}")
    return known[str(told)]


def _enrolment(clip: Clip, files: Files) -> Sequence[np.ndarray]:
    """A sample of each voice without the silence it is padded with; nothing where the clip has none."""
    if Key.ENROLMENT not in clip.assets:
        return ()
    return [np.trim_zeros(sample, "b") for sample in read_channels(files.path(clip, Key.ENROLMENT))]


def _left_mixed(voices: np.ndarray, spoken: np.ndarray) -> str:
    """For the method: in how much of the overlap both voices are the same, that is, the mix."""
    both = np.repeat(spoken.all(axis=0), SAMPLES_PER_FRAME)[: voices.shape[1]]
    heard = both & (voices != 0).any(axis=0)[: len(both)]
    if not heard.any():
        return ""
    share = float((voices[0] == voices[1])[: len(both)][heard].mean())
    return f"; both voices are the mix in {share:.0%} of the overlap" if share > 0.005 else ""


def _measured(clip: Clip, method: str, expected: Sequence[float | None]) -> Clip:
    for person, value in zip(PERSONS, expected, strict=True):
        estimate = None if value is None else round(value, 2)
        clip = clip.measured(**{f"{person}__voice_method": method, f"{person}__si_sdr_est_db": estimate})
    return clip


def _compared(clip: Clip, voices: np.ndarray, spoken: np.ndarray, chance: np.ndarray) -> Clip:
    """Bleed and overlap, from voices [2, N], turns and probabilities of speech, both [2, T]."""
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
            }
        )
    return clip
