"""Files of a whole build in another format, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dyconv.audit.decisions import base_of
from dyconv.audit.interchange import eaf, label_studio, rttm
from dyconv.audit.interchange.common import InterchangeError, Labels, Name, labels_of
from dyconv.audit.overlay import Annotations
from dyconv.errors import DyconvError, UsageError
from dyconv.records import Clip, Key
from dyconv.store import Store

_MIME = {Key.VIDEO: "video/mp4", Key.MIX: "audio/x-flac"}


def write_labels(form: str, clips: Iterable[Clip], annotations: Annotations, folder: Path, store: Store) -> list[Path]:
    """Write the turns of all clips that were not taken down: one .rttm, one file of tasks, or an .eaf for each clip.

    Args:
        form: one of `FORMATS`.
        store: where media lie, for ELAN to open them.

    Raises:
        DyconvError: if the folder cannot be written.
    """
    try:
        if form == "eaf":
            return [
                eaf.write(label, folder / f"{clip.id}{eaf.SUFFIX}", media=_media(clip, store))
                for clip, label in _labels(clips, annotations)
            ]
        labels = (label for _, label in _labels(clips, annotations))
        if form == "rttm":
            return [rttm.write(labels, folder / f"turns{rttm.SUFFIX}")]
        tasks = label_studio.write(labels, folder / f"tasks{label_studio.SUFFIX}")
        return [tasks, tasks.with_name(label_studio.CONFIG_FILE)]
    except OSError as error:
        raise DyconvError(f"{folder} cannot be written: {error.strerror}") from error


def _labels(clips: Iterable[Clip], annotations: Annotations) -> Iterable[tuple[Clip, Labels]]:
    for clip in clips:
        verdict = annotations.verdict(clip.id, base_of(clip))
        if str(verdict.state) != "taken_down":
            yield clip, labels_of(clip, verdict)


def _media(clip: Clip, store: Store) -> dict[str, Path]:
    """Files of a local build that ELAN can open."""
    if store.remote:
        return {}
    paths = {kind: Path(store.root) / clip.assets[key].path for key, kind in _MIME.items() if key in clip.assets}
    return {kind: path for kind, path in paths.items() if path.is_file()}


def read_labels(form: str, path: Path, names: Mapping[str, str]) -> list[Labels]:
    """The labels of a file, or of all files of a folder that end as the format's do; in order of name.

    Raises:
        UsageError: if there is none, or one is not of the format.
    """
    suffix = {"rttm": rttm.SUFFIX, "eaf": eaf.SUFFIX, "label-studio": label_studio.SUFFIX}[form]
    paths = sorted(path.glob(f"*{suffix}")) if path.is_dir() else [path]
    if not paths:
        raise UsageError(f"{path} has no files that end in {suffix}")
    found: list[Labels] = []
    for item in paths:
        if form == "eaf":
            found.append(eaf.read(item, names))
        else:
            found += (rttm if form == "rttm" else label_studio).read(item, names)
    return found


def speakers(pairs: Sequence[str]) -> dict[str, str]:
    """`Anna=p0` to who is who.

    Raises:
        InterchangeError: if a pair is not of that form.
    """
    out = {}
    for pair in pairs:
        name, _, who = pair.rpartition("=")
        if not name or who not in set(Name):
            raise InterchangeError(f"--speaker {pair[:60]!r} is not NAME=p0 (or p1, nobody, unsure)")
        out[name] = who
    return out
