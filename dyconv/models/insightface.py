"""Who is who across sources: an ArcFace recognition network in ONNX, loaded and run by insightface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dyconv.errors import ModelMissing

_FIVE = (468, 473, 1, 61, 291)  # mesh points at ArcFace's template: eyes, nose tip, corners of the mouth


class InsightFaceIdentity:
    """ArcFace descriptor of the face, aligned by eyes, nose and mouth.

    Args:
        recognition: path of the pack's recognition file, `w600k_r50.onnx` for buffalo_l.

    Raises:
        ModelMissing: if the file is not a recognition network.
    """

    scope = "global"
    threshold = 0.35  # between one network's usual same-person (0.5 and more) and other-person (under 0.2) similarities

    def __init__(self, recognition: Path) -> None:
        import onnxruntime
        from insightface.model_zoo import get_model

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # results must not depend on the machine's cores
        options.log_severity_level = 3
        self._model: Any = get_model(str(recognition), providers=["CPUExecutionProvider"], sess_options=options)
        if getattr(self._model, "taskname", None) != "recognition":
            raise ModelMissing(
                f"{recognition} is not a face recognition network",
                hint="it must be the pack's w600k_r50.onnx (112 x 112 input)",
            )

    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """L2-normalised descriptor float32 [D] of the face with these landmarks [478, 3] in uint8 RGB `image`."""
        from insightface.utils.face_align import norm_crop

        points = np.ascontiguousarray(landmarks[list(_FIVE), :2], np.float32)
        crop = norm_crop(image, points, image_size=int(self._model.input_size[0]))
        vector = np.asarray(self._model.get_feat(np.ascontiguousarray(crop[..., ::-1])), np.float32).reshape(-1)
        return vector / max(float(np.linalg.norm(vector)), 1e-6)
