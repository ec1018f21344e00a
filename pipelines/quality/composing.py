"""Makes the media of scenes, each once: what lies there complete is not made again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np

from dyconv.synth.compose import OFF_SCREEN, PEOPLE, Cabinet, Options, arrange
from dyconv.synth.render import Conversation, render
from dyconv.time import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from dyconv.truth import FILE_NAME, TruthTurn
from pipelines.quality.identities import Cast
from pipelines.quality.scenes import Scene

TELEPHONE_HZ = 3400.0
_VAD = 0.5
_SLACK = 2  # frames by which speech may reach over what the voice detector hears
_MIN_TURN = 4
_LONGEST_GAP = 7

_cabinet: Cabinet | None = None  # of this process: clips that are decoded


def compose_all(scenes: Sequence[Scene], cast: Cast, folder: Path, workers: int, tell: Callable[[str], None]) -> list[Path]:
    """The truths of all scenes, in order; those that are not there are composed in `workers` processes."""
    missing = [scene for scene in scenes if not (folder / scene.id / FILE_NAME).is_file()]
    if missing:
        tell(f"composing {len(missing)} of {len(scenes)} conversations")
        with ProcessPoolExecutor(max_workers=workers) as pool:
            waiting = [pool.submit(compose_one, scene, cast, folder) for scene in missing]
            try:
                for done, future in enumerate(as_completed(waiting), 1):
                    tell(f"  {done}/{len(missing)} {future.result()}")
            finally:
                pool.shutdown(cancel_futures=True)
    return [folder / scene.id / FILE_NAME for scene in scenes]


def compose_one(scene: Scene, cast: Cast, folder: Path) -> str:
    """Compose a scene into a folder of its name; gives the name."""
    global _cabinet
    _cabinet = _cabinet or Cabinet()
    width, height = scene.size
    options = Options(
        layout=scene.layout,
        overlap=scene.overlap,
        off_screen=None if scene.narrator is None else cast.narrators[scene.narrator],
        background=scene.under,
        snr_db=scene.snr_db,
        seed=scene.seed,
        width=width,
        height=height,
        duration=scene.seconds,
    )
    conversation = arrange(cast.people[scene.a], cast.people[scene.b], options, _cabinet)
    conversation = with_heard_turns(conversation)
    if scene.telephone:
        conversation = telephone(conversation)
    if scene.shift_ms:
        conversation = shifted(conversation, scene.shift_ms / 1000)
    render(conversation, folder / scene.id)
    return scene.id


def with_heard_turns(conversation: Conversation) -> Conversation:
    """Turns where a person's own clean voice is really speech: composed by level alone, they hold breaths as well.

    An off-screen voice keeps its turns.
    """
    from dyconv.models.registry import load
    from dyconv.speech.turns import close_gaps, drop_short, runs

    vad = load("silero")
    turns = [turn for turn in conversation.turns if turn.person == OFF_SCREEN]
    for person in PEOPLE:
        voice = conversation.voices[person]
        frames = -(-len(voice) // SAMPLES_PER_FRAME)
        planned = np.zeros(frames, bool)
        for turn in conversation.turns:
            if turn.person == person:
                planned[round(turn.start * FPS) : round(turn.end * FPS)] = True
        padded = np.pad(voice, (0, frames * SAMPLES_PER_FRAME - len(voice)))
        heard = np.convolve(vad.speech(padded) >= _VAD, np.ones(2 * _SLACK + 1), mode="same") > 0
        spoken = drop_short(close_gaps(heard & planned, _LONGEST_GAP), _MIN_TURN)
        turns += [TruthTurn(person, start / FPS, min(stop / FPS, len(voice) / SAMPLE_RATE)) for start, stop in runs(spoken)]
    return replace(conversation, turns=tuple(sorted(turns, key=lambda turn: (turn.start, turn.person or ""))))


def telephone(conversation: Conversation) -> Conversation:
    """Nothing above 3.4 kHz, in the mix as in each voice."""
    from scipy.signal import butter, sosfiltfilt

    low = butter(8, TELEPHONE_HZ, fs=SAMPLE_RATE, output="sos")

    def limited(samples: np.ndarray) -> np.ndarray:
        return np.asarray(sosfiltfilt(low, samples), np.float32)

    voices = {person: limited(voice) for person, voice in conversation.voices.items()}
    return replace(conversation, mix=limited(conversation.mix), voices=voices)


def shifted(conversation: Conversation, seconds: float) -> Conversation:
    """All sound later by so many seconds (earlier if negative) than the picture it belongs to."""
    count = round(seconds * SAMPLE_RATE)
    length = len(conversation.mix) / SAMPLE_RATE

    def moved(samples: np.ndarray) -> np.ndarray:
        out = np.zeros_like(samples)
        out[max(count, 0) : len(out) + min(count, 0)] = samples[max(-count, 0) : len(out) - max(count, 0)]
        return out

    turns = [
        TruthTurn(turn.person, max(0.0, turn.start + seconds), min(length, turn.end + seconds))
        for turn in conversation.turns
        if turn.end + seconds > 0 and turn.start + seconds < length
    ]
    voices = {person: moved(voice) for person, voice in conversation.voices.items()}
    return replace(conversation, mix=moved(conversation.mix), voices=voices, turns=tuple(turns))
