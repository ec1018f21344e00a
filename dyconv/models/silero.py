"""Voice activity from silero-vad, whose weights come inside its own package.

The packaged "sequence" ONNX graph gives one probability a window of 512 samples (32 ms), with 64 samples of the window
before it as context and an LSTM state carried along. It runs here on one thread, without torch.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from dyconv.errors import ModelMissing
from dyconv.store import sha256_of
from dyconv.time import SAMPLES_PER_FRAME

WINDOW = 512
_CONTEXT = 64
_BLOCK = 1024  # windows in one call: bounds the memory, not the result
_FILE = "data/silero_vad_16k_sequence.onnx"
_SHA256 = "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85"


class SileroVad:
    """Speech probability for the whole clip in one pass.

    Raises:
        ModelMissing: where the silero-vad package, or the version this was made with, is not installed.
    """

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(_packaged_model()), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def speech(self, samples: np.ndarray) -> np.ndarray:
        """Probability of speech float32 [T] of mono 16 kHz float32 [N]; T = ceil(N / 640), one a 25 fps frame."""
        frames = -(-len(samples) // SAMPLES_PER_FRAME)
        if not frames:
            return np.zeros(0, np.float32)
        return windows_to_frames(self._windows(samples), frames)

    def _windows(self, samples: np.ndarray) -> np.ndarray:
        count = -(-len(samples) // WINDOW)
        padded = np.zeros(_CONTEXT + count * WINDOW, np.float32)
        padded[_CONTEXT : _CONTEXT + len(samples)] = samples
        windows = np.lib.stride_tricks.sliding_window_view(padded, _CONTEXT + WINDOW)[::WINDOW]
        hidden = cell = np.zeros((1, 1, 128), np.float32)
        parts = []
        for start in range(0, count, _BLOCK):
            block = np.ascontiguousarray(windows[start : start + _BLOCK])
            part, hidden, cell = self._session.run(["speech_probs", "hn", "cn"], {"input": block, "h": hidden, "c": cell})
            parts.append(part)
        return np.concatenate(parts)


def windows_to_frames(windows: np.ndarray, frames: int) -> np.ndarray:
    """Mean over each 640-sample frame of a value that is constant over each 512-sample window, float32 [frames].

    Beyond the last window its value is held.
    """
    edges = np.arange(len(windows) + 1) * WINDOW
    integral = np.concatenate([[0.0], np.cumsum(windows, dtype=np.float64)]) * WINDOW
    wanted = np.arange(frames + 1) * SAMPLES_PER_FRAME
    at = np.interp(wanted, edges, integral) + np.maximum(wanted - edges[-1], 0) * float(windows[-1])
    return (np.diff(at) / SAMPLES_PER_FRAME).astype(np.float32)


def _packaged_model() -> Path:
    found = importlib.util.find_spec("silero_vad")
    path = Path(found.origin).parent / _FILE if found and found.origin else None
    if path is None or not path.is_file() or sha256_of(path) != _SHA256:
        raise ModelMissing(
            "model silero needs the weights inside silero-vad 6.2.3, found another version or none",
            hint="run: pip install silero-vad==6.2.3",
        )
    return path
