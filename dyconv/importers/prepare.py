"""A set that was found becomes a manifest, with what the set itself says kept beside it.

OUT/import/manifest.csv     a row a conversation, with the licence
          published.json    turns and people as published, by source: what the stage `sides` reads
          splits.csv        the set's own splits, for `dyconv release --splits`
          media/            recordings with their sound in one file, pictures copied as they are
          truth/            published labels in the format of known truth, for `dyconv score`
          spans.jsonl       of sets without media: where in each video the annotated clips lie
"""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from fractions import Fraction
from heapq import merge
from pathlib import Path
from typing import Any

from dyconv.errors import UsageError
from dyconv.importers.layout import Found, LayoutError, Part, Talk
from dyconv.records import dump
from dyconv.store import sha256_of, write_atomic

FOLDER = "import"
_CHUNK_S = 1
_MISSING_S = 0.5
_SAME_BYTES = {"fflags": "+bitexact"}


@dataclass(frozen=True)
class Prepared:
    """Where the manifest lies, and the published turns; the latter None where the set has none."""

    manifest: Path
    published: Path | None
    rows: int


def prepare(
    name: str, found: Found, out: Path, licence: str, language: str | None = None, *, skip_bad: bool = False
) -> Prepared:
    """Write the import folder. What is there already and belongs to the same recording is kept.

    Args:
        skip_bad: leave recordings that are no media out, and name them in `found`.

    Raises:
        LayoutError: naming recordings that are no media.
        UsageError: if no licence was given.
    """
    if not licence.strip():
        raise UsageError("no licence given", hint="state the one the set was given to you under, such as CC-BY-NC-4.0")
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str]] = []
    published: dict[str, Any] = {}
    for talk in list(found.talks):
        row = {"id": talk.id, "licence": licence.strip(), "language": language or "", **talk.columns}
        row |= {"title": talk.title or "", "channel": "", "note": f"{name}: {talk.note}" if talk.note else name}
        try:
            row |= _media(talk, folder, published)
        except LayoutError as error:
            found.problems.append(error.message)
            found.talks.remove(talk)
            continue
        if talk.split:
            row["x_split"] = talk.split
        rows.append(row)
    found.checked(out, skip_bad)
    manifest = folder / "manifest.csv"
    write_atomic(manifest, _csv(rows).encode())
    splits = [{"source": row["id"], "split": row["x_split"]} for row in rows if row.get("x_split")]
    if len(splits) == len(rows):
        write_atomic(folder / "splits.csv", _csv(splits).encode())
    if found.spans:
        lines = [dump({"video": video, **row}) for video, spans in sorted(found.spans.items()) for row in spans]
        write_atomic(folder / "spans.jsonl", b"\n".join(lines) + b"\n")
    if published:
        write_atomic(folder / "published.json", dump(published))
    return Prepared(manifest, folder / "published.json" if published else None, len(rows))


def _media(talk: Talk, folder: Path, published: dict[str, Any]) -> dict[str, str]:
    """Addresses of a conversation's files, which are written where the set has picture and sound apart."""
    if talk.parts:
        files = [_joined(part, folder / "media" / f"{talk.id}.{number}.mkv") for number, part in enumerate(talk.parts)]
        published[talk.id] = _published(talk, files)
        return {"url": files[0].absolute().as_uri(), "partner_url": files[1].absolute().as_uri()}
    if talk.media:
        _truth(talk.media, folder / "truth" / talk.id)
        return {"url": talk.media.absolute().as_uri()}
    return {"url": f"https://www.youtube.com/watch?v={talk.note}"}


def _csv(rows: list[dict[str, str]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _published(talk: Talk, files: list[Path]) -> dict[str, Any]:
    assert talk.parts
    wide = [_shape(path) for path in files]
    return {
        "people": [part.person for part in talk.parts],
        "turns": [None if part.speech is None else [list(span) for span in part.speech] for part in talk.parts],
        "left_share": wide[0] / sum(wide),  # both pictures are brought to one height
        "silent": [part.audio is None for part in talk.parts],
    }


def _shape(path: Path) -> float:
    """Width over height of a video as it is shown."""
    from dyconv.media.picture import display_size
    from dyconv.media.source import probe

    video = probe(path).video
    assert video is not None
    width, height = display_size(video)
    return width / height


def _joined(part: Part, target: Path) -> Path:
    """A recording with its own sound, or silence, in one Matroska file: pictures are copied, sound becomes FLAC.

    Raises:
        LayoutError: naming the file that is no media.
    """
    import av

    from dyconv.media.source import UnreadableSource, probe

    newest = max(path.stat().st_mtime_ns for path in (part.video, part.audio) if path)
    if target.is_file() and target.stat().st_mtime_ns > newest:
        return target
    try:
        info = probe(part.video)
    except UnreadableSource as error:
        raise LayoutError(f"{part.video} is no media that can be read: {error.message}") from error
    if info.video is None or info.cut_off or info.missing > _MISSING_S:
        what = "has no pictures" if info.video is None else "is cut off: its pictures end before it says they do"
        raise LayoutError(f"{part.video} {what}", hint="get the file again")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    try:
        _mux(part, temporary, float(info.video.end - info.video.start))
    except (av.FFmpegError, OSError, IndexError, ValueError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise LayoutError(f"{part.video} or {part.audio or 'its sound'} is no media that can be read: {error}") from error
    os.replace(temporary, target)
    return target


def _mux(part: Part, target: Path, seconds: float) -> None:
    import av
    import numpy as np
    import soundfile

    from dyconv.media.source import open_source

    with open_source(part.video) as source, av.open(str(target), "w", format="matroska", options=_SAME_BYTES) as out:
        pictures = source.streams.video[0]
        base = pictures.time_base or Fraction(1, 90000)
        begin = (pictures.start_time or 0) * base
        copy = out.add_stream_from_template(pictures)
        rate = soundfile.info(str(part.audio)).samplerate if part.audio else 16000
        sound = out.add_stream("flac", rate=rate, layout="mono")

        def shown() -> Any:
            for packet in source.demux(pictures):
                if packet.dts is not None:
                    time = Fraction(packet.dts) * base
                    packet.stream = copy
                    yield time, 0, [packet]

        def heard() -> Any:
            at = 0
            for block in _blocks(part, rate, seconds):
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray((block * 32767).astype(np.int16)[None]), "s16", "mono")
                frame.sample_rate, frame.pts, frame.time_base = rate, at + int(begin * rate), Fraction(1, rate)
                yield begin + Fraction(at, rate), 1, sound.encode(frame)
                at += len(block)
            yield begin + Fraction(at, rate), 1, sound.encode(None)

        for _, _, packets in merge(shown(), heard(), key=lambda one: one[:2]):
            for packet in packets:
                out.mux(packet)


def _blocks(part: Part, rate: int, seconds: float) -> Any:
    """Mono samples in -1 to 1, a second at a time; silence where the part has no sound."""
    import numpy as np
    import soundfile

    if part.audio is None:
        for start in range(0, int(seconds * rate), rate):
            yield np.zeros(min(rate, int(seconds * rate) - start), np.float32)
        return
    for block in soundfile.blocks(str(part.audio), blocksize=rate * _CHUNK_S, dtype="float32", always_2d=True):
        yield np.clip(block.mean(axis=1), -1.0, 1.0)


def _truth(media: Path, folder: Path) -> None:
    """RealTalk's labels beside a link to nothing: the truth names the medium by its file name."""
    from dyconv.importers.layout import read_json
    from dyconv.importers.realtalk import check_labels, truth_of
    from dyconv.media.source import probe
    from dyconv.truth import parse_truth, write_truth

    labels = media.parent.parent / "speaker_labels" / f"{media.stem}.json"
    if not labels.is_file():
        return
    video = probe(media).video
    if video is None:
        raise LayoutError(f"{media} has no pictures")
    length = float(video.end - video.start)
    rate = video.packets / length
    data = truth_of(check_labels(read_json(labels), str(labels)), media.name, rate, length)
    folder.mkdir(parents=True, exist_ok=True)
    write_truth(folder / "truth.json", parse_truth(data, str(labels)))


def fingerprint(path: Path) -> str:
    """Sha256 of the published turns, so that a stage that read other ones runs again."""
    return sha256_of(path)
