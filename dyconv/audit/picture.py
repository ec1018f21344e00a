"""What the audit app draws of a clip, as plain data: pictures with faces, tracks with peaks, curves of heads.

Nothing here depends on decisions: it is made once for a record and kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dyconv.arrays import load_arrays
from dyconv.faces import FaceArrays, face_box, unpack_points
from dyconv.media.video import frame_size
from dyconv.records import PERSONS, Clip, Key
from dyconv.report.numbers import head_pose
from dyconv.report.view import UNREADABLE, ClipView, mouth_opening
from dyconv.time import FPS, SAMPLE_RATE

VERSION = 1  # of the layout below: what another one made is made anew
PEAKS_A_SECOND = 100
LOUDEST = 127  # of a peak: full scale
_MOST_BOXES = 4  # faces a picture may have that belong to nobody; the longest ones


@dataclass(frozen=True)
class Face:
    """A face of a picture. `name` is the person, or the track where it is nobody's."""

    name: str
    person: str | None
    arrays: FaceArrays


def drawn(view: ClipView) -> dict[str, Any]:
    """Everything that is drawn of a clip.

    Returns:
        seconds, frames (25 fps); `pictures` (key, size in pixels, faces with boxes by frame in those pixels); `tracks`
        (id, person, key, peaks 0 to 127, 100 a second); `chances` (percent by frame); `curves` (by person: name, unit and
        a value or null by frame); `notes`: what is there and cannot be read.
    """
    pictures = [picture for key in shown_pictures(view) if (picture := _picture(view, key))]
    sounds = [track for track in _track_list(view.clip) if _add_peaks(view, track)]
    frames = max(view.clip.frames, 1)
    speech = view.speech()
    return {
        "version": VERSION,
        "seconds": max([view.duration, *(len(track["peaks"]) / PEAKS_A_SECOND for track in sounds)]),
        "frames": frames,
        "pictures": [_plain(picture) for picture in pictures],
        "tracks": sounds,
        "chances": {person: _whole(speech[person] * 100) for person in PERSONS if person in speech},
        "curves": _curves(view, [face for _, _, faces in pictures for face in faces], frames),
        "notes": view.notes,
    }


def shown_pictures(view: ClipView) -> list[Key]:
    """The whole picture; where there is none, as in a release that goes without it, the face of each person."""
    return [Key.VIDEO] if view.path(Key.VIDEO) else [key for key in (Key.P0_FACE, Key.P1_FACE) if key in view.clip.assets]


def _picture(view: ClipView, key: Key) -> tuple[Key, tuple[int, int], list[Face]] | None:
    if (path := view.path(key)) is None:
        return None
    try:
        size = frame_size(path)
    except UNREADABLE as error:
        view.note(key, error)
        return None
    return key, size, _faces(view) if key is Key.VIDEO else _crop_face(view, str(key).split(".")[0])


def _faces(view: ClipView) -> list[Face]:
    known = {track.id: track.person for track in view.clip.tracks}
    faces = [Face(known.get(name) or name, known.get(name), found) for name, found in sorted(view.faces().items())]
    others = sorted((face for face in faces if face.person is None), key=lambda face: -len(face.arrays))
    return [face for face in faces if face.person] + others[:_MOST_BOXES]


def _crop_face(view: ClipView, person: str) -> list[Face]:
    """The face in a person's own video, whose landmarks are in that video's pixels."""
    if (path := view.path(Key.of(person, "crop"))) is None:
        return []
    try:
        arrays = load_arrays(path)
        frames = np.flatnonzero(arrays["present"]).astype(np.int32)
        points = unpack_points(arrays["landmarks"][frames])
    except (*UNREADABLE, KeyError, IndexError) as error:
        view.note(Key.of(person, "crop"), error)
        return []
    return [Face(person, person, FaceArrays(frames, face_box(points), np.ones(len(frames), np.float32), points))]


def _plain(picture: tuple[Key, tuple[int, int], list[Face]]) -> dict[str, Any]:
    key, size, faces = picture
    boxes = [
        {"name": face.name, "person": face.person, "frames": face.arrays.frames.tolist(), "boxes": _whole(face.arrays.boxes)}
        for face in faces
    ]
    return {"key": str(key), "size": list(size), "faces": boxes}


def _track_list(clip: Clip) -> list[dict[str, Any]]:
    mix, clean = clip.assets.get(Key.MIX), clip.assets.get(Key.CLEAN)
    found = [{"id": "mix", "person": None, "key": str(Key.MIX)}] if mix else []
    if clean and not (mix and mix.sha256 == clean.sha256):
        found.append({"id": "clean", "person": None, "key": str(Key.CLEAN)})
    voices = [(person, Key.of(person, "voice")) for person in PERSONS]
    return found + [{"id": person, "person": person, "key": str(key)} for person, key in voices if key in clip.assets]


def _add_peaks(view: ClipView, track: dict[str, Any]) -> bool:
    samples = view.sound(Key(track["key"]))
    if samples is None:
        return False
    step = SAMPLE_RATE // PEAKS_A_SECOND
    whole = np.abs(np.pad(samples, (0, -len(samples) % step)).reshape(-1, step)).max(axis=1, initial=0.0)
    track["peaks"] = _whole(np.clip(whole, 0, 1) * LOUDEST)
    return True


def _curves(view: ClipView, faces: Iterable[Face], frames: int) -> dict[str, list[dict[str, Any]]]:
    """Mouth and head of each person that is seen; of one with latents alone, the first of them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for person in PERSONS:
        own = [face.arrays for face in faces if face.person == person and len(face.arrays)]
        if own:
            mouth, yaw = np.full(frames, np.nan), np.full(frames, np.nan)
            for arrays in own:
                inside = arrays.frames < frames
                at = arrays.frames[inside]
                mouth[at] = mouth_opening(arrays)[1][inside]
                yaw[at] = head_pose(arrays.landmarks)[0][inside]
            found[person] = [_curve("mouth opening", "of the eyes' distance", mouth, 3), _curve("head yaw", "degrees", yaw, 1)]
        elif latents := _latents(view, person, frames):
            found[person] = latents
    return found


def _latents(view: ClipView, person: str, frames: int) -> list[dict[str, Any]]:
    key = Key.of(person, "motion")
    if (path := view.path(key)) is None:
        return []
    try:
        arrays = load_arrays(path)
        values = np.full((frames, 2), np.nan)
        count = min(frames, len(arrays["latents"]))
        values[:count] = np.where(arrays["present"][:count, None], arrays["latents"][:count, :2], np.nan)
    except (*UNREADABLE, KeyError, IndexError) as error:
        view.note(key, error)
        return []
    return [_curve(f"motion latent {number}", "", values[:, number], 3) for number in range(2)]


def _curve(name: str, unit: str, values: np.ndarray, digits: int) -> dict[str, Any]:
    plain = [None if np.isnan(value) else round(float(value), digits) for value in values]
    return {"name": name, "unit": unit, "rate": FPS, "values": plain}


def _whole(values: np.ndarray) -> list[Any]:
    """Whole numbers as nested lists; what is no number becomes 0."""
    found: list[Any] = np.nan_to_num(np.asarray(values, np.float64)).round().astype(int).tolist()
    return found
