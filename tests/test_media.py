"""Reading foreign media, and writing and cutting normalized media."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from dyconv.errors import StoreError
from dyconv.media.audio import read_audio, write_audio
from dyconv.media.avsync import picture_shift, sound_shift
from dyconv.media.picture import PictureReader, Upright, display_size
from dyconv.media.sound import read_native, read_sound
from dyconv.media.source import UnreadableSource, pick_audio, probe
from dyconv.media.video import VideoWriter, cut_video, frame_count, frame_size, keyframes, read_frames
from dyconv.time import SAMPLE_RATE, Span
from tests.mediagen import flip_bits, make_media, times_cfr, times_vfr, truncate

EVENTS = (0.4, 1.2)


def clicks(samples: np.ndarray) -> list[float]:
    """Starts of the made clicks, seconds."""
    loud = np.flatnonzero(np.abs(samples) > 0.4)
    return [float(at) / SAMPLE_RATE for at in loud[np.r_[True, np.diff(loud) > SAMPLE_RATE // 10]]] if len(loud) else []


def test_probe_says_what_a_plain_file_is(tmp_path: Path) -> None:
    info = probe(make_media(tmp_path / "a.mp4", duration=2.0).path)
    assert info.video is not None
    assert (info.video.width, info.video.height, info.video.rotation, info.video.variable) == (320, 180, 0, False)
    assert info.video.frame == Fraction(1, 25) and info.video.packets == 50
    assert abs(float(info.duration) - 2.0) < 0.05
    assert info.missing < Fraction(1, 10) and not info.cut_off
    assert [track.rate for track in info.audio] == [44100]


def test_probe_sees_varying_frame_times_and_start(tmp_path: Path) -> None:
    made = make_media(tmp_path / "a.mp4", times=times_vfr(2.0), duration=2.0, start=1.4)
    video = probe(made.path).video
    assert video is not None and video.variable and float(video.start) == pytest.approx(1.4, abs=1e-4)


@pytest.mark.parametrize(
    ("size", "sar", "rotation", "shown"),
    [
        ((320, 180), None, 0, (320, 180)),
        ((321, 181), None, 0, (320, 180)),
        ((320, 180), Fraction(4, 3), 0, (426, 180)),
        ((320, 180), Fraction(1, 2), 0, (320, 360)),
        ((320, 180), Fraction(4, 3), 90, (180, 426)),
    ],
)
def test_display_size_is_even_with_square_pixels(tmp_path, size, sar, rotation, shown) -> None:
    made = make_media(tmp_path / "a.mp4", duration=0.2, size=size, sar=sar, rotation=rotation, audio=None)
    video = probe(made.path).video
    assert video is not None
    width, height = display_size(video)
    assert abs(width - shown[0]) <= 2 and abs(height - shown[1]) <= 2
    assert width % 2 == 0 and height % 2 == 0
    assert min(display_size(video, 120)) == 120


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_pictures_are_turned_as_ffmpeg_turns_them(tmp_path: Path, rotation: int) -> None:
    made = make_media(tmp_path / "a.mp4", duration=0.2, rotation=rotation, audio=None)
    video = probe(made.path).video
    assert video is not None
    width, height = display_size(video)
    ours = Upright((width, height), "gray")(next(iter(PictureReader(made.path, video))).picture).to_ndarray()
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(made.path), "-frames:v", "1"]
    raw = subprocess.run([*command, "-pix_fmt", "gray", "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
    theirs = np.frombuffer(raw, np.uint8).reshape(height, width)
    assert np.abs(ours.astype(int) - theirs).mean() < 2


def test_reader_gives_exact_times_and_only_the_span(tmp_path: Path) -> None:
    times = times_vfr(2.0, seed=3)
    made = make_media(tmp_path / "a.mkv", times=times, duration=2.0, audio=None)
    video = probe(made.path).video
    assert video is not None
    assert [frame.time for frame in PictureReader(made.path, video)] == times
    middle = Span(times[10], times[20])
    assert [frame.time for frame in PictureReader(made.path, video, middle)] == times[10:20]
    between = Span(times[10] + Fraction(1, 1000), times[12])  # the frame on screen at the start belongs to it
    assert [frame.time for frame in PictureReader(made.path, video, between)] == times[10:12]


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("a.mp4", {}),
        ("a.mp4", {"start": 1.4}),
        ("a.mp4", {"audio_start": 0.25}),
        ("a.mkv", {"start": 0.7}),
        ("a.ts", {"start": 2.0}),
        ("a.webm", {"audio": "libopus", "audio_rate": 48000, "video": "libvpx-vp9"}),
        ("a.mov", {"audio": "pcm_s16le", "audio_rate": 22050}),
    ],
)
def test_sound_is_where_its_timestamps_say(tmp_path: Path, name: str, more: dict) -> None:
    made = make_media(tmp_path / name, duration=2.0, size=(64, 48), events=EVENTS, **more)
    info = probe(made.path)
    assert info.video is not None
    span = Span.of(made.start, made.start + made.duration)
    for samples in (read_sound(made.path, info.audio[0], span).samples, read_native(made.path, info.audio[0], span)):
        assert len(samples) == 2 * SAMPLE_RATE
        assert clicks(samples) == pytest.approx(EVENTS, abs=0.003)


def test_sound_of_a_later_span_is_the_same_sound(tmp_path: Path) -> None:
    made = make_media(tmp_path / "a.mp4", duration=9.0, size=(64, 48), times=times_cfr(9.0, 5), events=(7.5,))
    track = probe(made.path).audio[0]
    whole = read_sound(made.path, track, Span.of(0, 9)).samples
    late = read_sound(made.path, track, Span.of(7, 9)).samples
    assert np.abs(whole[7 * SAMPLE_RATE :] - late).max() < 0.02


def test_the_wanted_language_is_picked(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=16000, layout="mono") for _ in range(2)]
        for stream, language in zip(streams, ("eng", "ger"), strict=True):
            stream.metadata["language"] = language
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), format="s16", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    info = probe(path)
    assert [pick_audio(info, language).language for language in ("de", "en-GB", None)] == ["ger", "eng", "eng"]  # type: ignore[union-attr]


@pytest.mark.parametrize("data", [b"", b"not media at all, only words\n" * 50, bytes(4096)])
def test_what_is_not_media_is_unreadable(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with pytest.raises(UnreadableSource):
        probe(path)


def test_a_playlist_cannot_reach_another_file(tmp_path: Path) -> None:
    secret = make_media(tmp_path / "secret.ts", duration=0.4, size=(64, 48)).path
    for name, text in {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile '{secret}'\n",
    }.items():
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(UnreadableSource):
            probe(path)


def test_a_missing_file_is_the_machines_fault(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        probe(tmp_path / "nowhere.mp4")


@pytest.mark.parametrize(
    ("name", "share"),
    [(name, share) for name in ("a.mp4", "a.mkv", "a.avi") for share in (0.5, 0.9, 0.99) if (name, share) != ("a.avi", 0.99)],
)  # the last hundredth of an AVI is only its index
def test_a_truncated_file_is_seen(tmp_path: Path, name: str, share: float) -> None:
    options = {"movflags": "+faststart"} if name == "a.mp4" else None
    more = {"audio": "pcm_s16le"} if name == "a.avi" else {}
    made = make_media(tmp_path / name, duration=3.0, size=(64, 48), options=options, **more)
    whole = probe(made.path)
    assert whole.missing < 0.2 and not whole.cut_off
    info = probe(truncate(made.path, tmp_path / f"cut-{name}", share))
    assert info.cut_off or info.missing > (0.5 if share < 0.9 else 0.01)


def test_flipped_bits_cost_frames_and_nothing_else(tmp_path: Path) -> None:
    made = make_media(tmp_path / "a.mp4", duration=3.0, options={"movflags": "+faststart"})
    path = flip_bits(made.path, tmp_path / "b.mp4", 40)
    video = probe(path).video
    assert video is not None
    reader = PictureReader(path, video)
    assert sum(1 for _ in reader) > 30 and reader.damage


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 255, (48, 64 + count, 3)).astype(np.uint8)
    return [np.ascontiguousarray(base[:, index : index + 64]) for index in range(count)]


def write(path: Path, frames: list[np.ndarray], **more) -> Path:
    with VideoWriter(path, 64, 48, **more) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def test_a_cut_on_keyframes_copies_the_very_pixels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", pictures(60), keyframes=(0, 20, 45))
    assert {0, 20, 45} <= set(keyframes(path)) and frame_size(path) == (64, 48)
    assert cut_video(path, tmp_path / "b.mp4", 20, 45)
    assert cut_video(path, tmp_path / "c.mp4", 20, 45)
    assert (tmp_path / "b.mp4").read_bytes() == (tmp_path / "c.mp4").read_bytes()
    cut, whole = list(read_frames(tmp_path / "b.mp4")), list(read_frames(path, 20, 45))
    assert len(cut) == 25 and all((a == b).all() for a, b in zip(cut, whole, strict=True))
    assert cut_video(path, tmp_path / "end.mp4", 45, 60) and frame_count(tmp_path / "end.mp4") == 15


def test_a_cut_elsewhere_is_encoded_again_with_the_right_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", pictures(40), keyframes=(0,))
    assert not cut_video(path, tmp_path / "b.mp4", 7, 23)
    cut, whole = list(read_frames(tmp_path / "b.mp4")), list(read_frames(path))
    for index, frame in enumerate(cut):
        errors = [np.abs(frame.astype(int) - other).mean() for other in whole]
        assert int(np.argmin(errors)) == index + 7


@pytest.mark.parametrize(("start", "stop", "copied"), [(5, 60, 45), (0, 50, 45), (14, 46, 30), (15, 59, 30), (16, 44, 0)])
def test_a_cut_elsewhere_copies_the_groups_of_pictures_inside(tmp_path: Path, start: int, stop: int, copied: int) -> None:
    path = write(tmp_path / "a.mp4", pictures(60), keyframes=(0, 15, 45))
    whole = list(read_frames(path))
    for name in ("b.mp4", "c.mp4"):
        assert not cut_video(path, tmp_path / name, start, stop)
    assert (tmp_path / "b.mp4").read_bytes() == (tmp_path / "c.mp4").read_bytes()
    errors = [
        float(np.abs(frame.astype(int) - other).mean())
        for frame, other in zip(read_frames(tmp_path / "b.mp4"), whole[start:stop], strict=True)
    ]
    assert sum(error == 0 for error in errors) == copied and max(errors) < 10
    late = stop - start - 3  # a seek, over the joint, and its last frames
    assert next(read_frames(tmp_path / "b.mp4", late, late + 1)).shape == whole[0].shape
    assert frame_count(tmp_path / "b.mp4") == stop - start
    assert {item.name for item in tmp_path.iterdir()} == {"a.mp4", "b.mp4", "c.mp4"}


def test_pictures_of_another_profile_are_not_joined_but_encoded_again(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 64, 48, preset="ultrafast", keyframes={0, 15}) as writer:
        for picture in pictures(30):
            writer.write(picture)
    assert not cut_video(path, tmp_path / "b.mp4", 5, 30)
    whole = list(read_frames(path))
    for index, frame in enumerate(read_frames(tmp_path / "b.mp4")):
        errors = [np.abs(frame.astype(int) - other).mean() for other in whole]
        assert int(np.argmin(errors)) == index + 5


def test_a_cut_behind_the_end_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", pictures(10))
    with pytest.raises(StoreError):
        cut_video(path, tmp_path / "b.mp4", 5, 20)


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write(tmp_path / name, pictures(30), keyframes=(0, 9)).read_bytes() for name in ("a.mp4", "b.mp4"))
    assert first == second


def test_sound_files_keep_samples(tmp_path: Path) -> None:
    samples = (np.random.default_rng(1).integers(-32768, 32768, 5000) / 32768).astype(np.float32)
    write_audio(tmp_path / "a.flac", samples)
    assert (read_audio(tmp_path / "a.flac") == samples).all()
    write_audio(tmp_path / "b.flac", read_audio(tmp_path / "a.flac", 100, 900))
    assert (read_audio(tmp_path / "b.flac") == samples[100:900]).all()


@pytest.mark.parametrize("late", [-0.2, -0.04, 0.0, 0.04, 0.12])
@pytest.mark.parametrize("rate", [25.0, 30000 / 1001])
def test_picture_shift_knows_the_answer(late: float, rate: float) -> None:
    rng = np.random.default_rng(5)
    path = rng.normal(0, 6, (400, 80)).cumsum(axis=0)  # something that wanders, a step every 10 ms
    show = lambda times: np.clip(128 + path[np.clip((times * 100).astype(int), 0, 399)], 0, 255).astype(np.uint8)  # noqa: E731
    source, written = np.arange(0, 4, 1 / rate), np.arange(0, 4, 0.04)
    found = picture_shift(source, show(source), written, show(np.maximum(written - late, 0)))
    assert found is not None and abs(found - late) < 0.03


def test_picture_shift_says_nothing_of_a_still_picture() -> None:
    rng = np.random.default_rng(2)
    times = np.arange(0, 4, 0.04)
    still = np.clip(np.full((100, 80), 90) + rng.integers(-1, 2, (100, 80)), 0, 255).astype(np.uint8)
    assert picture_shift(times, still, times, np.roll(still, 3, axis=0)) is None


@pytest.mark.parametrize("late", [-0.3, 0.0, 0.0105, 0.25])
def test_sound_shift_knows_the_answer(late: float) -> None:
    rng = np.random.default_rng(4)
    loud = np.repeat(rng.random(80), 800)
    sound = (rng.normal(0, 0.2, 64000) * loud).astype(np.float32)
    found = sound_shift(sound, np.roll(sound, round(late * SAMPLE_RATE)))
    assert found is not None and abs(found - late) < 0.002
    assert sound_shift(np.zeros(64000, np.float32), sound) is None
    assert sound_shift(rng.normal(0, 0.2, 64000).astype(np.float32), sound) is None
