"""Two-channel sound: one person a channel is recognised and kept, a scene in stereo is not taken for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from dyconv.media.audio import read_audio, read_channels
from dyconv.media.sound import read_sound
from dyconv.media.source import pick_audio, probe
from dyconv.records import Clip, Key
from dyconv.speech.channels import channel_evidence
from dyconv.stages.normalize import Normalize
from dyconv.stages.scenes import Scenes
from dyconv.time import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, Span
from tests.mediagen import Bench, make_media
from tests.speech_scenes import Speech, telephone


@pytest.fixture(scope="module")
def call() -> Speech:
    return telephone()


def apart(call: Speech) -> np.ndarray:
    """Each speaker of the telephone sample on a channel of their own, float32 [2, N]: overlapped speech is left out."""
    a, b = call.spoken["a"], call.spoken["b"]
    masks = [np.repeat(own & ~other, SAMPLES_PER_FRAME) for own, other in ((a, b), (b, a))]
    sound = np.stack([call.samples[: len(mask)] * mask for mask in masks])
    noise = np.random.default_rng(3).normal(0, 3e-4, sound.shape)
    return (sound + noise).astype(np.float32)


def bled(sound: np.ndarray, db: float) -> np.ndarray:
    return sound + np.float32(10 ** (db / 20)) * sound[::-1]


def talk(call: Speech, who: str, frames: int) -> np.ndarray:
    """That speaker without pauses, float32 [frames * 640]."""
    other = "b" if who == "a" else "a"
    alone = np.repeat(call.spoken[who] & ~call.spoken[other], SAMPLES_PER_FRAME)
    return np.resize(call.samples[: len(alone)][alone], frames * SAMPLES_PER_FRAME)


def on_disk(path: Path) -> np.ndarray:
    """A sound file as float32 [C, N] at 16 kHz."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    step = np.gcd(rate, SAMPLE_RATE)
    return resample_poly(samples.T, SAMPLE_RATE // step, rate // step, axis=1).astype(np.float32)


@pytest.mark.parametrize("db", [-60.0, -30.0, -20.0, -15.0])
def test_one_person_a_channel_with_little_crosstalk(call: Speech, db: float) -> None:
    found = channel_evidence(bled(apart(call), db))
    assert found.separate and found.score > 0.9
    assert found.crosstalk_db == pytest.approx(max(db, -45), abs=6 if db < -20 else 1)
    truth = np.stack([call.spoken["a"] & ~call.spoken["b"], call.spoken["b"] & ~call.spoken["a"]])
    assert found.activity.shape == truth.shape and found.activity.dtype == np.float32
    said = found.activity > 0.5
    assert not (said & truth[::-1] & ~truth).sum() > 0.03 * truth.sum(), "the partner's speech is not one's own"
    assert (said & truth).sum() > 0.85 * truth.sum()


@pytest.mark.parametrize("db", [-6.0, -3.0, 0.0])
def test_much_crosstalk_is_not_one_person_alone(call: Speech, db: float) -> None:
    found = channel_evidence(bled(apart(call), db))
    assert not found.separate and found.score < 0.1
    assert found.crosstalk_db == pytest.approx(db, abs=0.5)


def test_different_gains_of_the_channels_do_not_matter(call: Speech) -> None:
    assert channel_evidence(apart(call) * np.float32([[1.0], [0.1]])).separate


def test_an_echo_of_the_partner_is_not_one_s_own_speech(call: Speech) -> None:
    sound = apart(call)
    echo = np.roll(sound[::-1], round(0.2 * SAMPLE_RATE), axis=1) * np.float32(10 ** (-15 / 20))
    clean, echoed = (channel_evidence(heard).activity > 0.5 for heard in (sound, sound + echo))
    assert channel_evidence(sound + echo).separate
    assert (echoed & ~clean).sum() <= 0.02 * clean.sum()


def test_a_scene_in_stereo_is_not_taken(call: Speech) -> None:
    frames = call.frames
    noise = np.random.default_rng(0).normal(0, 0.02, (2, frames * SAMPLES_PER_FRAME)).astype(np.float32)
    swell = np.repeat(np.sin(np.arange(frames) / 8) ** 2, SAMPLES_PER_FRAME).astype(np.float32)
    voices = apart(call)
    seats = np.float32([[1.0, 0.6], [0.6, 1.0]]) @ voices  # 4.4 dB louder on the own side
    late = np.stack([voices.sum(axis=0), np.roll(voices.sum(axis=0), 9) * np.float32(0.9)])  # two microphones apart
    scenes = {
        "copy": np.repeat(call.samples[None], 2, axis=0),
        "copy with a different gain": call.samples[None] * np.float32([[1.0], [0.3]]),
        "wide": seats,
        "spaced": late,
        "wide noise": voices.sum(axis=0) + noise * swell,
        "only noise": noise,
        "one side empty": voices * np.float32([[1.0], [0.0]]),
        "turned round": call.samples[None] * np.float32([[1.0], [-1.0]]),
        "silence": np.zeros_like(noise),
        "too short": voices[:, :SAMPLES_PER_FRAME],
        "nothing": voices[:, :0],
    }
    wrong = [name for name, sound in scenes.items() if channel_evidence(sound).separate]
    assert wrong == []


def test_two_who_talk_over_each_other_all_the_time_are_known_by_unlike_waveforms(call: Speech) -> None:
    sound = np.stack([talk(call, "a", 300), talk(call, "b", 300)])
    assert channel_evidence(sound).separate
    assert not channel_evidence(bled(sound, -6.0)).separate


def test_another_number_of_channels_is_refused(call: Speech) -> None:
    with pytest.raises(ValueError, match="two channels"):
        channel_evidence(call.samples[None])


def normalized(folder: Path, sound: np.ndarray, name: str = "a.mp4") -> tuple[Bench, Clip]:
    at_48k = resample_poly(sound, 3, 1, axis=1).astype(np.float32)
    made = make_media(folder / name, duration=sound.shape[1] / SAMPLE_RATE, heard=at_48k, audio_rate=48_000)
    bench = Bench(folder)
    (segment,) = bench.kept(Scenes(), bench.source(made.path))
    (clip,) = bench.kept(Normalize(), segment)
    return bench, clip


def test_normalize_keeps_channels_on_the_clock_of_the_mix(call: Speech, tmp_path: Path) -> None:
    sound = 0.5 * apart(call)[:, : 10 * SAMPLE_RATE]
    bench, clip = normalized(tmp_path, sound)
    mix, channels = read_audio(bench.path(clip, Key.MIX)), read_channels(bench.path(clip, Key.CHANNELS))
    assert channels.shape == (2, len(mix)) == (2, clip.frames * SAMPLES_PER_FRAME)
    assert np.abs(channels.sum(axis=0) - mix).max() <= 3 / 32768, "the channels add up to the mix"
    assert isinstance(clip.measures["channel_crosstalk_db"], float)
    for index in range(2):
        lags = np.correlate(channels[index], sound[index, 800 : len(mix) - 800], mode="valid")
        assert abs(int(np.argmax(lags)) - 800) <= 16, "within a millisecond of the source, through AAC"


def test_normalize_keeps_no_channels_of_a_scene_or_of_mono(call: Speech, tmp_path: Path) -> None:
    short = call.samples[: 6 * SAMPLE_RATE]
    for name, sound in (("s", np.stack([short, 0.8 * short])), ("m", short[None])):
        (tmp_path / name).mkdir()
        _, clip = normalized(tmp_path / name, sound)
        assert Key.CHANNELS not in clip.assets and "channel_crosstalk_db" not in clip.measures


def test_real_recordings_on_two_channels(real_data: Path) -> None:
    audio = real_data / "audio"
    both = on_disk(audio / "faster-whisper__stereo_diarization.wav")
    assert channel_evidence(both).separate
    sides = [on_disk(path).mean(axis=0) for path in sorted(audio.glob("amazon-transcribe*.flac"))]
    pairs = [np.stack(sides)]
    for left in sorted(audio.glob("anytalker__*_left.flac")):
        two = [on_disk(path).mean(axis=0) for path in (left, left.with_name(left.name.replace("_left", "_right")))]
        pairs.append(np.stack([side[: min(map(len, two))] for side in two]))
    assert len(pairs) > 10
    for pair in pairs:
        assert channel_evidence(pair).separate
        assert channel_evidence(bled(pair, -15.0)).separate
        assert not channel_evidence(bled(pair, -6.0)).separate


def test_real_footage_in_stereo_is_never_one_person_a_channel(real_data: Path) -> None:
    seen = 0
    for path in [*sorted((real_data / "conversations").iterdir()), *sorted((real_data / "heads").glob("*.mp4"))[::4]]:
        info = probe(path)
        track = pick_audio(info)
        if track is None or track.channels != 2:
            continue
        channels = read_sound(path, track, Span(info.start, info.start + min(info.duration, 20))).channels
        assert channels is not None
        assert not channel_evidence(channels).separate, path.name
        seen += 1
    assert seen > 15


def test_activity_has_one_value_a_frame() -> None:
    assert channel_evidence(np.zeros((2, SAMPLES_PER_FRAME * FPS + 5), np.float32)).activity.shape == (2, FPS)
