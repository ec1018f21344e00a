"""How a face's motion goes with the voices: mouth with loudness, head beats with onsets, still while the partner speaks."""

from __future__ import annotations

import numpy as np

from dyconv.time import FPS
from training.evaluation.behaviour import around, opening_speed, turning_speed
from training.evaluation.curves import NAME
from training.evaluation.distances import Mean, mean_sums
from training.evaluation.evidence import Evidence
from training.evaluation.metric import Metric, Replay, Sums

LAGS = 5  # frames to either side in which the best fit of mouth and voice is looked for
_LEAST = 2 * FPS  # frames that a correlation is taken of
_SMOOTH = np.ones(5) / 5
_QUIET = -4.0  # log10 energy below which nobody is heard: -40 dB of full scale
_EVEN = 1e-3  # deviation of log10 energy below which a voice is constant
_RISE = 0.3  # by which an onset is louder than three frames before, log10: 3 dB
_TREMBLING = 1.0  # %/s: a mouth that is slower while speaking does not move at all
_MOVING = 5.0  # deg/s: a head that is slower does not move
_SIGMA_SPEED = 2.0  # frames that its speed is smoothed over
_SIGMA_ENERGY = 3.0  # the same of the mouth's and the voice's energy
_SIGMA = 2.5  # frames, 0.1 s: how near a beat has to be to an onset


def rhythms() -> list[Metric]:
    """All of them."""
    return [VoiceFit(), VoiceLag(), EnergyFit(), BeatAlignment(), BeatLift(), ListeningMotion()]


def loudness(energy: np.ndarray) -> np.ndarray:
    """Log10 energy float64 [T], not below -40 dB: how silent a silence is says nothing."""
    return np.maximum(energy.astype(np.float64), _QUIET)


def fit_by_lag(mouth: np.ndarray, energy: np.ndarray, used: np.ndarray) -> np.ndarray | None:
    """Pearson's r of opening and loudness where the mouth comes -5 to 5 frames after the voice, float64 [11].

    A mouth that keeps still goes with nothing: 0. None with under two seconds of frames, or where the voice is constant.

    Args:
        mouth, energy: [T]; energy is smoothed over 5 frames.
        used: bool [T], frames of the mouth that count.
    """
    loud = np.convolve(np.pad(loudness(energy), 2, mode="edge"), _SMOOTH, "valid")
    frames = np.flatnonzero(used)
    out = np.zeros(2 * LAGS + 1)
    for place, lag in enumerate(range(-LAGS, LAGS + 1)):
        here = frames[(frames - lag >= 0) & (frames - lag < len(loud))]
        if len(here) < _LEAST - LAGS:
            return None
        one, other = mouth[here].astype(np.float64), loud[here - lag]
        if other.std() < _EVEN:
            return None
        out[place] = np.corrcoef(one, other)[0, 1] if one.std() > 1e-5 else 0.0
    return out


class _VoiceCurve(Mean):
    """The mean over clips of r by lag: a clip alone has too little of it for a lag of its own."""

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        if evidence.own.max(initial=_QUIET) <= _QUIET:
            return None
        found = fit_by_lag(evidence.made[f"{NAME}.mouth"], evidence.own, mask & evidence.made["present"])
        return None if found is None else {"sum": found, "count": np.asarray(1.0)}


class VoiceFit(_VoiceCurve):
    """Pearson's r of the mouth's opening with the log energy of the own voice, mean over clips, at the set's best lag."""

    def __init__(self) -> None:
        about = "r of the mouth's opening and the own voice's log energy, mean over clips, at the best lag within 5 frames"
        super().__init__("align.voice", better="truth", unit="", about=about)

    def value(self, sums: Sums) -> float:
        return float(self.values({name: array[None] for name, array in sums.items()})[0])

    def values(self, sums: Sums) -> np.ndarray:
        known = sums["count"] != 0
        return np.where(known, sums["sum"].max(axis=1) / np.where(known, sums["count"], 1.0), np.nan)


class VoiceLag(_VoiceCurve):
    """That lag: by how many frames the mouth comes after the voice (negative: before it)."""

    def __init__(self) -> None:
        about = "frames by which the mouth's opening follows the own voice's log energy where they fit best"
        super().__init__("align.lag", better="truth", unit="frames", about=about)

    def value(self, sums: Sums) -> float:
        return float(self.values({name: array[None] for name, array in sums.items()})[0])

    def values(self, sums: Sums) -> np.ndarray:
        return np.where(sums["sum"].max(axis=1) > 0, sums["sum"].argmax(axis=1) - float(LAGS), np.nan)


class EnergyFit(Mean):
    """Pearson's r of how much the mouth moves with the log energy of the own voice at the same time, mean over clips.

    Both are smoothed by a Gaussian of 0.12 s. A speaking mouth opens and closes where the voice is loud; how far it is open
    in a frame follows the vowels, so that this says more than `VoiceFit`.
    """

    def __init__(self) -> None:
        about = "r of the mouth's speed and the own voice's log energy, both smoothed over 0.12 s, mean over clips"
        super().__init__("align.energy", better="truth", unit="", about=about)

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        from scipy.ndimage import gaussian_filter1d

        known = around(evidence.made["present"], 1)
        speed = np.where(known, np.abs(np.nan_to_num(opening_speed(evidence.made[f"{NAME}.mouth"]))), 0.0)
        used = mask & known
        if used.sum() < _LEAST:
            return None
        moves, loud = (gaussian_filter1d(each, _SIGMA_ENERGY)[used] for each in (speed, loudness(evidence.own)))
        if loud.std() < _EVEN:
            return None
        return mean_sums(np.array([np.corrcoef(moves, loud)[0, 1] if moves.std() > 1e-3 else 0.0]))


def onsets_of(energy: np.ndarray) -> np.ndarray:
    """Frames, int [n], at which a voice sets in or grows loud, of its log10 energy [T].

    Where energy above -40 dB is 3 dB or more above that of three frames before, and this rise is the steepest within 3 frames.
    """
    level = loudness(energy)
    rise = level - np.concatenate([np.repeat(level[:1], 3), level[:-3]])
    return _peaks(rise, 3, _RISE)


def beats_of(head: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Frames, int [n], in which a head moves fastest: the nods and turns of yaw, pitch and roll [T, 3].

    Peaks within 3 frames of its speed, smoothed over about 5 frames, where it is 5 deg/s and its median or more.
    """
    from scipy.ndimage import gaussian_filter1d

    known = around(present, 2)
    if not known.any():
        return np.zeros(0, np.int64)
    speed = gaussian_filter1d(np.where(known, np.nan_to_num(turning_speed(head)), 0.0), _SIGMA_SPEED)
    found = _peaks(speed, 3, max(_MOVING, float(np.median(speed[known]))))
    return found[known[found]]


def _peaks(values: np.ndarray, reach: int, least: float) -> np.ndarray:
    """Where values [T] are `least` or more and the largest within `reach`; of equal ones the first."""
    padded = np.pad(values, reach, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    return np.flatnonzero((windows.argmax(axis=1) == reach) & (values >= least))


class BeatAlignment(Mean):
    """Beat alignment of head motion with the own voice.

    Mean over head beats of exp(-d^2 / (2 sigma^2)), d the frames to the nearest onset of the voice, sigma 0.1 s: the score of
    Li et al., "AI Choreographer", ICCV 2021, with onsets of a voice for beats of music, and with peaks of the head's speed (the
    strokes of nods) where dancers are beaten by the poses they hold: heads do not hold poses. Where onsets are dense it is high
    by chance: see `BeatLift`.
    """

    def __init__(self) -> None:
        about = "mean over head beats of exp(-d^2 / (2 sigma^2)), d to the nearest onset of the own voice, sigma 0.1 s"
        super().__init__("align.beat", better="truth", unit="", about=about)

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        found = beat_scores(evidence, mask)
        return None if found is None else mean_sums(found[0])


class BeatLift:
    """The same over what beats at any frame would have: 1 where head and voice have nothing to do with one another."""

    name, better, unit = "align.beat_lift", "truth", ""
    about = "beat alignment of head and own voice over that of beats at random: 1 is chance"
    needs = frozenset({NAME})
    heavy = False

    def prepare(self, truths: Replay) -> None:
        """Nothing to fit."""

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        """Each case's chance counts as often as it has beats."""
        found = beat_scores(evidence, mask)
        if found is None:
            return None
        return {"sum": np.asarray(found[0].sum()), "chance": np.asarray(found[1].mean() * len(found[0]))}

    def value(self, sums: Sums) -> float:
        return float(sums["sum"] / sums["chance"]) if sums["chance"] > 0 else float("nan")


def beat_scores(evidence: Evidence, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Nearness to an onset, 0 to 1, of the head beats in a mask, and of all its frames; None without beats or onsets."""
    onsets, present = onsets_of(evidence.own), evidence.made["present"]
    beats = beats_of(evidence.made[f"{NAME}.head"], present)
    beats = beats[mask[beats]]
    if not len(onsets) or not len(beats):
        return None
    beside, every = (np.abs(frames[:, None] - onsets).min(axis=1) for frames in (beats, np.flatnonzero(mask & present)))
    return np.exp(-(beside**2) / (2 * _SIGMA**2)), np.exp(-(every**2) / (2 * _SIGMA**2))


class ListeningMotion:
    """Mean speed of the mouth while listening over that while speaking: near 0 for a listener who keeps the mouth still.

    Who speaks when is told by the slices `state=listening` and `state=speaking`. NaN for a mouth that never moves: the ratio
    would be one of how landmarks tremble.
    """

    name, better, unit = "mouth.listening", "truth", ""
    about = "mean speed at which the mouth opens and closes while listening, over that while speaking"
    needs = frozenset({NAME})
    heavy = False

    def prepare(self, truths: Replay) -> None:
        """Nothing to fit."""

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        speed = np.where(around(evidence.made["present"], 1), opening_speed(evidence.made[f"{NAME}.mouth"]), np.nan)
        out: dict[str, np.ndarray] = {}
        for state in ("listening", "speaking"):
            frames = evidence.slices.get(f"state={state}")
            values = speed[mask & frames] if frames is not None else speed[:0]
            values = values[~np.isnan(values)]
            out[state], out[f"{state}_n"] = np.asarray(np.abs(values).sum()), np.asarray(float(len(values)))
        return out if out["listening_n"] or out["speaking_n"] else None

    def value(self, sums: Sums) -> float:
        listening, speaking = (sums[state] / max(sums[f"{state}_n"], 1.0) for state in ("listening", "speaking"))
        known = sums["listening_n"] and sums["speaking_n"] and speaking >= _TREMBLING
        return float(listening / speaking) if known else float("nan")
