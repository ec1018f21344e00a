"""Side-by-side videos: what they show, what is heard, and that they are marked."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from dyconv.errors import UsageError
from dyconv.infp.mark import SOURCE_TYPE, read_mark
from dyconv.media.video import VideoWriter, read_frames
from training.evaluation.samples import STRIP, label, side_by_side
from training.evaluation.videos import BadVideo

FRAMES = 30
GREYS = (40, 120, 200)


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    """A grey each, which gets lighter by 1 a frame."""
    paths = [tmp_path / f"grey{grey}.mp4" for grey in GREYS]
    for path, grey in zip(paths, GREYS, strict=True):
        with VideoWriter(path, 128, 128) as writer:
            for number in range(FRAMES):
                writer.write(np.full((128, 128, 3), grey + number, np.uint8))
    return paths


def tone(hertz: float) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(FRAMES * 640) / 16_000)).astype(np.float32)


def test_columns_stand_beside_each_other_frame_by_frame(videos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    columns = [("ground truth", videos[0].read_bytes()), ("ours", videos[1]), ("static", videos[2])]
    side_by_side(columns, out, frames=FRAMES, sound=[tone(440), tone(1000)], side=64)
    frames = np.stack(list(read_frames(out)))
    assert frames.shape == (FRAMES, 64 + STRIP, 3 * 64, 3)
    for column, grey in enumerate(GREYS):
        shown = frames[:, STRIP + 8 : -8, 64 * column + 8 : 64 * column + 56].mean(axis=(1, 2, 3))
        assert np.abs(shown - (grey + np.arange(FRAMES))).max() < 4
        assert frames[:, :STRIP, 64 * column : 64 * column + 64].std() > 10  # a name stands there
    mark = read_mark(out)
    assert mark is not None and mark.source_type == SOURCE_TYPE


def test_own_voice_is_left_and_the_partners_right(videos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    side_by_side([("ours", videos[0])], out, frames=FRAMES, sound=[tone(440), tone(1000)], side=64)
    with av.open(str(out)) as container:
        heard = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert heard.shape[0] == 2
    for channel, hertz in zip(heard, (440, 1000), strict=True):
        spectrum = np.abs(np.fft.rfft(channel[4800:43200] * np.hanning(38400)))
        assert spectrum.argmax() * 48_000 / 38_400 == pytest.approx(hertz, abs=2)


def test_sound_can_be_one_voice_or_none(videos: list[Path], tmp_path: Path) -> None:
    for sound in ([], [tone(440)]):
        side_by_side([("ours", videos[0])], tmp_path / "out.mp4", frames=FRAMES, sound=sound, side=64)
        with av.open(str(tmp_path / "out.mp4")) as container:
            assert len(container.streams.audio) == len(sound)


def test_what_cannot_be_shown_leaves_no_file(videos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    with pytest.raises(BadVideo, match=f"expected {FRAMES + 1} frames"):
        side_by_side([("ours", videos[0])], out, frames=FRAMES + 1)
    with pytest.raises(BadVideo, match="no such file"):
        side_by_side([("ours", tmp_path / "none.mp4")], out, frames=FRAMES)
    with pytest.raises(UsageError, match="found none"):
        side_by_side([], out, frames=FRAMES)
    with pytest.raises(UsageError, match=r"end in \.mp4"):
        side_by_side([("ours", videos[0])], tmp_path / "out.avi", frames=FRAMES)
    assert not out.exists() and not list(tmp_path.glob(".out*"))


def test_long_names_are_cut() -> None:
    name = label("a name that is far too long for a column of this width", 96)
    assert name.shape == (STRIP, 96, 3) and (name[:, :2] == name[0, 0]).all() and (name[:, -2:] == name[0, 0]).all()
