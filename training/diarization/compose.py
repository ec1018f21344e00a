"""Compose conversations from single voices, with the truth of who speaks when: wav, RTTM, UEM and a database.yml.

    python -m training.diarization.compose --packages DIR --out CORPUS --hours 16

The corpus holds two pyannote.database protocols: `Composed.SpeakerDiarization.Conversations` (speakers known within a file)
and `Composed.SpeakerDiarization.Voices` (one voice a file, known across files). Turn-taking follows what is known of
conversations (Heldner & Edlund 2010: gaps and overlaps about normal around 0.2 s; backchannels; bursts of quick turns).
"""

from __future__ import annotations

import argparse
import logging
import wave
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

from dyconv.time import SAMPLE_RATE
from training.corpora import MUSIC, NOISE, sounds
from training.diarization import acoustics
from training.diarization.voices import Voice, load, save, voices

log = logging.getLogger(__name__)
_PAUSE = 0.3  # s: shorter silence within one person's turn does not part it in the truth
_SECONDS = (35.0, 65.0)
_VOICE_SECONDS = 30.0
_EVERY = 10  # each tenth voice is for development
_LISTED = 60
_VOICE_SPEEDS = (1, 3, 5)  # of acoustics.SPEEDS: as many persons is one speaker to the embedding
DATABASE = """Databases:
  Composed: wav/{uri}.wav
Protocols:
  Composed:
    SpeakerDiarization:
      Conversations:
        scope: global
        train:
          uri: conversations.train.txt
          annotation: conversations.train.rttm
          annotated: conversations.train.uem
        development:
          uri: conversations.development.txt
          annotation: conversations.development.rttm
          annotated: conversations.development.uem
      Voices:
        scope: global
        train:
          uri: voices.train.txt
          annotation: voices.train.rttm
          annotated: voices.train.uem
        development:
          uri: voices.development.txt
          annotation: voices.development.rttm
          annotated: voices.development.uem
"""


@dataclass(frozen=True)
class Turn:
    speaker: str
    start: float
    end: float


@dataclass
class Scene:
    """One conversation being composed: a track for each speaker, and the turns so far."""

    names: list[str]
    tracks: np.ndarray  # float32 [S, N]
    turns: list[Turn]

    def say(self, who: int, at: float, piece: np.ndarray) -> float:
        """Put a piece of speech into a track; returns when it ends, seconds."""
        start = max(0, int(at * SAMPLE_RATE))
        piece = piece[: max(0, self.tracks.shape[1] - start)]
        if len(piece) < 0.15 * SAMPLE_RATE:
            return at
        self.tracks[who, start : start + len(piece)] += piece
        end = start + len(piece)
        self.turns.append(Turn(self.names[who], start / SAMPLE_RATE, end / SAMPLE_RATE))
        return end / SAMPLE_RATE


Speak = Callable[[int, float], np.ndarray]  # (speaker, about how many seconds) -> samples


def _speaker(cast: list[Voice], rng: np.random.Generator) -> tuple[Speak, list[str]]:
    """A function that gives the next piece of a speaker's speech, at that speaker's own speed; and the speakers' names.

    Much slower or faster, a voice is another person and has another name.
    """
    speeds = [acoustics.SPEEDS[int(rng.integers(len(acoustics.SPEEDS)))] for _ in cast]
    names = [f"{voice.name}@{_pace(speed)}" for voice, speed in zip(cast, speeds, strict=True)]

    def speak(who: int, seconds: float) -> np.ndarray:
        lines = cast[who].utterances
        line = lines[int(rng.integers(len(lines)))]
        wanted = int(seconds * SAMPLE_RATE)
        if len(line) > wanted:
            begin = int(rng.integers(len(line) - wanted + 1)) if rng.random() < 0.5 else 0
            line = line[begin : begin + wanted]
        out = acoustics.at_speed(line, speeds[who]) / 32768
        fade = min(160, len(out) // 2)
        out[:fade] *= np.linspace(0, 1, fade)
        out[len(out) - fade :] *= np.linspace(1, 0, fade)
        return out

    return speak, names


def _pace(speed: Fraction) -> str:
    return "slow" if speed < Fraction(93, 100) else "fast" if speed > Fraction(107, 100) else "own"


def _talk(scene: Scene, speak: Speak, rng: np.random.Generator) -> None:
    """Fill a scene with turns."""
    length = scene.tracks.shape[1] / SAMPLE_RATE
    count, quick = len(scene.names), rng.random() < 0.3
    overlapping = float(rng.choice([0.1, 0.25, 0.5]))
    at, who = float(rng.exponential(1.0)) * (rng.random() < 0.7), int(rng.integers(count))
    while at < length - 0.3:
        wanted = float(np.clip(rng.lognormal(*((0.0, 0.7) if quick else (0.9, 0.8))), 0.3, 15))
        begin, end = at, at
        while end - begin < wanted:
            gap = float(rng.exponential(0.2)) if end > begin else 0.0
            reached = scene.say(who, end + gap, speak(who, wanted - (end - begin)))
            if reached <= end + gap:
                break
            end = reached
        others = [other for other in range(count) if other != who]
        if others and end - begin > 1.5 and rng.random() < 0.4:
            other = int(rng.choice(others))
            scene.say(other, float(rng.uniform(begin + 0.4, end - 0.3)), speak(other, float(rng.uniform(0.25, 0.9))))
        gap = float(rng.normal(0.2, 0.35))
        if rng.random() < overlapping:
            gap = -float(rng.exponential(0.7))
        elif rng.random() < 0.12:
            gap = float(rng.exponential(2.0)) + 0.5
        at = max(end + gap, begin + 0.3)
        if others and rng.random() < 0.88:
            who = int(rng.choice(others))


def _joined(turns: list[Turn]) -> list[Turn]:
    """Each speaker's turns in order, those with less than `_PAUSE` between them as one."""
    out: list[Turn] = []
    for turn in sorted(turns, key=lambda turn: (turn.speaker, turn.start)):
        last = out[-1] if out else None
        if last and last.speaker == turn.speaker and turn.start - last.end < _PAUSE:
            out[-1] = Turn(last.speaker, last.start, max(last.end, turn.end))
        else:
            out.append(turn)
    return sorted(out, key=lambda turn: turn.start)


def rendered(tracks: np.ndarray, backgrounds: list[np.ndarray], rng: np.random.Generator, milder: float) -> np.ndarray:
    """Tracks float32 [S, N] as they would be recorded together, int16 [N]; noise and music `milder` dB lower than the worst."""
    line = rng.random() < 0.35  # a telephone call: every speaker has their own line
    decay = float(rng.uniform(0.15, 0.9)) if rng.random() < (0.2 if line else 0.55) else 0.0
    voices = []
    for track in tracks:
        own = acoustics.coloured(track, rng) if rng.random() < 0.5 else track
        own = acoustics.in_room(own, acoustics.room(rng, decay)) if decay else own
        own = acoustics.telephone(own, rng) if line else own
        voices.append(own * 10 ** (float(rng.normal(0, 4)) / 20))
    mix = np.sum(voices, axis=0)
    power = float(np.sqrt(np.mean(np.square(mix[np.abs(mix) > 1e-4])))) if np.any(np.abs(mix) > 1e-4) else 0.05
    for kind, chance, lowest in (("hum", 0.8, 8.0), ("sound", 0.35, 4.0)):
        if rng.random() < chance:
            if kind == "hum":
                rest = acoustics.hum(len(mix), rng)
            else:
                rest = acoustics.looped(backgrounds[int(rng.integers(len(backgrounds)))], len(mix), rng)
            mix = mix + rest * power * 10 ** (-float(rng.uniform(lowest + milder, 40)) / 20)
    if line and rng.random() < 0.5:
        mix = acoustics.telephone(mix, rng)
    elif not line and rng.random() < 0.2:
        mix = acoustics.dull(mix, rng)
    mix = mix * 10 ** (float(rng.uniform(-30, -14)) / 20) / (power + 1e-9)
    return (np.clip(mix, -1, 1) * 32767).astype(np.int16)


def conversation(cast: list[Voice], rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, list[Turn]]:
    """One conversation of these voices: a clean track each, float32 [S, N], and its turns."""
    speak, names = _speaker(cast, rng)
    scene = Scene(names, np.zeros((len(cast), int(seconds * SAMPLE_RATE)), np.float32), [])
    _talk(scene, speak, rng)
    return scene.tracks, _joined(scene.turns)


def reading(voice: Voice, speed: int, rng: np.random.Generator) -> tuple[np.ndarray, list[Turn]]:
    """One voice alone for half a minute, as another person at another speed: float32 [1, N] and its one turn."""
    order = rng.permutation(len(voice.utterances))
    pieces, count = [], 0
    for index in np.resize(order, 4 * len(order)):
        pieces.append(acoustics.at_speed(voice.utterances[int(index)], acoustics.SPEEDS[speed]) / 32768)
        count += len(pieces[-1])
        if count > _VOICE_SECONDS * SAMPLE_RATE:
            break
    track = np.concatenate(pieces)[: int(_VOICE_SECONDS * SAMPLE_RATE)]
    return track[None], [Turn(f"{voice.name}@{speed}", 0.0, len(track) / SAMPLE_RATE)]


@dataclass(frozen=True)
class Job:
    """One file to make: `part` is conversations.train, voices.development and so on."""

    part: str
    uri: str
    seed: int
    voice: int | None = None
    speed: int = 3


@dataclass(frozen=True)
class Made:
    """One file that is there, and its truth."""

    part: str
    uri: str
    seconds: float
    turns: list[Turn]


PARTS = tuple(f"{kind}.{part}" for kind in ("conversations", "voices") for part in ("train", "development"))
_state: dict[str, list] = {}


def _make(job: Job) -> Made:
    rng = np.random.default_rng(job.seed)
    cast, backgrounds = _state["voices"], _state["backgrounds"]
    if job.voice is not None:
        tracks, turns = reading(cast[job.voice], job.speed, rng)
    else:
        count = int(rng.choice([1, 2, 3], p=[0.08, 0.67, 0.25]))
        apart = job.part.endswith("development")
        cast = [voice for index, voice in enumerate(cast) if (index % _EVERY == 0) == apart]
        chosen = [cast[index] for index in rng.choice(len(cast), count, replace=False, p=_weights(cast))]
        tracks, turns = conversation(chosen, rng, float(rng.uniform(*_SECONDS)))
    target = _state["folder"][0] / "wav" / f"{job.uri}.wav"
    if not target.exists():  # going on after a stop: the truth comes from the seed
        write_wav(target, rendered(tracks, backgrounds, rng, _state["milder"][0]))
    return Made(job.part, job.uri, tracks.shape[1] / SAMPLE_RATE, turns)


def _weights(cast: list[Voice]) -> np.ndarray:
    """Who has little to say is heard less often, with the square root of it."""
    share = np.sqrt([min(voice.seconds, 60.0) for voice in cast])
    return share / share.sum()


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Mono 16 kHz PCM with the plain 44-byte header."""
    whole = path.with_suffix(".tmp")
    with wave.open(str(whole), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())
    whole.replace(path)


def _backgrounds(packages: Path, *, held_out: bool) -> list[np.ndarray]:
    """Music and noise, up to 30 s of each file, int16 at 16 kHz."""
    out = []
    chosen = {path for kind in (MUSIC, NOISE) for path in sounds(packages, kind, held_out=held_out)}
    for path in sorted(chosen):
        try:
            native, rate = soundfile.read(path, frames=30 * 48000, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            continue
        mono = native[: 30 * rate].mean(1)
        if len(mono) > rate // 4 and mono.std() > 1e-3:
            samples = signal.resample_poly(mono, SAMPLE_RATE, rate)
            out.append((np.clip(samples, -1, 1) * 32767).astype(np.int16))
    return out


def _jobs(hours: float, readings: int, cast: list[Voice], seed: int) -> list[Job]:
    """Each tenth voice, and one conversation in twelve, is for development: those speakers are heard in nothing else."""
    count = round(hours * 3600 / (sum(_SECONDS) / 2))
    out = []
    for index in range(count):
        part = "conversations.development" if index % 12 == 0 else "conversations.train"
        out.append(Job(part, f"c{seed}_{index:05d}", seed * 10**6 + index))
    for take in range(readings):
        for index in range(len(cast)):
            for speed in _VOICE_SPEEDS:
                part = "voices.development" if index % _EVERY == 0 else "voices.train"
                number = (take * len(cast) + index) * len(acoustics.SPEEDS) + speed
                out.append(Job(part, f"v{seed}_{take}_{index:03d}_{speed}", (seed + 500) * 10**6 + number, index, speed))
    return out


def corpus(folder: Path, cast: list[Voice], backgrounds: list[np.ndarray], jobs: list[Job], milder: float) -> None:
    """Make every job's file and write what pyannote.database reads, beside what is there of another seed.

    The lists are complete after each `_LISTED` files, so that training can begin on them.
    """
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    (folder / "database.yml").write_text(DATABASE)
    _state.update(voices=cast, backgrounds=backgrounds, folder=[folder], milder=[milder])
    made: list[Made] = []
    with Pool(2) as pool:
        for done, one in enumerate(pool.imap_unordered(_make, jobs, chunksize=4), 1):
            made.append(one)
            if done % _LISTED == 0 or done == len(jobs):
                log.info("%d of %d files", done, len(jobs))
                _list(folder, made)
                made.clear()


def _list(folder: Path, made: list[Made]) -> None:
    for part in PARTS:
        lines: dict[str, list[str]] = {"txt": [], "rttm": [], "uem": []}
        for one in made:
            if one.part == part:
                lines["txt"].append(one.uri)
                lines["uem"].append(f"{one.uri} 1 0.000 {one.seconds:.3f}")
                for turn in one.turns:
                    span = f"{turn.start:.3f} {turn.end - turn.start:.3f}"
                    lines["rttm"].append(f"SPEAKER {one.uri} 1 {span} <NA> <NA> {turn.speaker} <NA> <NA>")
        for ending, fresh in lines.items():
            file = folder / f"{part}.{ending}"
            known = file.read_text().splitlines() if file.exists() else []
            whole = file.with_suffix(f".{ending}.tmp")
            whole.write_text("".join(f"{line}\n" for line in sorted({*known, *fresh})))
            whole.replace(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True, help="folder with the unpacked Debian packages")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=16.0, help="of conversations")
    parser.add_argument("--readings", type=int, default=3, help="files of half a minute a voice and speed")
    parser.add_argument("--held-out", action="store_true", help="from the voices no model may learn from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--milder", type=float, default=0.0, help="dB by which the loudest noise and music are quieter")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "voices.npz"
    if not kept.exists():
        save(kept, voices(args.packages, held_out=args.held_out))
    cast = load(kept)
    log.info("%d voices, %.2f h", len(cast), sum(voice.seconds for voice in cast) / 3600)
    noises = args.out / "backgrounds.npz"
    if not noises.exists():
        found = _backgrounds(args.packages, held_out=args.held_out)
        np.savez(noises, **{f"{index:04d}": sound for index, sound in enumerate(found)})  # type: ignore[arg-type]
    with np.load(noises) as kept_noises:
        backgrounds = [kept_noises[key] for key in kept_noises.files]
    log.info("%d backgrounds", len(backgrounds))
    corpus(args.out, cast, backgrounds, _jobs(args.hours, args.readings, cast, args.seed), args.milder)


if __name__ == "__main__":
    main()
