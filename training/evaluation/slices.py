"""Slices: by name, the frames of a case that results are told of apart.

- `all`.
- `state=speaking|listening|both|silent`: who speaks by the turns of the record. Frames with speech that is nobody's (off
  screen, or not decided) are not silent.
- `pose=frontal|turned|profile`: the yaw of the true face, below 15 degrees to either side, below 40, and from there on.
- `overlap=<2%|2-10%|>10%`: of the clip, as a share of its time.
- `language=...`, `layout=...`, `version=...` (of the release): of the clip, where they are known.
- `identity=seen|unseen`: whether the source was trained on, where that is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dyconv.faces import MESH_POINTS
from dyconv.records import PERSONS, Clip
from dyconv.shards.table import common, seconds_of, union
from dyconv.time import Span
from training.evaluation.case import ALL

TURNED, PROFILE = 15.0, 40.0  # degrees of yaw from which a face is
_SOME_OVERLAP, _MUCH_OVERLAP = 0.02, 0.10  # share of the clip from which, and beyond which


@dataclass(frozen=True)
class Labels:
    """What is told of a clip outside its record.

    Attributes:
        release: version of the release it is in.
        unseen: whether its source took no part in training; None where that is not known.
    """

    release: str | None = None
    language: str | None = None
    unseen: bool | None = None


def slices_of(
    clip: Clip, person: str, landmarks: np.ndarray, present: np.ndarray, labels: Labels | None = None
) -> dict[str, np.ndarray]:
    """Masks bool [T] by name, those without a frame left out.

    Args:
        landmarks: float [T, 478, 3] of the true face.
        present: bool [T], where it was found.
    """
    labels = labels or Labels()
    frames = len(present)
    whole = {
        ALL: True,
        f"overlap={overlap_of(clip)}": True,
        f"language={labels.language or clip.source.language}": bool(labels.language or clip.source.language),
        f"layout={clip.layout}": bool(clip.layout),
        f"version={labels.release}": bool(labels.release),
        f"identity={'unseen' if labels.unseen else 'seen'}": labels.unseen is not None,
    }
    masks = {name: np.full(frames, there) for name, there in whole.items()}
    masks |= states(clip, person, frames) | poses(landmarks, present)
    return {name: mask for name, mask in masks.items() if mask.any()}


def states(clip: Clip, person: str, frames: int) -> dict[str, np.ndarray]:
    """Who speaks, bool [T] by `state=...`."""
    own, partner, others = (
        _spoken([turn.span for turn in clip.turns if turn.person == who], frames)
        for who in (person, PERSONS[1 - PERSONS.index(person)], None)
    )
    return {
        "state=speaking": own & ~partner,
        "state=listening": partner & ~own,
        "state=both": own & partner,
        "state=silent": ~own & ~partner & ~others,
    }


def poses(landmarks: np.ndarray, present: np.ndarray) -> dict[str, np.ndarray]:
    """How far the head is turned to a side, bool [T] by `pose=...`; frames without a face are in none."""
    yaw = np.zeros(len(present))
    yaw[present] = yaw_of(landmarks[present])
    return {
        "pose=frontal": present & (yaw < TURNED),
        "pose=turned": present & (yaw >= TURNED) & (yaw < PROFILE),
        "pose=profile": present & (yaw >= PROFILE),
    }


def yaw_of(landmarks: np.ndarray) -> np.ndarray:
    """Degrees from the front, float [n], of landmarks [n, 478, 3]: of the head's pose in `mesh` motion."""
    from dyconv.models.mesh_basis import canonical
    from dyconv.models.mesh_motion import angles_of, fit_pose

    if not len(landmarks):
        return np.zeros(0)
    _, rotation, _ = fit_pose(landmarks[:, :MESH_POINTS].astype(np.float64), canonical())
    return np.asarray(np.abs(np.degrees(angles_of(rotation)[:, 0])))


def overlap_of(clip: Clip) -> str:
    """The class of the share of a clip in which both speak."""
    spoken = [union([turn.span for turn in clip.turns if turn.person == person]) for person in PERSONS]
    share = seconds_of(common(*spoken)) / (float(clip.span.duration) or 1.0)
    return "<2%" if share < _SOME_OVERLAP else "2-10%" if share <= _MUCH_OVERLAP else ">10%"


def _spoken(spans: Sequence[Span], frames: int) -> np.ndarray:
    mask = np.zeros(frames, bool)
    for span in spans:
        inside = span.frames
        mask[max(inside.start, 0) : max(inside.stop, 0)] = True
    return mask
