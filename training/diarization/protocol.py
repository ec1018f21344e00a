"""A composed corpus as pyannote.database protocols, its sound mapped into memory instead of decoded in every step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyannote.audio import Audio
from pyannote.core import Segment
from pyannote.database import FileFinder, registry

_HEADER = 44  # bytes before the samples in the wav files that compose writes


def protocol(corpus: Path, name: str) -> Any:
    """`Conversations` or `Voices` of a corpus folder."""
    registry.load_database(corpus / "database.yml")
    return registry.get_protocol(f"Composed.SpeakerDiarization.{name}", preprocessors={"audio": FileFinder()})


@cache
def samples(path: str) -> np.ndarray:
    """The samples int16 [N] of a composed wav file, read by the system as they are needed."""
    return np.memmap(path, np.int16, mode="r", offset=_HEADER)


class MappedAudio(Audio):
    """`pyannote.audio.Audio` for composed files: `crop` copies samples out of the mapped file."""

    def crop(self, file: Any, segment: Segment, mode: str = "raise") -> tuple[torch.Tensor, int]:
        """Waveform float32 [1, n] of a segment, padded with zeros where it reaches over the file."""
        path = str(file["audio"] if isinstance(file, Mapping) else file)
        start, count = round(segment.start * self.sample_rate), int(segment.duration * self.sample_rate + 0.01)
        mapped = samples(path)
        inside = np.array(mapped[max(start, 0) : max(start + count, 0)], np.float32) / 32768
        out = np.zeros(count, np.float32)
        offset = max(-start, 0)
        out[offset : offset + len(inside)] = inside
        return torch.from_numpy(out)[None], self.sample_rate
