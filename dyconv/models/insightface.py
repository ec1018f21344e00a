"""Who is who across sources: an ArcFace recognition network in ONNX, loaded and run by insightface."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from dyconv.errors import ModelMissing

_FACES = 16  # at once
_FIVE = (468, 473, 1, 61, 291)  # mesh points at ArcFace's template: eyes, nose tip, corners of the mouth


class InsightFaceIdentity:
    """ArcFace descriptor of the face, aligned by eyes, nose and mouth.

    Args:
        recognition: path of the pack's recognition file, `w600k_r50.onnx` for buffalo_l.
        threads: of the network; with more than one the last digits depend on the machine.

    Raises:
        ModelMissing: if the file is not a recognition network.
    """

    scope = "global"
    threshold = 0.35  # between one network's usual same-person (0.5 and more) and other-person (under 0.2) similarities

    def __init__(self, recognition: Path, threads: int = 1) -> None:
        import onnxruntime
        from insightface.model_zoo import get_model

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        self._model: Any = get_model(str(recognition), providers=["CPUExecutionProvider"], sess_options=options)
        if getattr(self._model, "taskname", None) != "recognition":
            raise ModelMissing(
                f"{recognition} is not a face recognition network",
                hint="it must be the pack's w600k_r50.onnx (112 x 112 input)",
            )

    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """L2-normalised descriptor float32 [D] of the face with these landmarks [478, 3] in uint8 RGB `image`."""
        return self.embed_all(image[None], landmarks[None])[0]

    def embed_all(self, images: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Float32 [n, D] as `embed` makes it, of uint8 RGB [n, H, W, 3] with one face each, landmarks [n, 478, 3]."""
        from insightface.utils.face_align import norm_crop

        side = int(self._model.input_size[0])
        points = np.ascontiguousarray(landmarks[:, list(_FIVE), :2], np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of scikit-image, about how insightface asks it
            crops = [norm_crop(image, five, image_size=side) for image, five in zip(images, points, strict=True)]
        count = 1 if isinstance(self._model.input_shape[0], int) else _FACES  # a network may be made for one face at a time
        batches = [crops[start : start + count] for start in range(0, len(crops), count)]
        parts = [self._model.get_feat([np.ascontiguousarray(crop[..., ::-1]) for crop in batch]) for batch in batches]
        vectors = np.concatenate(parts).astype(np.float32).reshape(len(images), -1)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
