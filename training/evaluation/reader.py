"""Reads evidence off videos: decodes once, finds the face once, feeds whoever has not seen the video yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dyconv.errors import StoreError
from dyconv.records import PERSONS
from dyconv.store import sha256_of
from dyconv.time import SAMPLES_PER_FRAME
from training.evaluation.case import Case, Truth
from training.evaluation.evidence import Arrays, Chunk, Comparison, Evidence, Extraction, Extractor, Role, Shown
from training.evaluation.faces import VERSION as FACES_VERSION
from training.evaluation.faces import FaceReader
from training.evaluation.kept import Kept, key_of
from training.evaluation.spent import Spent
from training.evaluation.videos import BadVideo, Video, open_video

FACES = "faces"  # what finds landmarks, by the name its time and key go under
CASE = "case"
_COUNT = 32  # frames in a chunk
_FLOOR = 1e-6  # of a frame's energy, so that silence has a logarithm


class Reader:
    """
    Args:
        out: folder that evidence is kept in.
        size: pixels that every video is looked at.
        set_key: of the set of truths: evidence of another one is not used.
    """

    def __init__(
        self,
        out: Path,
        size: int,
        extractors: Sequence[Extractor],
        comparisons: Sequence[Comparison],
        *,
        set_key: str,
        device: torch.device,
        spent: Spent,
    ) -> None:
        self.out, self.size, self.set_key, self.device, self.spent = out, size, set_key, device, spent
        self.extractors, self.comparisons = tuple(extractors), tuple(comparisons)
        self._faces = FaceReader()
        self._sizes: dict[str, int] = {}  # of each system's videos

    def read_truth(self, truth: Truth) -> None:
        """Evidence of the true video and of the partner's.

        Raises:
            DyconvError: where one of them is damaged.
        """
        case = truth.case
        self._look_at(truth.video, case, truth.own, (*self.extractors, *self.comparisons), portrait=truth.portrait)
        partner = replace(case, person=_other(case.person))
        if truth.partner_video is not None:
            self._look_at(truth.partner_video, partner, truth.partner, [one for one in self.extractors if one.partner])
        told = {f"{CASE}.slice/{name}": mask for name, mask in truth.slices.items()}
        told |= {f"{CASE}.own": log_energy(truth.own), f"{CASE}.other": log_energy(truth.partner)}
        told |= {f"{CASE}.partner": np.asarray(truth.partner_video is not None), f"{CASE}.portrait": np.asarray(truth.portrait)}
        told |= {f"{CASE}.record/{name}": np.asarray(value) for name, value in truth.record.items()}
        self._case(case).add(told, {CASE: self.set_key})

    def _look_at(
        self, video: bytes, case: Case, voice: np.ndarray, readers: Sequence[Extractor | Comparison], *, portrait: int = 0
    ) -> None:
        kept, keys = self._truth(case.clip, case.person), self._truth_keys(case.clip, case.person)
        keys = {name: keys[name] for name in (FACES, *(one.name for one in readers))}
        missing = kept.missing(keys)
        if not missing:
            return
        file = open_video(video, frames=case.frames, where=f"{case.name}, ground truth")
        shown = Shown(case, Role.TRUTH, case.frames, voice, portrait)
        arrays = self._extract(shown, file, missing, kept.arrays())
        kept.add(arrays, {name: keys[name] for name in missing})

    def read_made(self, truth: Truth, system: str, video: Path) -> None:
        """Evidence of a made video, alone and beside the true one.

        Raises:
            DyconvError: naming the file, where it is damaged, or not as long as the truth.
        """
        case = truth.case
        kept, keys = self._made(case, system), self._made_keys(case, video)
        missing = kept.missing(keys)
        if not missing:
            return
        file = open_video(video, frames=case.frames, where=str(video))
        size = self._sizes.setdefault(system, file.size)
        if file.size != size:
            raise BadVideo(
                f"{video}: expected {size} px, as the others of {system}, found {file.size} px",
                hint="give videos of one size: what is enlarged is not measured alike",
            )
        shown = Shown(case, Role.MADE, case.frames, truth.own, system=system)
        arrays = self._extract(shown, file, missing, kept.arrays(), truth)
        kept.add(arrays, {name: keys[name] for name in missing})

    def evidence(self, case: Case, system: str | None, told: Mapping[str, float] | None = None) -> Evidence:
        """What was read of a case; of the ground truth itself where no system is named."""
        about = self._case(case).arrays()
        truth = _named(self._truth(case.clip, case.person))
        partner = _named(self._truth(case.clip, _other(case.person))) if about[f"{CASE}.partner"] else {}
        made = truth if system is None else _named(self._made(case, system))
        slices, record = _under(about, f"{CASE}.slice/"), _under(about, f"{CASE}.record/")
        frames = {one.name: made[one.name] for one in self.comparisons if one.name in made}
        own, other = about[f"{CASE}.own"], about[f"{CASE}.other"]
        return Evidence(
            case,
            truth,
            made,
            partner,
            frames,
            told or {},
            own,
            other,
            slices,
            {name: float(value.item()) for name, value in record.items()},
        )

    def _extract(self, shown: Shown, video: Video, missing: set[str], known: Arrays, truth: Truth | None = None) -> Arrays:
        """Arrays of those extractors and comparisons that are missing; without a truth the video is compared with itself."""
        begun = {one.name: one.begin(shown) for one in self.extractors if one.name in missing}
        compared = [one for one in self.comparisons if one.name in missing]
        found: dict[str, list[np.ndarray]] = {one.name: [] for one in compared}
        faces: list[tuple[np.ndarray, np.ndarray]] = []
        chunks = self._chunks(video, known if FACES not in missing else {})
        true_chunks = self._true_chunks(truth) if truth is not None and compared else None
        for chunk in chunks:
            faces.append((chunk.landmarks / self.size, chunk.present))
            self._feed(begun, chunk)
            beside = next(true_chunks) if true_chunks is not None else chunk
            for one in compared:
                with self.spent(one.name), torch.inference_mode():
                    found[one.name].append(one.compare(beside, chunk).cpu().numpy())
        arrays: dict[str, np.ndarray] = {name: np.concatenate(parts) for name, parts in found.items()}
        if FACES in missing:
            landmarks, present = zip(*faces, strict=True)
            arrays |= {f"{FACES}.landmarks": np.concatenate(landmarks), f"{FACES}.present": np.concatenate(present)}
        for name, extraction in begun.items():
            with self.spent(name), torch.inference_mode():
                arrays |= extraction.finish()
        return arrays

    def _feed(self, begun: Mapping[str, Extraction], chunk: Chunk) -> None:
        for name, extraction in begun.items():
            with self.spent(name), torch.inference_mode():
                extraction.feed(chunk)

    def _true_chunks(self, truth: Truth) -> Iterator[Chunk]:
        case = truth.case
        video = open_video(truth.video, frames=case.frames, where=f"{case.name}, ground truth")
        return self._chunks(video, self._truth(case.clip, case.person).arrays())

    def _chunks(self, video: Video, known: Arrays) -> Iterator[Chunk]:
        """A video in chunks, with the landmarks that are known, or found."""
        start = 0
        if not known:
            self._faces.begin()
        for pictures in self.spent.each("decode", video.chunks(self.size, _COUNT)):
            part = slice(start, start + len(pictures))
            if known:
                landmarks, present = known[f"{FACES}.landmarks"][part] * self.size, known[f"{FACES}.present"][part]
            else:
                with self.spent(FACES):
                    landmarks, present = self._faces.feed(pictures)
            yield Chunk(start, pictures, landmarks, present, self.device)
            start += len(pictures)

    def _truth(self, clip: str, person: str) -> Kept:
        return Kept(self.out / "truth" / f"{clip}.{person}.npz")

    def _case(self, case: Case) -> Kept:
        return Kept(self.out / "cases" / f"{case.name}.npz")

    def _made(self, case: Case, system: str) -> Kept:
        return Kept(self.out / "made" / system / case.view / f"{case.name}.npz")

    def _truth_keys(self, clip: str, person: str) -> dict[str, str]:
        return self._keys(key_of(self.set_key, clip, person, self.size, FACES_VERSION))

    def _made_keys(self, case: Case, video: Path) -> dict[str, str]:
        if not video.is_file():
            raise StoreError(f"{case.name}: no video {video}", hint="run the same command again")
        return self._keys(key_of(self.set_key, case.name, sha256_of(video), self.size, FACES_VERSION))

    def _keys(self, base: str) -> dict[str, str]:
        keys = {one.name: key_of(base, one.version) for one in self.extractors}
        return {FACES: base, **keys, **{one.name: key_of(base, one.version) for one in self.comparisons}}


def log_energy(voice: np.ndarray) -> np.ndarray:
    """Log10 of the mean square of each frame's 640 samples, float32 [T]."""
    frames = voice[: len(voice) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME].reshape(-1, SAMPLES_PER_FRAME)
    return np.log10(np.square(frames, dtype=np.float64).mean(axis=1) + _FLOOR).astype(np.float32)


def _under(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _named(kept: Kept) -> Arrays:
    """Arrays as `Evidence` calls them: `landmarks` and `present` belong to no extractor."""
    return {name.removeprefix(f"{FACES}."): value for name, value in kept.arrays().items()}


def _other(person: str) -> str:
    return PERSONS[1 - PERSONS.index(person)]
