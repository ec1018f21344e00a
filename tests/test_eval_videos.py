"""Reading videos that are compared: every frame once, at one size, in true colours; what cannot be compared is refused."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dyconv.infp.film import Film
from dyconv.media.video import VideoWriter
from training.evaluation.videos import BadVideo, open_video, resized

FRAMES, SIZE = 30, 64


def pictures(count: int = FRAMES, size: int = SIZE) -> np.ndarray:
    """uint8 [count, size, size, 3]: smooth, each frame brighter than the one before."""
    down, across = np.mgrid[:size, :size] / size
    light = 40 + 4 * np.arange(count)[:, None, None, None]
    return np.asarray(light + np.stack([60 * across, 40 * down, 50 * across * down], -1)).round().astype(np.uint8)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "clip_1.p0.mp4"
    with Film(path, SIZE, crf=4) as made:
        for picture in pictures():
            made.write(picture)
    return path


def written(
    path: Path, *, rate: int = 25, width: int = SIZE, height: int = SIZE, times: Sequence[int] = (), **tags: Any
) -> Path:
    """A film of 30 grey frames, with timestamps in 1/rate s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 4 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = times[index] if times else index, Fraction(1, rate)
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return path


def refused(path: Path | bytes, *words: str, frames: int = FRAMES) -> str:
    """The hint of the error, whose message names the file and holds these words."""
    with pytest.raises(BadVideo) as error:
        for _ in open_video(path, frames=frames, where=str(path) if isinstance(path, Path) else "p0.face.mp4 of clip_1").chunks(
            16, 8
        ):
            pass
    told = error.value.message
    assert (path.name if isinstance(path, Path) else "p0.face.mp4 of clip_1") in told
    assert all(word in told for word in words), told
    assert error.value.hint
    return error.value.hint


def test_every_frame_comes_once_and_in_order_from_a_file_or_its_bytes(film: Path) -> None:
    for source in (film, film.read_bytes()):
        video = open_video(source, frames=FRAMES, where="film")
        assert (video.size, video.frames) == (SIZE, FRAMES)
        chunks = list(video.chunks(SIZE, 8))
        assert [chunk.shape for chunk in chunks] == [(count, SIZE, SIZE, 3) for count in (8, 8, 8, 6)]
        assert all(chunk.dtype == np.uint8 for chunk in chunks)
        assert np.array_equal(np.concatenate(chunks), np.concatenate(list(video.chunks(SIZE, FRAMES))))


def test_colours_are_those_that_were_written(film: Path) -> None:
    read = np.concatenate(list(open_video(film, frames=FRAMES, where="film").chunks(SIZE, 16)))
    difference = read.astype(float) - pictures()
    assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 0.5  # of 255: no channel is brighter or darker
    assert 10 * np.log10(255**2 / np.square(difference).mean()) > 45


def test_another_size_is_area_or_linear_and_the_same_for_all(film: Path) -> None:
    video = open_video(film, frames=FRAMES, where="film")
    whole = next(video.chunks(SIZE, 4))
    small = next(video.chunks(SIZE // 2, 4))
    mean = whole.reshape(4, SIZE // 2, 2, SIZE // 2, 2, 3).astype(float).mean(axis=(2, 4))
    assert np.abs(small - mean).max() <= 0.5  # halves up
    assert next(video.chunks(96, 4)).shape == (4, 96, 96, 3)
    assert resized(whole[0], SIZE) is whole[0] or np.array_equal(resized(whole[0], SIZE), whole[0])


def test_a_matroska_file_whose_times_are_rounded_is_25_fps(tmp_path: Path) -> None:
    assert open_video(written(tmp_path / "clip_1.p0.mkv"), frames=FRAMES, where="film").size == SIZE
    assert open_video(written(tmp_path / "clip_1.p0.avi"), frames=FRAMES, where="film").size == SIZE


def test_times_that_begin_later_are_the_same_video(tmp_path: Path) -> None:
    late = written(tmp_path / "late.mkv", times=[index + 50 for index in range(FRAMES)])
    assert open_video(late, frames=FRAMES, where="film").frames == FRAMES


def test_frames_that_an_edit_list_skips_do_not_count(film: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    with av.open(str(film)) as source, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.pts is not None and packet.dts is not None:
                shift = 5 * int(1 / (25 * packet.time_base))
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                target.mux(packet)
    read = np.concatenate(list(open_video(path, frames=FRAMES - 5, where="cut").chunks(SIZE, 16)))
    assert np.abs(read.astype(float) - pictures()[5:]).mean() < 1


def test_another_rate_is_refused_with_the_command_that_converts(tmp_path: Path) -> None:
    hint = refused(written(tmp_path / "fast file.mp4", rate=30), "expected constant 25 fps", "found 30.000 fps")
    assert "-r 25" in hint
    assert "'" in hint and "fast file.mp4" in hint  # a name with a space is quoted


def test_uneven_times_are_refused(tmp_path: Path) -> None:
    times = [*range(20), *range(22, 32)]
    refused(written(tmp_path / "uneven.mp4", times=times), "expected constant 25 fps", "uneven")


def test_another_length_is_refused_in_frames_and_seconds(film: Path) -> None:
    hint = refused(film, "expected 25 frames (1.00 s", "found 30 (1.20 s)", frames=25)
    assert "-frames:v 25" in hint
    assert "ffmpeg" not in refused(film, "expected 40 frames", "found 30", frames=40)  # what is missing cannot be converted


def test_what_is_not_square_is_refused(tmp_path: Path) -> None:
    hint = refused(written(tmp_path / "wide.mp4", width=96), "square", "96 x 64")
    assert "crop=" in hint
    refused(written(tmp_path / "oblong.mp4", sample_aspect_ratio=Fraction(4, 3)), "square", "pixels 4/3 wide")


def test_a_video_that_players_turn_is_refused(film: Path, tmp_path: Path) -> None:
    data = bytearray(film.read_bytes())
    matrix = data.index(b"tkhd") + 44  # of a track header, version 0: nine 32-bit numbers
    data[matrix : matrix + 20] = struct.pack(">iiiii", 0, 1 << 16, 0, -1 << 16, 0)
    path = tmp_path / "turned.mp4"
    path.write_bytes(bytes(data))
    refused(path, "upright", "turned")


def test_a_file_that_is_cut_off_is_refused(film: Path, tmp_path: Path) -> None:
    data = film.read_bytes()
    for share in (0.02, 0.4, 0.8):
        cut = tmp_path / f"cut{share}.mp4"
        cut.write_bytes(data[: int(len(data) * share)])
        assert str(cut) in refused(cut)
    assert "dyconv check" in refused(data[: len(data) // 2])


def test_a_damaged_file_is_refused(film: Path, tmp_path: Path) -> None:
    data = bytearray(film.read_bytes())
    start = data.rindex(b"mdat") + 200
    data[start : start + 800] = bytes(value ^ 0x5A for value in data[start : start + 800])
    path = tmp_path / "damaged.mp4"
    path.write_bytes(bytes(data))
    refused(path)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video" * 50)
    refused(text, "cut off or damaged")
    (tmp_path / "empty.mp4").touch()
    refused(tmp_path / "empty.mp4")
    refused(tmp_path / "nowhere.mp4", "no such file")
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    refused(sound, "expected a video stream", "audio")


def test_the_pipelines_own_videos_are_read(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "face.mp4", SIZE, SIZE, crf=10) as writer:
        for picture in pictures():
            writer.write(picture)
    read = np.concatenate(list(open_video(tmp_path / "face.mp4", frames=FRAMES, where="face").chunks(SIZE, 16)))
    assert np.abs(read.astype(float) - pictures()).mean() < 2.5
