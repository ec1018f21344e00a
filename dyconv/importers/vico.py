"""ViCo (Zhou et al. 2022): clips of a speaker and a listener, each cut out, and the speaker's sound.

Two layouts are published (github.com/dc3ea9f/vico_challenge_baseline, README and preprocess/convert.py):

- the challenge: `<split>.csv` with `video_id, uuid, speaker_id, listener_id`; `videos/<uuid>.speaker.mp4`,
  `videos/<uuid>.listener.mp4` (or under `videos/test/`, where its baseline moves them), `audios/<uuid>.wav`;
- the whole set: a CSV with `audio, listener, speaker, speaker_id, listener_id, data_split`; `videos/<name>.mp4`,
  `audios/<name>.wav`.
"""

from __future__ import annotations

from pathlib import Path

from dyconv.importers.layout import Found, LayoutError, Part, Talk, find_root, inside, missing, read_csv, safe_id

_CHALLENGE = {"uuid", "speaker_id", "listener_id"}
_WHOLE = {"audio", "listener", "speaker", "speaker_id", "listener_id", "data_split"}
_LACKS = [
    "the listener's sound: the set has none, so that their voice is silence",
    "turns: found by voice activity in the speaker's sound",
]


def find(root: Path) -> Found:
    """The conversations of a folder.

    Raises:
        LayoutError: if it has neither layout.
    """
    home = find_root(root, ("videos", "audios"), ("", "listening_head", "data/listening_head"))
    found = Found(lacks=list(_LACKS))
    tables = 0
    for table in sorted(home.glob("*.csv")):
        rows = read_csv(table)
        columns = set(rows[0]) if rows else set()
        if not (columns >= _CHALLENGE or columns >= _WHOLE):
            continue
        tables += 1
        for number, row in enumerate(rows, 2):
            _add(found, home, row, table, number, whole=columns >= _WHOLE)
    if not tables:
        told = " or ".join(", ".join(sorted(columns)) for columns in (_CHALLENGE, _WHOLE))
        raise LayoutError(f"{home}: no CSV with the columns {told}", hint="put the set's tables beside videos/ and audios/")
    return found


def _add(found: Found, home: Path, row: dict[str, str], table: Path, number: int, *, whole: bool) -> None:
    where = f"{table.name}, line {number}"
    names = [row["speaker"], row["listener"], row["audio"]] if whole else [row["uuid"]]
    if not all(names):
        found.problems.append(f"{where}: names no recording")
        return
    try:
        if whole:
            files = [inside(home, "videos", f"{name}.mp4") for name in names[:2]]
        else:
            files = [_challenge(home, f"{names[0]}.{role}.mp4") for role in ("speaker", "listener")]
        audio = inside(home, "audios", f"{names[-1]}.wav")
    except LayoutError as error:
        found.problems.append(f"{where}: {error.message}")
        return
    if lost := missing([*files, audio], home):
        found.problems += [f"{one} ({where})" for one in lost]
        return
    parts = (Part(files[0], audio, row["speaker_id"]), Part(files[1], None, row["listener_id"], ()))
    note = f"attitude {row['attitude']}" if row.get("attitude") else None
    split = row["data_split"] if whole else table.stem
    found.talks.append(Talk(safe_id(names[1] if whole else names[0]), parts, split=split, title=row.get("video_id"), note=note))


def _challenge(home: Path, name: str) -> Path:
    plain = inside(home, "videos", name)
    moved = inside(home, "videos", "test", name)
    return moved if moved.is_file() and not plain.is_file() else plain
