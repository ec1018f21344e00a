"""The `Diarizer` slot over pyannote.audio's `SpeakerDiarization` pipeline, whatever models are in it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from dyconv.models.slots import Diarization
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME

if TYPE_CHECKING:
    from pyannote.audio.pipelines import SpeakerDiarization
    from pyannote.core import Annotation

_SHORTEST_S = 0.2  # a voice heard for less in all is a mistake of the segmentation
_EMBED_S = 20.0  # how much of a voice is embedded at once
_EMBED_MIN_S = 1.0  # shorter speech is repeated up to this
_SILENT = 1e-4  # peak: below it nothing was recorded


class PipelineDiarizer:
    """Voices by a pyannote pipeline. The same samples give the same bytes; memory grows by some kB a second of sound."""

    def __init__(self, pipeline: SpeakerDiarization) -> None:
        self.pipeline = pipeline
        pipeline._embedding.__class__ = _shared(type(pipeline._embedding))

    def diarize(self, samples: np.ndarray, *, min_speakers: int = 1, max_speakers: int | None = None) -> Diarization:
        """Voices in mono 16 kHz float32 [N], the one heard longest first; no rows where nobody speaks.

        Returns:
            Activity float32 [S, ceil(N / 640)]: the share of each 40 ms frame in which the voice is heard. Embeddings float32
            [S, D], the L2-normalised centroid of the voice.
        """
        frames = -(-len(samples) // SAMPLES_PER_FRAME)
        if not len(samples) or float(np.abs(samples).max()) < _SILENT:
            return self._nobody(frames)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about fewer voices than asked for, and of division in empty windows
            steps: dict[str, Any] = {}
            output: Any = self.pipeline(
                _file(samples),
                min_speakers=min_speakers,
                max_speakers=max_speakers,
                hook=lambda step, result, **_: steps.update({step: result} if result is not None else {}),
            )
        annotation = output.speaker_diarization
        centroids = dict(zip(annotation.labels(), output.speaker_embeddings, strict=False))
        labels = annotation.labels()
        if not labels:
            return self._nobody(frames)
        activity = self._decided(np.stack([_coverage(annotation, label, frames) for label in labels]), samples)
        heard = activity.sum(1) * SAMPLES_PER_FRAME / SAMPLE_RATE
        order = [row for row in np.argsort(-heard, kind="stable") if heard[row] >= _SHORTEST_S]
        if not order:
            return self._nobody(frames)
        vectors = [self._centroid(centroids.get(labels[row]), samples, activity, row) for row in order]
        return Diarization(activity[order], np.stack(vectors), _overlap(steps["segmentation"], frames))

    def _decided(self, activity: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """What a model's own wrapper makes of the pipeline's activity [S, T]; as it is, here."""
        return activity

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """L2-normalised float32 [D] of the voice in mono 16 kHz float32 [N], some seconds of one person."""
        import torch

        if not len(samples):
            raise ValueError("no samples to embed")
        pieces = np.array_split(samples, max(1, round(len(samples) / (_EMBED_S * SAMPLE_RATE))))
        total: Any = 0.0
        for piece in pieces:
            long_enough = np.resize(piece, max(len(piece), int(_EMBED_MIN_S * SAMPLE_RATE)))
            waveform = torch.from_numpy(np.ascontiguousarray(long_enough, np.float32))[None, None]
            total = total + len(piece) * _unit(self.pipeline._embedding(waveform)[0])
        return _unit(total)

    def _nobody(self, frames: int) -> Diarization:
        return Diarization(np.zeros((0, frames), np.float32), np.zeros((0, self.pipeline._embedding.dimension), np.float32))

    def _centroid(self, found: np.ndarray | None, samples: np.ndarray, activity: np.ndarray, row: int) -> np.ndarray:
        """The pipeline's centroid; where it has none (too little speech in every window), the voice's own speech embedded."""
        if found is not None and np.isfinite(found).all() and float(np.linalg.norm(found)) > 1e-6:
            return _unit(found)
        alone = (activity[row] > 0.5) & (activity.sum(0) < 1.5)
        chosen = alone if alone.any() else activity[row] > 0
        mask = np.repeat(chosen, SAMPLES_PER_FRAME)[: len(samples)]
        return self.embed(samples[mask][: int(_EMBED_S * SAMPLE_RATE)])


def _file(samples: np.ndarray) -> dict[str, Any]:
    """Samples as a pyannote file that needs no decoder."""
    import torch

    waveform = torch.from_numpy(np.ascontiguousarray(samples, np.float32))[None]
    return {"waveform": waveform, "sample_rate": SAMPLE_RATE, "uri": "clip"}


def _coverage(annotation: Annotation, label: str, frames: int) -> np.ndarray:
    """The share of each 25 fps frame that a label's turns cover, float32 [T]."""
    edges = np.zeros(frames + 1)
    for segment in annotation.label_timeline(label).support():
        start, end = (np.clip(time * SAMPLE_RATE / SAMPLES_PER_FRAME, 0, frames) for time in (segment.start, segment.end))
        grid = np.arange(frames + 1)
        edges += np.clip(grid, start, end) - start
    return np.clip(np.diff(edges), 0, 1).astype(np.float32)


def _overlap(segmentation: Any, frames: int) -> np.ndarray:
    """How active the second most active voice is, mean over windows, float32 [T] by 25 fps frame: close to a probability."""
    windows, count, _ = segmentation.data.shape
    second = np.sort(segmentation.data, axis=2)[..., -2] if segmentation.data.shape[2] > 1 else np.zeros((windows, count))
    within = segmentation.sliding_window
    times = within.start + within.step * np.arange(windows)[:, None] + within.duration * (np.arange(count) + 0.5) / count
    index = (times * SAMPLE_RATE / SAMPLES_PER_FRAME).astype(int)
    inside = (index >= 0) & (index < frames)
    total, seen = (np.bincount(index[inside], weight, frames) for weight in (second[inside], np.ones(inside.sum())))
    return np.clip(total / np.maximum(seen, 1), 0, 1).astype(np.float32)


def _unit(vector: np.ndarray) -> np.ndarray:
    return (vector / max(float(np.linalg.norm(vector)), 1e-9)).astype(np.float32)


def _shared(kind: Any) -> type:
    """pyannote's embedding step, computing the frames of a window once for all the voices in it.

    The pipeline hands over each window as many times as it can hold voices, each time with another mask. What costs time,
    the frames, is the same; windows in which nobody speaks cost nothing.
    """

    class SharedFrames(kind):
        def __call__(self, waveforms: Any, masks: Any = None) -> np.ndarray:
            import torch

            if masks is None:
                return super().__call__(waveforms)
            starts = [0] + [row for row in range(1, len(waveforms)) if not torch.equal(waveforms[row], waveforms[row - 1])]
            out = np.full((len(waveforms), self.dimension), np.nan, np.float32)
            for start, stop in zip(starts, [*starts[1:], len(waveforms)], strict=True):
                rows = [row for row in range(start, stop) if bool(masks[row].any())]
                if rows:
                    with torch.inference_mode():
                        out[rows] = self.model_(waveforms[start : start + 1], weights=masks[rows][None])[0].numpy()
            return out

    return SharedFrames
