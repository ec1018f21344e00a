"""The default separator: an exact copy where one person speaks, a small network of our own where two do.

It is told who speaks when, and knows each of the two by what they say alone: in the enrolment, in the mix, and right before
and after an overlap (see `dyconv.models.target_tasnet_hints`). No person has an advantage from being called p0. Where two
voices cannot be told apart the odds are even, and both get half of the sound; where nothing at all is known of one of them,
both get the mix: mixed is better than exchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dyconv.errors import ModelMissing
from dyconv.speech.overlap import Piece, two_voices
from dyconv.speech.turns import runs
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME

if TYPE_CHECKING:
    from torch import Tensor

    from dyconv.models.target_tasnet_hints import Known
    from dyconv.models.target_tasnet_net import Corrector

_LEAST = SAMPLE_RATE // 2  # samples of an enrolment that says anything
_NEAR = 4 * SAMPLES_PER_FRAME  # samples alone beside an overlap whose spectra are used too
_MOST = 24 * SAMPLE_RATE  # samples of an enrolment that are used


class TargetTasnet:
    """Voices of two people.

    Args:
        weights: safetensors with the network's sizes in its header, as `training.separation.export` writes it.

    Raises:
        ModelMissing: if the file is not one of this network.
    """

    method = "target_tasnet: the mix where one speaks, separated by enrolment and turns in overlap"

    def __init__(self, weights: Path) -> None:
        self._net = _load(weights)

    def separate(self, mix: np.ndarray, activity: np.ndarray, enrolment: Sequence[np.ndarray] = ()) -> np.ndarray:
        """Voices float32 [2, N] of mono 16 kHz `mix` [N] and activity [2, T] in 0 to 1.

        What a person says alone in this mix adds to a short enrolment, or stands for one.

        Raises:
            ValueError: for another number of people than two.
        """
        import torch

        from dyconv.models.target_tasnet_hints import known

        if len(activity) != 2:
            raise ValueError(f"expected the activity of two people, found {len(activity)}")
        if not (np.asarray(activity) >= 0.5).all(axis=0).any():
            return two_voices(mix, activity, lambda piece, part, active: None)
        given = [own if np.any(own) else mix[:0] for own in enrolment] if len(enrolment) == 2 else [mix[:0]] * 2
        samples = [np.concatenate([own, _alone(mix, activity, person)])[:_MOST] for person, own in enumerate(given)]
        if min(map(len, samples)) < _LEAST:
            return two_voices(mix, activity, lambda piece, part, active: None)
        with torch.inference_mode():
            voices = [known(torch.from_numpy(np.ascontiguousarray(own, np.float32))) for own in samples]

            def separate(piece: Piece, part: np.ndarray, active: np.ndarray) -> np.ndarray:
                return self._piece(torch.from_numpy(part), active, voices)

            return two_voices(mix, activity, separate)

    def _piece(self, part: Tensor, active: np.ndarray, voices: Sequence[Known]) -> np.ndarray:
        """Both voices [2, n] of one piece [n]; spectra of what is said alone around the overlap are known as well."""
        import torch

        from dyconv.models.target_tasnet_hints import analyse, at_unit_level, columns, hints, known, synthesise

        alone = active & ~active[::-1]
        near = []
        for solo, voice in zip(alone, voices, strict=True):
            own = part[torch.from_numpy(np.repeat(solo, SAMPLES_PER_FRAME))]
            more = [known(own).spectra] if len(own) >= _NEAR else []
            near.append(voice._replace(spectra=torch.cat([voice.spectra, *more], dim=1)))
        told = hints(at_unit_level(part), (near[0], near[1]), columns(torch.from_numpy(alone.astype(np.float32))))
        first = synthesise(analyse(part) * self._net.mask(told), len(part))
        return np.asarray(torch.stack([first, part - first]).numpy())


def _alone(mix: np.ndarray, activity: np.ndarray, person: int) -> np.ndarray:
    """What one person says alone in the mix, the longest stretches first, at most 24 s."""
    active = np.asarray(activity) >= 0.5
    stretches = sorted(runs(active[person] & ~active[1 - person]), key=lambda run: (run[0] - run[1], run[0]))
    parts = [mix[start * SAMPLES_PER_FRAME : end * SAMPLES_PER_FRAME] for start, end in stretches]
    return np.concatenate(parts)[:_MOST] if parts else mix[:0]


def _load(path: Path) -> Corrector:
    from safetensors import SafetensorError, safe_open

    from dyconv.bounds import parse_json
    from dyconv.models.sized import sized_by
    from dyconv.models.target_tasnet_net import Corrector, Shape

    hint = "make it with: python -m training.separation.export"
    try:
        with safe_open(str(path), framework="pt") as file:
            shape = Shape(**parse_json((file.metadata() or {})["shape"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ModelMissing(f"{path} does not hold weights of target_tasnet: {error}", hint=hint) from error
    with sized_by(tensors.values(), path, hint):
        net = Corrector(shape)
        net.load_state_dict(tensors)
    return net.eval()
