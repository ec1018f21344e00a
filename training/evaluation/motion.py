"""Motion of a face as coefficients, in features that are a named choice, and the metrics on them.

- `mesh`: `dyconv.models.mesh_motion` of the landmarks that the evaluator finds, in units that are of one size. `expression` are
  the 21 measured expressions of `mesh_basis` (lengths in percent of the outer-eye distance, head pose removed; no gaze and no
  shape of the face), `pose` yaw, pitch and roll in degrees, and place x, y and scale in percent of the picture's width.
- `infp`: latents of an INFP motion encoder, one group `motion`: they do not tell expression from pose.
- `files`: 3DMM coefficients that another program has read off the videos, `expression` [T, De] and `pose` [T, Dp].

No number is without the name of its feature, as numbers of different features cannot be compared. Frames without a face are
not counted, whatever the feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dyconv.errors import UsageError
from training.evaluation.evidence import Arrays, Chunk, Extraction, Extractor, Role, Shown
from training.evaluation.faces import VERSION as FACES
from training.evaluation.metric import Choice, Family, Metric
from training.evaluation.results import Unavailable

if TYPE_CHECKING:
    from dyconv.infp.stage1 import Stage1
    from dyconv.models.mesh_motion import MeshMotion

ANGLES = ("head_yaw", "head_pitch", "head_roll")
FEATURES: Mapping[str, tuple[str, ...]] = {
    "mesh": ("expression", "pose"),
    "infp": ("motion",),
    "files": ("expression", "pose"),
}


def family(choice: Choice) -> Family:
    """All motion metrics of the features chosen.

    Raises:
        UsageError: for a feature that does not exist, or coefficients without their folders.
    """
    metrics: list[Metric] = []
    extractors: list[Extractor] = []
    missing: list[Unavailable] = []
    for feature in choice.features:
        if feature not in FEATURES:
            known = ", ".join(FEATURES)
            raise UsageError(f"expected motion features out of {known}, found `{feature}`", hint="see --features")
        of_feature = _metrics(feature, choice)
        if feature == "infp" and choice.stage1 is None:
            fix = "python -m training.evaluate --checkpoint W ... (a checkpoint names its encoder)"
            missing += [Unavailable(metric.name, "no INFP motion encoder was given", fix) for metric in of_feature]
            continue
        metrics += of_feature
        extractors.append(_extractor(feature, choice))
    return Family(tuple(metrics), tuple(extractors), unavailable=tuple(missing))


def _metrics(feature: str, choice: Choice) -> list[Metric]:
    from training.evaluation import motion_metrics as of
    from training.evaluation.entropy import Diversity, TruthRows

    plain = (of.Frechet, of.ClipFrechet, of.PairedFrechet, of.PairedClipFrechet, of.SquaredError)
    steady = (of.Variance, of.PooledVariance, of.ResidualCorrelation, of.PooledResidualCorrelation)
    rows = TruthRows(feature, FEATURES[feature])
    metrics: list[Metric] = []
    for group in FEATURES[feature]:
        sizes = sorted({pair[1 if group == "pose" else 0] for pair in choice.clusters}, reverse=True)
        metrics += [kind(feature, group) for kind in (*plain, *steady)]
        metrics += [Diversity(rows, group, size) for size in sizes]
    return metrics


def _extractor(feature: str, choice: Choice) -> Extractor:
    if feature == "mesh":
        return MeshFeatures()
    if feature == "infp" and choice.stage1 is not None:
        return LatentFeatures(choice.stage1)
    if choice.coefficients is None:
        raise UsageError(
            "expected two folders of coefficients for the feature `files`, found none",
            hint="name one of the ground truth and one of the system with --coefficients TRUTH SYSTEM",
        )
    return FileFeatures(*choice.coefficients)


class MeshFeatures:
    """`motion.mesh.expression` float32 [T, 21] and `motion.mesh.pose` float32 [T, 6]; zeros where the face is absent.

    Percent of the outer-eye distance; degrees and percent of the picture's width.
    """

    name = "motion.mesh"
    partner = True

    def __init__(self) -> None:
        from dyconv.models.mesh_basis import EXPRESSIONS
        from dyconv.models.mesh_motion import POSE, MeshMotion

        self._mesh = MeshMotion()
        names = list(self._mesh.names)
        self._columns = {"expression": [names.index(name) for name in EXPRESSIONS], "pose": [names.index(p) for p in POSE]}
        self._units = np.full(len(names), 100.0, np.float32)
        self._units[[names.index(name) for name in ANGLES]] = np.rad2deg(1.0)
        self.version = f"2.{FACES}.{self._mesh.hash[:16]}"

    def begin(self, shown: Shown) -> Extraction:
        return _MeshReading(self.name, self._mesh, self._columns, self._units)


class _MeshReading:
    def __init__(self, name: str, mesh: MeshMotion, columns: Mapping[str, Sequence[int]], units: np.ndarray) -> None:
        self._name, self._mesh, self._columns, self._units = name, mesh, columns, units
        self._parts: list[np.ndarray] = []

    def feed(self, chunk: Chunk) -> None:
        part = np.zeros((len(chunk), len(self._mesh.names)), np.float32)
        if chunk.present.any():
            part[chunk.present] = self._mesh.encode(list(chunk.pictures[:1]), chunk.landmarks[chunk.present])
        self._parts.append(part)

    def finish(self) -> Arrays:
        motion = np.concatenate(self._parts) * self._units
        return {f"{self._name}.{group}": motion[:, columns] for group, columns in self._columns.items()}


class LatentFeatures:
    """`motion.infp.motion` float32 [T, latent]: latents of the masked frames; zeros where the face is absent."""

    name = "motion.infp"
    partner = True

    def __init__(self, stage1: Stage1) -> None:
        self._stage1 = stage1
        self.version = f"1.{FACES}.{stage1.encoder_hash[:16]}"

    def begin(self, shown: Shown) -> Extraction:
        return _LatentReading(self.name, self._stage1)


class _LatentReading:
    def __init__(self, name: str, stage1: Stage1) -> None:
        self._name, self._stage1 = name, stage1
        self._parts: list[np.ndarray] = []

    def feed(self, chunk: Chunk) -> None:
        from dyconv.infp.stage1 import encode_frames

        config = self._stage1.config
        part = np.zeros((len(chunk), config.latent), np.float32)
        if chunk.present.any():
            shown, landmarks = chunk.pictures[chunk.present], chunk.landmarks[chunk.present]
            part[chunk.present] = encode_frames(self._stage1.encoder, config.size, shown, landmarks)
        self._parts.append(part)

    def finish(self) -> Arrays:
        return {f"{self._name}.motion": np.concatenate(self._parts)}


class FileFeatures:
    """`motion.files.expression` and `.pose`, float32 [T, D], from files.

    `<folder>/<clip>.<person>.npz` has the arrays `expression` [T, De] and `pose` [T, Dp] of that person's video at 25 fps; a
    partner's are found as their own. Those of made videos may lie in `<folder>/<system>/<view>/`, `<folder>/<system>/` or
    `<folder>/<view>/`; they have to lie below a folder of their system as soon as there are two.

    Args:
        truth, made: folders.
    """

    name = "motion.files"
    partner = True

    def __init__(self, truth: Path, made: Path) -> None:
        self._folders = {Role.TRUTH: truth, Role.MADE: made, Role.PARTNER: truth}
        self._widths: dict[str, tuple[int, Path]] = {}
        self._system = ""  # whose coefficients lie there without a folder of its own
        for folder in (truth, made):
            if not folder.is_dir():
                raise UsageError(f"expected a folder of coefficients, found none at {folder}", hint="see --coefficients")
        self.version = f"1.{_fingerprint((truth, made))}"

    def begin(self, shown: Shown) -> Extraction:
        """
        Raises:
            StoreError: where the file is damaged.
            UsageError: where it is missing or its arrays do not fit.
        """
        path = self._find(shown)
        return _Loaded(self.name, {group: self._array(path, group, shown.frames) for group in FEATURES["files"]})

    def _find(self, shown: Shown) -> Path:
        name, view, folder = f"{shown.case.name}.npz", shown.case.view, self._folders[shown.role]
        own = [folder / shown.system / view / name, folder / shown.system / name] if shown.system else []
        common = [folder / view / name, folder / name]
        path = next((place for place in (*own, *common) if place.is_file()), None)
        hint = "write that file, or leave this clip out with --without"
        if path is None:
            where = ", ".join(str(place) for place in (*own, *common))
            raise UsageError(f"expected coefficients of {shown.case.name} at one of {where}, found none", hint=hint)
        if shown.system and path in common and shown.system != (self._system or shown.system):
            raise UsageError(
                f"expected coefficients of {shown.system} at {own[-1]}, found only {path}, which were taken for {self._system}",
                hint=f"put the coefficients of each system in a folder of its name: {folder}/<system>/",
            )
        if path in common:
            self._system = shown.system or self._system
        return path

    def _array(self, path: Path, group: str, frames: int) -> np.ndarray:
        from dyconv.arrays import load_arrays

        values = load_arrays(path).get(group)
        hint = f"write `{group}` as numbers [{frames}, D], one row a frame at 25 fps, with the same D in every file"
        if values is None:
            raise UsageError(f"{path}: expected an array `{group}`, found none", hint=hint)
        if values.ndim != 2 or len(values) != frames or not values.shape[1] or values.dtype.kind not in "fiu":
            found = f"{values.dtype} {list(values.shape)}"
            raise UsageError(f"{path}: expected `{group}` as numbers [{frames}, D], found {found}", hint=hint)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise UsageError(f"{path}: expected finite numbers in `{group}`, found NaN or infinity in frame {row}", hint=hint)
        width, first = self._widths.setdefault(group, (values.shape[1], path))
        if values.shape[1] != width:
            raise UsageError(f"{path}: expected {width} columns of `{group}` as in {first}, found {values.shape[1]}", hint=hint)
        return values.astype(np.float32)


class _Loaded:
    """Arrays that were there before."""

    def __init__(self, name: str, arrays: Arrays) -> None:
        self._arrays = {f"{name}.{group}": values for group, values in arrays.items()}

    def feed(self, chunk: Chunk) -> None:
        """Pictures tell nothing here."""

    def finish(self) -> Arrays:
        return self._arrays


def _fingerprint(folders: Sequence[Path]) -> str:
    """Of the names, sizes and times of change of all coefficient files."""
    import hashlib

    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.npz")):
            about = path.stat()
            digest.update(f"{path.relative_to(folder)} {about.st_size} {about.st_mtime_ns}\n".encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]
