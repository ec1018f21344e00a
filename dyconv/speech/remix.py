"""How well a separator does on these two voices: mix what each says alone, separate it, compare.

The overlaps of a real clip have no truth. What the two people say alone has: laid over each other, as loud and as long
as in the clip's own overlaps, with a second of each alone before and after, it is an exam on the same voices, room and
microphones. SI-SDR of its answers is an estimate of the clip's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dyconv.score_metrics import mean, si_sdr_db
from dyconv.speech.bleed import frame_energy
from dyconv.speech.overlap import CONTEXT
from dyconv.speech.turns import runs
from dyconv.time import FPS, SAMPLES_PER_FRAME

TRIALS = 3
_SHORTEST, _LONGEST = round(0.4 * FPS), 3 * FPS  # frames of an exam's overlap
_LEVEL_DB = 10.0  # the two are never mixed further apart than this
Separate = Callable[[np.ndarray, np.ndarray, Sequence[np.ndarray]], np.ndarray]  # as models.slots.Separator.separate
_PIECE = FPS // 4  # frames of the shortest solo speech that is used


@dataclass(frozen=True, eq=False)
class Exam:
    """Two known voices float32 [2, n], who speaks when, float32 [2, n / 640], both in frames [start, stop); other speech."""

    voices: np.ndarray
    activity: np.ndarray
    start: int
    stop: int
    enrolment: Sequence[np.ndarray]


def estimated_si_sdr_db(
    separate: Separate, mix: np.ndarray, voices: np.ndarray, activity: np.ndarray, enrolment: Sequence[np.ndarray]
) -> list[float | None]:
    """SI-SDR in dB that each voice of this clip probably has where both speak.

    What is examined is kept from the enrolment that the separator gets in the exam. It is about 2 dB off for one voice.

    Args:
        separate: what made the voices.
        mix: mono 16 kHz float32 [N].
        voices: float32 [2, N], what the separator made: how loud each is in the overlaps.
        activity: who speaks when, float32 [2, T].
        enrolment: as the separator got it.

    Returns:
        One value a person; None for both where nobody overlaps, or where either says less than a second alone.
    """
    active = activity >= 0.5
    both = active[0] & active[1]
    if not both.any():
        return [None, None]
    solo = [_solo(mix, active, person) for person in range(2)]
    samples = [_frames(sample) for sample in enrolment] if len(enrolment) == 2 else [solo[0][:0]] * 2
    known = [max(pair, key=len) for pair in zip(solo, samples, strict=True)]
    if min(map(len, known)) < FPS:
        return [None, None]
    scores = []
    for exam in exams(known, *_overlap_like(voices, both)):
        found = separate(exam.voices.sum(axis=0), exam.activity, exam.enrolment)
        inside = slice(exam.start * SAMPLES_PER_FRAME, exam.stop * SAMPLES_PER_FRAME)
        scores.append([si_sdr_db(exam.voices[person, inside], found[person, inside]) for person in range(2)])
    return [mean([row[person] for row in scores]) for person in range(2)]


def exams(known: Sequence[np.ndarray], frames: int, level_db: float) -> list[Exam]:
    """Three mixtures of two people's own speech: one begins, both speak, the other ends.

    Args:
        known: what each says alone, float32 [n, 640], one row a frame.
        frames: wanted length of the overlaps; at most half of what somebody says.
        level_db: of the second against the first within the overlap.
    """
    frames = min(frames, *(len(own) // 2 for own in known))
    out = []
    for trial in range(TRIALS):
        begins = trial % 2
        cuts = [_Cut.of(len(own), frames, trial, leads=person == begins) for person, own in enumerate(known)]
        before, after = cuts[begins].around, cuts[1 - begins].around
        total = before + frames + after
        voices, activity = np.zeros((2, total, SAMPLES_PER_FRAME), np.float32), np.zeros((2, total), np.float32)
        for person, cut in enumerate(cuts):
            where = slice(0, before + frames) if person == begins else slice(before, total)
            voices[person, where], activity[person, where] = known[person][cut.start : cut.stop], 1.0
        power = (voices[:, before : before + frames] ** 2).mean(axis=(1, 2)) + 1e-9
        voices[1] *= np.sqrt(power[0] / power[1]) * 10 ** (level_db / 20)
        voices *= min(1.0, 0.9 / (np.abs(voices.sum(axis=0)).max() + 1e-9))
        rest = [np.concatenate([own[: cut.start], own[cut.stop :]]).ravel() for own, cut in zip(known, cuts, strict=True)]
        out.append(Exam(voices.reshape(2, -1), activity, before, before + frames, rest))
    return out


@dataclass(frozen=True)
class _Cut:
    """Rows [start, stop) of somebody's speech, `around` of which are outside the overlap."""

    start: int
    stop: int
    around: int

    @classmethod
    def of(cls, length: int, frames: int, trial: int, *, leads: bool) -> _Cut:
        """The overlap's rows, spread over the trials, with up to a second before (who leads) or after, a quarter at most."""
        start = (length - frames) * (2 * trial + 1) // (2 * TRIALS)
        most = min(CONTEXT, length // 4)
        around = min(most, start) if leads else min(most, length - start - frames)
        return cls(start - around, start + frames, around) if leads else cls(start, start + frames + around, around)


def _solo(mix: np.ndarray, active: np.ndarray, person: int) -> np.ndarray:
    """What one person says alone, frames [n, 640], in order of time."""
    alone = active[person] & ~active[1 - person]
    rows = _frames(mix)
    parts = [rows[start:end] for start, end in runs(alone[: len(rows)]) if end - start >= _PIECE]
    return np.concatenate(parts) if parts else rows[:0]


def _frames(samples: np.ndarray) -> np.ndarray:
    count = len(samples) // SAMPLES_PER_FRAME
    return samples[: count * SAMPLES_PER_FRAME].reshape(count, SAMPLES_PER_FRAME)


def _overlap_like(voices: np.ndarray, both: np.ndarray) -> tuple[int, float]:
    """Length in frames of a middling overlap of the clip, and by how many dB the second is louder in its overlaps."""
    lengths = sorted(end - start for start, end in runs(both))
    energy = np.array([frame_energy(voice, len(both))[both].mean() for voice in voices]) + 1e-9
    level = float(np.clip(10 * np.log10(energy[1] / energy[0]), -_LEVEL_DB, _LEVEL_DB))
    return int(np.clip(lengths[len(lengths) // 2], _SHORTEST, _LONGEST)), level
