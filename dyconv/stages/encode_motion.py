"""Motion latents of every seen person, by the recipe's motion encoder, and a gate on faces too shaky to learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np

from dyconv.arrays import load_arrays, save_arrays
from dyconv.errors import StoreError
from dyconv.faces import MESH_POINTS, unpack_points
from dyconv.media.video import frame_count, read_frames
from dyconv.models import registry
from dyconv.records import PERSONS, Clip, Drop, DropReason, Key
from dyconv.stages.base import Files, Resources, Stage

if TYPE_CHECKING:
    from dyconv.models.slots import MotionEncoder


@dataclass(frozen=True)
class EncodeMotion(Stage):
    """Writes one row of latents a frame for each person with a face video.

    The head's rotation, fitted to the landmarks whatever the encoder is, decides whether the face was followed well.

    Attributes:
        encoder: name in the model registry.
        max_absent_share: of the clip's frames, those without a face.
        max_jitter_deg: median size of the change of the head's turning from frame to frame. A real head turns smoothly.
        jump_deg: a turn this large from one frame to the next is a jump; no head turns at 375 degrees a second.
        max_jump_share: of the pairs of neighbouring frames with a face.
    """

    name: ClassVar[str] = "encode_motion"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.P0_FACE, Key.P1_FACE, Key.P0_CROP, Key.P1_CROP})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.P0_MOTION, Key.P1_MOTION})
    optional: ClassVar[frozenset[Key]] = gives
    resources: ClassVar[Resources] = Resources(cpus=1.0)

    _encoder: ClassVar[MotionEncoder]  # set on the instance by setup

    encoder: str = "infp"
    max_absent_share: float = 0.2
    max_jitter_deg: float = 3.0
    jump_deg: float = 15.0
    max_jump_share: float = 0.02

    def models(self) -> tuple[str, ...]:
        return (self.encoder,)

    def setup(self) -> None:
        object.__setattr__(self, "_encoder", registry.load(self.encoder))

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        encoder = self._encoder
        measures: dict[str, float | str | None] = {"motion.encoder": encoder.name, "motion.hash": encoder.hash}
        cuts = [shot.frames.start for shot in clip.shots]
        made: list[tuple[Key, Path]] = []
        for person in PERSONS:
            if Key.of(person, "crop") not in clip.assets:
                continue
            crop = load_arrays(files.path(clip, Key.of(person, "crop")))
            landmarks, present = unpack_points(crop["landmarks"]), crop["present"]
            steadiness = steadiness_of(landmarks, present, cuts, self.jump_deg)
            measures |= {f"motion.{person}.{name}": round(value, 4) for name, value in steadiness.items()}
            if verdict := self._verdict(steadiness):
                yield Drop(clip, DropReason.MOTION_UNSTABLE, f"{person}: {verdict}")
                return
            latents = encoder.encode(FaceFrames(files.path(clip, Key.of(person, "face"))), landmarks)
            if latents.shape != (len(landmarks), len(encoder.names)):
                raise StoreError(f"encoder {encoder.name} gave latents {latents.shape} for {len(landmarks)} frames")
            path = files.new(clip, Key.of(person, "motion"))
            save_arrays(path, {"latents": latents.astype(np.float32), "present": present})
            made.append((Key.of(person, "motion"), path))
        done = files.add(clip, *made)
        yield done.measured(**measures) if made else done

    def _verdict(self, found: dict[str, float]) -> str | None:
        """What is wrong, in words, or None."""
        for name, limit, what in (
            ("absent_share", self.max_absent_share, "share of frames without a face"),
            ("jump_share", self.max_jump_share, f"share of frames in which the head jumps by {self.jump_deg:g} degrees"),
            ("jitter_deg", self.max_jitter_deg, "jitter of the head in degrees"),
        ):
            if found[name] > limit:
                return f"{what}: at most {limit:g} expected, {found[name]:.3g} found"
        return None


class FaceFrames(Sequence[np.ndarray]):
    """The frames of a face video, decoded when they are looked at: `mesh` asks for one, a trained encoder for all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = frame_count(path)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[np.ndarray]:
        return read_frames(self._path, 0, self._count)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._count)
            return list(read_frames(self._path, start, max(start, stop)))[::step] if step > 0 else list(self)[index]
        at = range(self._count)[index]
        return next(read_frames(self._path, at, at + 1))


def steadiness_of(landmarks: np.ndarray, present: np.ndarray, cuts: Sequence[int], jump_deg: float) -> dict[str, float]:
    """How well a face was followed, from landmarks [T, 478, 3] and where they were found, bool [T].

    Returns:
        `absent_share`, `jump_share` (turns above `jump_deg` between neighbouring frames) and `jitter_deg` (median of the
        angle by which one frame's turn differs from the last one's). Shots start at `cuts`: nothing is compared across.
    """
    from dyconv.models.mesh_basis import canonical
    from dyconv.models.mesh_motion import fit_pose

    absent = 1.0 - float(present.mean()) if len(present) else 1.0
    if not present.any():
        return {"absent_share": absent, "jump_share": 0.0, "jitter_deg": 0.0}
    rotation = fit_pose(landmarks[:, :MESH_POINTS].astype(np.float64), canonical())[1]
    turns = rotation[1:] @ rotation[:-1].swapaxes(1, 2)
    joined = present[1:] & present[:-1]
    joined[[cut - 1 for cut in cuts if 0 < cut < len(present)]] = False
    angles = _angle_deg(turns[joined])
    changes = _angle_deg(turns[1:] @ turns[:-1].swapaxes(1, 2))[joined[1:] & joined[:-1]]
    return {
        "absent_share": absent,
        "jump_share": float((angles > jump_deg).mean()) if len(angles) else 0.0,
        "jitter_deg": float(np.median(changes)) if len(changes) else 0.0,
    }


def _angle_deg(rotation: np.ndarray) -> np.ndarray:
    """Angle [N] in degrees of rotations [N, 3, 3]."""
    return np.asarray(np.degrees(np.arccos(np.clip((np.trace(rotation, axis1=1, axis2=2) - 1) / 2, -1, 1))))
