"""How good Stage 2 is on the voices of a build's people: does the mouth speak, and does it keep still while listening?

Motion is read off latents by a probe (`training.infp.probes`). The mouth's opening is in outer-eye distances, its energy the
variance over time, correlations are Pearson's. Each voice is heard three ways: as the own one, as the partner's, and in
turns with another person's, four seconds each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dyconv.infp.stage1 import Stage1, encode_frames
from dyconv.infp.stage2 import Guidance, Stage2
from dyconv.speech.attribute import SPEECH
from dyconv.time import FPS, SAMPLES_PER_FRAME
from training.infp.measuring import Seen, people_of
from training.infp.probes import TARGETS, Probe, targets_of

_TURN = 4 * FPS
_MOST = 20 * FPS  # frames of a clip that are generated
_MOUTH = TARGETS.index("mouth_open")
_HEAD = [TARGETS.index(name) for name in ("head_yaw", "head_pitch", "head_roll")]


@dataclass(frozen=True)
class Talker:
    """One person's motion and voice, T frames.

    Attributes:
        latents: float32 [T, latent].
        wanted: `TARGETS` of the real face, float32 [T, targets].
        voice: float32 [T * 640].
        speaks: bool [T].
    """

    clip: str
    latents: np.ndarray
    wanted: np.ndarray
    voice: np.ndarray
    speaks: np.ndarray

    @property
    def loudness(self) -> np.ndarray:
        """Log energy of the voice by frame, smoothed over five."""
        energy = np.square(self.voice.reshape(-1, SAMPLES_PER_FRAME)).mean(axis=1)
        return np.convolve(np.log10(energy + 1e-6), np.ones(5) / 5, "same")


def talkers_of(build: str, stage1: Stage1, *, least_s: float = 3.0) -> list[Talker]:
    """Those of a build who are seen throughout `least_s` seconds or more, and heard."""
    from dyconv.models.silero import SileroVad

    vad, out = SileroVad(), []
    for seen in people_of(build, stage1.config.size, voices=True):
        count = min(_unbroken(seen), _MOST)
        if count < least_s * FPS or len(seen.voice) < count * SAMPLES_PER_FRAME:
            continue
        pictures, landmarks = seen.pictures[:count], seen.landmarks[:count]
        voice = seen.voice[: count * SAMPLES_PER_FRAME]
        speaks = vad.speech(voice) >= SPEECH
        if speaks.sum() < FPS:
            continue
        latents = encode_frames(stage1.encoder, stage1.config.size, pictures, landmarks)
        out.append(Talker(seen.clip, latents, targets_of(landmarks, stage1.config.size), voice, speaks))
    return out


def _unbroken(seen: Seen) -> int:
    """Frames from the first on without a gap, where the first frame shows the face."""
    steps = np.flatnonzero(np.diff(seen.frames) != 1)
    if not len(seen.frames) or seen.frames[0]:
        return 0
    return int(steps[0]) + 1 if len(steps) else len(seen.frames)


def measure_stage2(
    model: Stage2, probe: Probe, talkers: Sequence[Talker], *, guidance: Guidance | None = None
) -> dict[str, float]:
    """Means over talkers; each gets the style of their own frames and, as shuffled control, the voice of the next one."""
    rows = [
        _measure(model, probe, talker, talkers[(index + 1) % len(talkers)], guidance) for index, talker in enumerate(talkers)
    ]
    told = {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}
    shares = {
        "listening_energy_share": told["mouth_energy_listening"] / told["mouth_energy_talking"],
        "turns_energy_share": told["turns_energy_partner"] / told["turns_energy_own"],
        "swapped_energy_share": told["swapped_energy_partner"] / told["swapped_energy_own"],
        "head_var_listening_share": told["head_var_listening"] / told["head_var_real"],
        "head_var_talking_share": told["head_var_talking"] / told["head_var_real"],
        "mouth_var_talking_share": told["mouth_energy_talking"] / told["mouth_energy_real"],
    }
    return {"talkers": float(len(talkers)), **told, **shares}


def _measure(model: Stage2, probe: Probe, talker: Talker, other: Talker, guidance: Guidance | None) -> dict[str, float]:
    """One talker's figures."""

    def motion(own: np.ndarray | None, partner: np.ndarray | None, seed: int = 0) -> np.ndarray:
        made: torch.Tensor = model.generate(own, partner, talker.latents[::5], seed=seed, guidance=guidance)
        return probe(made.cpu().numpy())

    count = len(talker.wanted)
    control = np.resize(other.voice, len(talker.voice))
    talking, shuffled = motion(talker.voice, None), motion(control, None)
    listening, again = motion(None, talker.voice), motion(talker.voice, None, seed=1)
    turn = (np.arange(count) // _TURN) % 2 == 0
    mine, theirs = (np.where(np.repeat(which, SAMPLES_PER_FRAME), talker.voice, 0.0) for which in (turn, ~turn))
    turns, swapped = (
        motion(own.astype(np.float32), partner.astype(np.float32)) for own, partner in ((mine, theirs), (theirs, mine))
    )
    speaks, wanted = talker.speaks, talker.wanted[:, _MOUTH]
    return {
        "r_loudness": _r(talking[:, _MOUTH], talker.loudness),
        "r_loudness_shuffled": _r(shuffled[:, _MOUTH], talker.loudness),
        "r_real_loudness": _r(wanted, talker.loudness),
        "r_mouth": _r(talking[speaks, _MOUTH], wanted[speaks]),
        "r_mouth_shuffled": _r(shuffled[speaks, _MOUTH], wanted[speaks]),
        "mouth_energy_real": float(wanted.var()),
        "mouth_energy_talking": float(talking[:, _MOUTH].var()),
        "mouth_energy_listening": float(listening[:, _MOUTH].var()),
        "turns_energy_own": _energy(turns, turn),
        "turns_energy_partner": _energy(turns, ~turn),
        "swapped_energy_own": _energy(swapped, ~turn),
        "swapped_energy_partner": _energy(swapped, turn),
        "head_var_real": float(talker.wanted[:, _HEAD].var(axis=0).sum()),
        "head_var_talking": float(talking[:, _HEAD].var(axis=0).sum()),
        "head_var_listening": float(listening[:, _HEAD].var(axis=0).sum()),
        "seeds_differ": float(np.abs(talking - again)[:, _MOUTH].mean() / max(talking[:, _MOUTH].std(), 1e-9)),
        "seed_repeats": float(np.array_equal(talking, motion(talker.voice, None))),
    }


def _energy(motion: np.ndarray, when: np.ndarray) -> float:
    """Variance of the mouth's opening in some frames; NaN where they are under a second."""
    return float(motion[when, _MOUTH].var()) if when.sum() >= FPS else float("nan")


def _r(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else float("nan")
