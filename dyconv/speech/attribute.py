"""From evidence to decisions: which two people talk, whose each stretch of speech is, and what is left undecided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dyconv.records import PERSONS, Turn
from dyconv.speech.decode import Decoding, Evidence, TurnModel
from dyconv.speech.turns import close_gaps, drop_short, runs
from dyconv.speech.voice import VoiceEvidence, compare_voices
from dyconv.time import Span

SPEECH = 0.5  # VAD probability from which a frame counts as speech
_SURE = 0.85  # posterior from which a frame may teach a voice
_ROUNDS = 3


@dataclass(frozen=True)
class Attribution:
    """What was decided about two people.

    Attributes:
        decoding: posteriors of the last round, two people.
        voices: how far the two voices, as attributed, can be told apart.
    """

    decoding: Decoding
    voices: VoiceEvidence


def attribute(evidence: Evidence, features: np.ndarray, model: TurnModel) -> Attribution:
    """Decode two people in rounds: speech attributed surely teaches the voices, voices then help where lips do not show.

    Args:
        evidence: of exactly two people; its `voice` is not used.
        features: voice features [T, D].
    """
    decoding = model.decode(evidence)
    voices = VoiceEvidence(np.zeros(len(evidence.speech)), 0.0)
    for _ in range(_ROUNDS):
        first, second = (sure_frames(decoding, evidence.speech, person) for person in range(2))
        voices = compare_voices(features, first, second)
        decoding = model.decode(replace(evidence, voice=np.stack([voices.odds, -voices.odds]) / 2))
    return Attribution(decoding, voices)


def sure_frames(decoding: Decoding, speech: np.ndarray, person: int) -> np.ndarray:
    """Bool [T]: speech that is surely this person's, and surely nobody else's."""
    others = np.delete(decoding.persons, person, axis=0).sum(axis=0) + decoding.other
    return np.asarray((decoding.persons[person] >= _SURE) & (others <= 1 - _SURE) & (speech >= SPEECH))


@dataclass(frozen=True)
class TurnRules:
    """How posteriors become turns.

    Attributes:
        min_confidence: probability, given that somebody speaks, below which speech is given to nobody.
        min_turn: frames; shorter turns are dropped.
        max_gap: frames; shorter pauses of one person are bridged.
    """

    min_confidence: float = 0.8
    min_turn: int = 5
    max_gap: int = 7

    def turns(self, decoding: Decoding) -> list[Turn]:
        """Turns of p0, p1, of somebody else (person None), and speech left undecided (unsure), by start.

        One person's turns never overlap, and undecided speech overlaps nobody's.
        """
        who = decoding.persons / np.maximum(1.0 - decoding.silence, 1e-6)  # given that somebody speaks
        elsewhere = decoding.other / np.maximum(1.0 - decoding.silence, 1e-6)
        heard = decoding.path == len(decoding.states) - 1
        given = np.zeros(len(heard), bool)
        turns = []
        for person, chance in enumerate(who):
            own = decoding.speaks(person)
            heard |= own
            doubt = drop_short(own & (chance < self.min_confidence), self.min_turn)
            mask = drop_short(close_gaps(own & ~doubt, self.max_gap) & ~doubt, self.min_turn)
            given |= mask
            turns += [Turn(PERSONS[person], Span.of_frames(*run), _mean(chance, run)) for run in runs(mask)]
        for run in runs(drop_short(heard & ~given, self.min_turn)):
            surely = _mean(elsewhere, run) >= self.min_confidence
            best = _mean(elsewhere, run) if surely else max(_mean(chance, run) for chance in who)
            turns.append(Turn(None, Span.of_frames(*run), best, unsure=not surely))
        return sorted(turns, key=lambda turn: (turn.span, turn.person or "~"))


def _mean(values: np.ndarray, run: tuple[int, int]) -> float:
    return float(np.clip(values[slice(*run)].mean(), 0.0, 1.0))


def seconds_spoken(turns: Sequence[Turn], person: str | None, *, unsure: bool = False) -> float:
    """Seconds of the turns of one person, or with None of nobody known (`unsure` tells the two kinds apart)."""
    return float(sum(turn.span.duration for turn in turns if turn.person == person and turn.unsure == unsure))
