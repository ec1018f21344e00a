"""Two-channel sound: does each channel carry one person alone, and when does each of them speak?

Calls, podcasts and remote interviews are often recorded with one microphone a channel. Then no separation is needed. A
stereo recording of one scene looks alike from outside, and must not be taken for that: both people are in both of its
channels. The difference is in the levels. One person a channel means that, whoever speaks, one channel is far above the
other, now this one and now that one, for as long as a phrase lasts; what is left of the partner is the crosstalk. In a
scene both channels rise and fall together, whatever its stereo width. Where people talk over each other all the time, no
level stands out: then the waveforms must be unlike each other, which those of one scene never are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dyconv.speech.bleed import FLOOR_DB, frame_energy
from dyconv.time import FPS, SAMPLES_PER_FRAME

MAX_CROSSTALK_DB = -10.0  # more of the partner than this in a channel is not one person alone
_SLOPE_DB = 1.5  # dB beyond the limit in which the score falls from 0.5 to 0.27
_WINDOW = 3  # frames over which energies are averaged
_SNR_DB = 10.0  # above its floor a channel is active
_RANGE_DB = 40.0  # so far below its loudest moment it is not
_LEAK_MARGIN_DB = (3.0, 6.0)  # speech must be so far above what the other channel explains, the more the less evenly it leaks
_ECHO = 11  # frames (0.44 s) in which what is said over there may come back in this channel
_SOFT_DB = 2.5  # width of the step from silent to active
_GAP = 9  # frames (0.36 s) between words that are bridged
_MIN_ALONE_S = 0.6  # each channel must be heard alone for so long, and ...
_MIN_ALONE = 0.04  # ... for this share of all that is heard
_MIN_RUN_S = 0.12  # on average a channel stands out for longer than this; panned noise flickers
_LIKE_WINDOW = 8000  # samples over which waveforms are compared
_LIKE_LAG = 160  # samples that one channel may be late against the other
_UNLIKE = 0.125  # correlation: recordings of one scene have 0.2 and more, two voices recorded apart 0.01 to 0.1
_TINY = 1e-12


@dataclass(frozen=True)
class ChannelActivity:
    """What two channels tell.

    Attributes:
        activity: float32 [2, T], how sure it is that the person of each channel speaks, one a 25 fps frame. Means something
            only where `separate`.
        separate: each channel carries one person alone.
        score: how sure that is, 0 to 1; `separate` from 0.5.
        crosstalk_db: how much of the partner is left in the worse channel, against the partner's own channel; 0 where no
            channel stands out, -100 where nothing is left.
    """

    activity: np.ndarray
    separate: bool
    score: float
    crosstalk_db: float


def channel_evidence(channels: np.ndarray) -> ChannelActivity:
    """Judge two channels, float32 [2, N] at 16 kHz, in -1 to 1. T = N // 640.

    Both people must be heard alone at some time: with one of them silent throughout, nothing tells a channel of their own
    from noise, and it is not `separate`.

    Raises:
        ValueError: for another number of channels.
    """
    if channels.ndim != 2 or channels.shape[0] != 2:
        raise ValueError(f"expected two channels [2, N], found shape {list(channels.shape)}")
    frames = channels.shape[1] // SAMPLES_PER_FRAME
    if not frames:
        return ChannelActivity(np.zeros((2, 0), np.float32), False, 0.0, 0.0)
    sound = np.stack([_high_passed(channel) for channel in channels])
    energy = _smooth(np.stack([frame_energy(channel, frames) for channel in sound]))
    floor = _floor(energy)
    heard = _db(energy) - np.maximum(_db(floor) + _SNR_DB, _db(energy).max(axis=1, keepdims=True) - _RANGE_DB)
    ratio = _db(np.maximum(energy[0] - floor[0], floor[0] / 4)) - _db(np.maximum(energy[1] - floor[1], floor[1] / 4))
    louder = np.stack([(heard[0] > 0) & (ratio > 0), (heard[1] > 0) & (ratio < 0)])
    leaks = np.array([_leak_db(ratio[louder[0]]), _leak_db(-ratio[louder[1]])])  # of 0 into 1, and of 1 into 0
    score = 0.0
    if _take_turns(louder & (np.abs(ratio) > -MAX_CROSSTALK_DB / 2), louder):
        if leaks.max() > MAX_CROSSTALK_DB and (like := _likeness(sound, (heard > 0).all(axis=0))) <= _UNLIKE:
            leaks = np.minimum(leaks, 20.0 * np.log10(max(like, _TINY)))
        score = float(_sigmoid((MAX_CROSSTALK_DB - leaks.max()) / _SLOPE_DB))
    return ChannelActivity(_activity(energy, heard, louder), score >= 0.5, round(score, 4), round(float(leaks.max()), 2))


def _leak_db(ratio: np.ndarray) -> float:
    """Crosstalk of a channel into the other from the level differences in dB while it is the louder one."""
    return max(FLOOR_DB, -float(np.median(ratio))) if len(ratio) else 0.0


def _take_turns(clear: np.ndarray, louder: np.ndarray) -> bool:
    """Whether each channel stands out for long enough, and for the length of phrases. Both bool [2, T]."""
    if clear.sum(axis=1).min() < max(_MIN_ALONE_S * FPS, _MIN_ALONE * louder.sum()):
        return False
    runs = sum(int(np.count_nonzero(np.diff(row.astype(np.int8), prepend=0) == 1)) for row in clear)
    return float(clear.sum()) >= runs * _MIN_RUN_S * FPS


def _likeness(sound: np.ndarray, both: np.ndarray) -> float:
    """Highest correlation of the waveforms over small lags, 0 to 1: the upper quartile of windows in which `both` are heard.

    1 where there is no such window.
    """
    whitened = np.diff(sound, axis=1)
    spoken = np.repeat(both, SAMPLES_PER_FRAME)
    found = []
    for start in range(0, whitened.shape[1] - _LIKE_WINDOW + 1, _LIKE_WINDOW):
        part = slice(start, start + _LIKE_WINDOW)
        if spoken[part].mean() < 0.5:
            continue
        first, second = whitened[:, part].astype(np.float64)
        spectrum = np.fft.rfft(first, 2 * _LIKE_WINDOW) * np.conj(np.fft.rfft(second, 2 * _LIKE_WINDOW))
        lagged = np.fft.irfft(spectrum)
        near = np.abs(np.concatenate([lagged[-_LIKE_LAG:], lagged[: _LIKE_LAG + 1]])).max()
        found.append(near / np.sqrt((first**2).sum() * (second**2).sum() + _TINY))
    return float(np.percentile(found, 75)) if found else 1.0


def _activity(energy: np.ndarray, heard: np.ndarray, louder: np.ndarray) -> np.ndarray:
    """Float32 [2, T]: each channel's speech beyond its floor and beyond what the other channel leaks into it."""
    from scipy.ndimage import grey_closing

    level = _db(energy)
    beyond = np.stack([level[own] - _leaked(level[own], level[1 - own], louder[1 - own]) for own in range(2)])
    chance = _sigmoid(np.minimum(heard, beyond) / _SOFT_DB)
    return np.stack([grey_closing(row, size=min(_GAP, len(row))) for row in chance]).astype(np.float32)


def _leaked(own: np.ndarray, other: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The most that the other channel explains of this one, dB [T], from the frames in which it is the louder one.

    An echo comes late: of all delays, the one at which the difference of the levels spreads least is taken.
    """
    from scipy.ndimage import maximum_filter1d

    best, least = np.full(len(own), FLOOR_DB), np.inf
    for late in range(min(_ECHO, len(own))):
        source = np.concatenate([np.full(late, other.min()), other[: len(other) - late]])
        apart = (own - source)[theirs]
        if not len(apart):
            break
        leak = float(np.median(apart))
        spread = float(np.median(np.abs(apart - leak)))
        if spread < least:
            margin = float(np.clip(3.0 * spread, *_LEAK_MARGIN_DB))
            best, least = maximum_filter1d(source, _WINDOW) + leak + margin, spread
    return best


def _high_passed(samples: np.ndarray) -> np.ndarray:
    """Hum, rumble and offset taken out: they differ between microphones and are not speech."""
    from scipy.signal import butter, sosfilt

    return np.asarray(sosfilt(butter(2, 120.0, "highpass", fs=16_000, output="sos"), samples), np.float32)


def _smooth(energy: np.ndarray) -> np.ndarray:
    from scipy.ndimage import uniform_filter1d

    return np.asarray(uniform_filter1d(energy, _WINDOW, axis=1, mode="nearest"))


def _floor(energy: np.ndarray) -> np.ndarray:
    """Energy [2, 1] of each channel's quietest twentieth; a silent one's is bounded by what 16 bits can tell."""
    return np.maximum(np.percentile(energy, 5, axis=1, keepdims=True), 1e-9)


def _db(energy: np.ndarray) -> np.ndarray:
    return np.asarray(10.0 * np.log10(np.maximum(energy, _TINY)))


def _sigmoid(value: np.ndarray | float) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(value, -50.0, 50.0))))
