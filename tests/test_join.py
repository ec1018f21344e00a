"""Two files of one conversation: joined in step, a side and a channel each, and every way in which they cannot be."""

from __future__ import annotations

import csv
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from dyconv.download.join import NotJoinable, join
from dyconv.manifest import BadRow, read_manifest
from dyconv.media.sound import read_sound
from dyconv.media.source import probe
from dyconv.media.video import frame_size, read_frames
from dyconv.records import Clip, Drop, DropReason, Key, Source, source_clip
from dyconv.stages.base import Files
from dyconv.stages.download import Download
from dyconv.store import Store
from dyconv.task import source_fingerprint
from dyconv.time import FPS, SAMPLE_RATE, Span
from tests.mediagen import make_media, times_cfr, truncate

EVENTS = (0.5, 1.6)


def lit(path: Path, side: int, sides: int = 2) -> list[float]:
    """When the white square in the middle of a side lights up, seconds."""
    white = []
    for frame in read_frames(path):
        half = np.split(frame, sides, axis=1)[side]
        white.append(bool((half[half.shape[0] // 2, half.shape[1] // 2] > 225).all()))
    return [index / FPS for index in range(1, len(white)) if white[index] and not white[index - 1]]


def clicks(path: Path) -> list[list[float]]:
    """When each channel of a joined file clicks, seconds."""
    info = probe(path)
    channels = read_sound(path, info.audio[0], Span(info.start, info.start + info.duration)).channels
    assert channels is not None
    out = []
    for channel in channels * 2:
        loud = np.flatnonzero(np.abs(channel) > 0.4)
        out.append([float(at) / SAMPLE_RATE for at in loud[np.r_[True, np.diff(loud) > SAMPLE_RATE // 5]]])
    return out


def test_two_videos_stand_side_by_side_each_with_its_channel(tmp_path: Path) -> None:
    left = make_media(tmp_path / "l.mp4", duration=3.0, events=EVENTS, start=2.0, size=(320, 180))
    later = tuple(event + 0.4 for event in EVENTS)
    right = make_media(
        tmp_path / "r.mkv", duration=2.6, events=later, times=times_cfr(2.6, 30), size=(640, 360), audio_rate=48_000
    )
    target = tmp_path / "both.mkv"
    cut = join(left.path, right.path, target)
    info = probe(target)
    assert (info.start, info.video.width, info.video.height) == (0, 640, 180)
    assert float(info.duration) == pytest.approx(2.6, abs=0.05)
    assert float(cut) == pytest.approx(0.4, abs=0.06)
    assert lit(target, 0) == pytest.approx(EVENTS, abs=0.045)
    assert lit(target, 1) == pytest.approx(later, abs=0.045)
    heard = clicks(target)
    assert heard[0] == pytest.approx(EVENTS, abs=0.004) and heard[1] == pytest.approx(later, abs=0.004)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both.mkv", "l.mp4", "r.mkv"]


def test_sound_alone_joins_the_picture_of_the_first(tmp_path: Path) -> None:
    left = make_media(tmp_path / "l.mp4", duration=2.0, events=(0.5,), rotation=90)
    partner = np.zeros(round(3.0 * 8000), np.float32)
    partner[8000:8160] = 0.8 * np.sin(np.arange(160) / 2)
    soundfile.write(tmp_path / "r.wav", partner, 8000)
    target = tmp_path / "both.mkv"
    cut = join(left.path, tmp_path / "r.wav", target)
    assert float(cut) == pytest.approx(1.0, abs=0.05)
    assert frame_size(target) == (180, 320)
    assert lit(target, 0, 1) == pytest.approx([0.5], abs=0.045)
    heard = clicks(target)
    assert heard[0] == pytest.approx([0.5], abs=0.004) and heard[1] == pytest.approx([1.0], abs=0.004)


def test_the_same_files_give_the_same_bytes_and_no_drift_over_chunks(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("dyconv.download.join._CHUNK", 30)
    events = tuple(np.arange(0.5, 5.5, 0.5).round(2))
    left = make_media(tmp_path / "l.mp4", duration=6.0, events=events, times=times_cfr(6.0, Fraction(30000, 1001)))
    right = make_media(tmp_path / "r.mp4", duration=6.0, events=events, audio_rate=22_050)
    for name in ("a.mkv", "b.mkv"):
        join(left.path, right.path, tmp_path / name, max_height=100)
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()
    assert frame_size(tmp_path / "a.mkv")[1] == 100
    for heard in clicks(tmp_path / "a.mkv"):
        assert heard == pytest.approx(events, abs=0.004)


def test_what_cannot_be_joined_is_named(tmp_path: Path) -> None:
    good = make_media(tmp_path / "good.mp4", duration=2.0).path
    soundfile.write(tmp_path / "voice.wav", np.zeros(32_000, np.float32), 16_000)
    (tmp_path / "text.mp4").write_text("this is no video at all, just text" * 20)
    mute = make_media(tmp_path / "mute.mp4", duration=1.0, audio=None).path
    cases = [
        (good, tmp_path / "text.mp4", DropReason.UNREADABLE, "the partner's file: not readable"),
        (tmp_path / "text.mp4", good, DropReason.UNREADABLE, "the first file"),
        (good, truncate(good, tmp_path / "half.mp4", 0.3), DropReason.UNREADABLE, "partner"),
        (good, mute, DropReason.NO_AUDIO, "the partner's file has no sound"),
        (mute, good, DropReason.NO_AUDIO, "the first file has no sound"),
        (tmp_path / "voice.wav", good, DropReason.NO_VIDEO, "comes first"),
    ]
    for first, second, reason, words in cases:
        with pytest.raises(NotJoinable) as told:
            join(first, second, tmp_path / "both.mkv")
        assert told.value.reason is reason and words in told.value.detail
        assert not (tmp_path / "both.pictures.mp4").exists()


def fetched(tmp_path: Path, first: Path, second: Path, **fields) -> tuple[Clip | Drop, Files]:
    scratch = tmp_path / f"scratch{len(list(tmp_path.iterdir()))}"
    scratch.mkdir()
    files = Files(Store(tmp_path / "store"), "download/s", scratch)
    source = Source("s", first.as_uri(), "own", partner_url=second.as_uri())
    (output,) = Download(**{"allow_local": True, **fields}).process(source_clip(source), files)
    return output, files


def test_download_fetches_and_joins_both_by_the_same_rules(tmp_path: Path) -> None:
    left = make_media(tmp_path / "l.mp4", duration=1.5).path
    right = make_media(tmp_path / "r.mp4", duration=1.0).path
    clip, files = fetched(tmp_path, left, right)
    assert isinstance(clip, Clip)
    assert clip.assets[Key.MEDIA].path == "download/s/s.media.mkv"
    assert clip.measures["partner_cut_s"] == pytest.approx(0.5, abs=0.05)
    assert clip.source.to_json()["partner_url"] == right.as_uri()
    with av.open(str(files.path(clip, Key.MEDIA))) as media:
        assert media.streams.audio[0].codec_context.channels == 2
    assert Clip.from_json(clip.to_json()) == clip
    gone, _ = fetched(tmp_path, left, tmp_path / "gone.mp4")
    assert isinstance(gone, Drop) and gone.reason is DropReason.UNAVAILABLE
    big, _ = fetched(tmp_path, left, right, max_bytes=min(left.stat().st_size, right.stat().st_size) - 1)
    assert isinstance(big, Drop) and big.reason is DropReason.TOO_LARGE
    local, _ = fetched(tmp_path, left, right, allow_local=False)
    assert isinstance(local, Drop) and local.reason is DropReason.BAD_ROW


def test_a_row_names_its_partner_and_nobody_else_s(tmp_path: Path) -> None:
    rows = [
        ("a", "https://example.org/a.mp4", "https://example.org/b.wav"),
        ("same", "https://example.org/c.mp4", "https://example.org/c.mp4#x"),
        ("taken", "https://example.org/b.wav", ""),
        ("turned", "https://example.org/d.mp4", "https://example.org/a.mp4"),
        ("secret", "https://example.org/e.mp4", "https://me:pw@example.org/f.mp4"),
        ("outside", "https://example.org/g.mp4", "../h.wav"),
        ("local", "e/k.mp4", "e/l.wav"),
    ]
    with (tmp_path / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "url", "partner_url"), *rows])
    read = read_manifest(tmp_path / "m.csv")
    assert [isinstance(row, Source) for row in read] == [True, False, False, False, False, False, True]
    words = ["same file", "duplicate of row 1", "duplicate of row 1", "password", "leaves"]
    for row, word in zip(read[1:6], words, strict=True):
        assert isinstance(row, BadRow) and word in row.detail and "pw@" not in row.url
    assert read[6].partner_url == (tmp_path / "e/l.wav").as_uri()


def test_a_changed_partner_is_another_source_and_no_partner_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"1")
    source = Source("s", "https://example.org/a.mp4", partner_url=(tmp_path / "a.wav").as_uri())
    before = source_fingerprint(source)
    (tmp_path / "a.wav").write_bytes(b"22")
    assert source_fingerprint(source) != before
    alone = replace(source, partner_url=None)
    assert "partner_url" not in alone.to_json()
    assert source_fingerprint(alone) not in (before, source_fingerprint(source))
