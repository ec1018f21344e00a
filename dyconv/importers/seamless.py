"""Seamless Interaction (Meta 2025): two people face to face, each with a video, a sound without bleed, and voice activity.

Layouts that are published (github.com/facebookresearch/seamless_interaction, README): as downloaded,
`<improvised|naturalistic>/<dev|test|train>/<batch>/<archive>/V.._S.._I.._P...{mp4,wav,json,npz}`; and by modality,
`<label>/<split>/{video,audio,vad}/V.._S.._I.._P...{mp4,wav,jsonl}`. The JSON has `metadata:vad` and `metadata:transcript`,
lists of `start` and `end` in seconds. Files are named by vendor, session, interaction and participant; the two
participants of one interaction are one conversation. The NPZ files (features of Meta's models) are not read.
"""

from __future__ import annotations

import re
from pathlib import Path

from dyconv.bounds import NotJson, parse_json
from dyconv.importers.layout import Found, LayoutError, Part, Spans, Talk, read_json, spans_of

_NAME = re.compile(r"(?P<talk>V\d+_S\d+_I\d+)_(?P<person>P\d+[A-Z]?)")
_LABELS, _SPLITS = ("improvised", "naturalistic"), ("train", "dev", "test")


def find(root: Path) -> Found:
    """The conversations of a folder.

    Raises:
        LayoutError: if no video in it is named as the set's are.
    """
    videos = sorted(path for path in root.rglob("V*_S*_I*_P*.mp4") if _NAME.fullmatch(path.stem)) if root.is_dir() else []
    if not videos:
        tars = len(list(root.rglob("*.tar"))) if root.is_dir() else 0
        raise LayoutError(
            f"{root}: expected videos such as V00_S0809_I00000582_P0947.mp4, found none"
            + (f", but {tars} tar archives" if tars else ""),
            hint="unpack the archives first" if tars else "give the folder that holds improvised/ and naturalistic/",
        )
    found = Found()
    talks: dict[str, list[Path]] = {}
    for video in videos:
        named = _NAME.fullmatch(video.stem)
        assert named is not None
        talks.setdefault(named["talk"], []).append(video)
    untold = 0
    for talk, both in talks.items():
        if len(both) != 2:
            lone = both[0].relative_to(root)
            found.problems.append(f"{lone}: expected two participants of {talk}, found {len(both)}")
            continue
        try:
            parts = _part(both[0], root), _part(both[1], root)
        except LayoutError as error:
            found.problems.append(error.message)
            continue
        untold += any(part.speech is None for part in parts)
        steps = both[0].relative_to(root).parts
        label, split = (next((step for step in steps if step in known), None) for known in (_LABELS, _SPLITS))
        found.talks.append(Talk(talk, parts, split=split, note=label))
    if untold:
        found.lacks.append(f"voice activity of {untold} conversations: found in each one's own sound")
    return found


def _part(video: Path, root: Path) -> Part:
    named = _NAME.fullmatch(video.stem)
    assert named is not None
    audio = _beside(video, "audio", ".wav")
    if audio is None:
        raise LayoutError(f"{video.relative_to(root)}: its sound {video.stem}.wav is missing")
    return Part(video, audio, named["person"], _speech(video, root))


def _speech(video: Path, root: Path) -> Spans | None:
    if (path := _beside(video, "vad", ".json")) is not None:
        data = read_json(path)
        if not isinstance(data, dict):
            raise LayoutError(f"{path.relative_to(root)}: expected an object with metadata:vad, found {type(data).__name__}")
        rows = data.get("metadata:vad")
        return None if rows is None else spans_of(rows, str(path.relative_to(root)))
    if (path := _beside(video, "vad", ".jsonl")) is not None:
        where = str(path.relative_to(root))
        try:
            return spans_of([parse_json(line) for line in path.read_bytes().split(b"\n") if line.strip()], where)
        except (NotJson, OSError) as error:
            raise LayoutError(f"{where} is not JSON lines: {error}") from error
    return None


def _beside(video: Path, modality: str, suffix: str) -> Path | None:
    """A file of the same name in the same folder, or in the modality's own."""
    for path in (video.with_suffix(suffix), video.parent.parent / modality / f"{video.stem}{suffix}"):
        if path.is_file():
            return path
    return None
