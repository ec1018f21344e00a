"""What the wrappers of MediaPipe's `.tflite` files share: one-thread interpreters and crops of turned squares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


class Network:
    """One `.tflite` file on one CPU thread: a fixed number, so that results do not depend on the machine's cores."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter: Any = Interpreter(model_path=str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [output["index"] for output in self._interpreter.get_output_details()]
        self.size = int(self._interpreter.get_input_details()[0]["shape"][1])

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """Run on float32 [size, size, 3]; outputs in the file's order, without the batch axis."""
        self._interpreter.set_tensor(self._input, image[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0] for index in self._outputs]


@dataclass(frozen=True)
class Square:
    """A turned square of a picture: centre and side in pixels, angle in radians (positive is clockwise on screen)."""

    x: float
    y: float
    side: float
    angle: float

    def to_picture(self, points: np.ndarray, size: int) -> np.ndarray:
        """Points [..., 3] in pixels of a `size` crop, as pixels of the picture; z is scaled alike."""
        scale = self.side / size
        local = (points[..., :2] - size / 2) * scale
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        x = local[..., 0] * cos - local[..., 1] * sin + self.x
        y = local[..., 0] * sin + local[..., 1] * cos + self.y
        return np.stack([x, y, points[..., 2] * scale], -1).astype(np.float32)

    def crop(self, image: np.ndarray, size: int) -> np.ndarray:
        """The square as uint8 [size, size, 3]; black outside the picture."""
        import cv2

        shrink = max(1, int(self.side / size / 1.25))
        if shrink > 1:  # plain sampling of a much larger square aliases, and its landmarks tremble
            image, left, top = self._shrunk(image, shrink)
            x, y, scale = (self.x - left) / shrink, (self.y - top) / shrink, self.side / shrink / size
        else:
            x, y, scale = self.x, self.y, self.side / size
        cos, sin = np.cos(self.angle) * scale, np.sin(self.angle) * scale
        half = (size - 1) / 2  # pixel centres: index i of the crop looks at i + 0.5
        matrix = np.array(
            [[cos, -sin, x - 0.5 - half * cos + half * sin], [sin, cos, y - 0.5 - half * sin - half * cos]], np.float64
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(image, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_CONSTANT))

    def _shrunk(self, image: np.ndarray, shrink: int) -> tuple[np.ndarray, int, int]:
        import cv2

        reach = self.side * (abs(np.cos(self.angle)) + abs(np.sin(self.angle))) / 2 + shrink
        height, width = image.shape[:2]
        left, top = (int(np.clip(np.floor(v - reach), 0, limit - 1)) for v, limit in ((self.x, width), (self.y, height)))
        right, bottom = (int(np.clip(np.ceil(v + reach), 1, limit)) for v, limit in ((self.x, width), (self.y, height)))
        wide, high = max(1, (right - left) // shrink), max(1, (bottom - top) // shrink)
        part = image[top : top + high * shrink, left : left + wide * shrink]
        return np.asarray(cv2.resize(part, (wide, high), interpolation=cv2.INTER_AREA)), left, top


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -60, 60)))
