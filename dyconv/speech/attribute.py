"""From evidence to decisions: whose each stretch of speech is, how far lips and voices agree on it, what is left undecided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dyconv.records import PERSONS, Turn
from dyconv.speech.decode import Decoding, Evidence, TurnModel
from dyconv.speech.heard import fit, learn_shares
from dyconv.speech.lips import leaning, read_lips
from dyconv.speech.turns import close_gaps, drop_short, runs
from dyconv.speech.voice import VoiceEvidence, compare_voices
from dyconv.time import FPS, Span

SPEECH = 0.5  # VAD probability from which a frame counts as speech
_SURE = 0.85  # posterior from which a frame may teach a voice
_ROUNDS = 3
_TELLS = 1.0  # log odds from which lips, or a voice, are taken to name somebody
_MORE = 0.2  # by how much larger a share somebody else must have in a voice
_FEW = 5  # frames; with fewer in which both tell there is no agreement to speak of


@dataclass(frozen=True)
class Attribution:
    """What was decided about people 0 .. P-1.

    Attributes:
        decoding: posteriors of the last round.
        voices: how far the voices of two people, as attributed, can be told apart.
        shares: float [K, P + 1], which heard voice is whose, see `dyconv.speech.heard`; K is 0 where none was heard.
        lips: float [P, T], log odds for this person against the best of the others, by lips as the model gave them.
        by_lips, by_voice: float [P, T], the same as either source was read in the end.
    """

    decoding: Decoding
    voices: VoiceEvidence
    shares: np.ndarray
    lips: np.ndarray
    by_lips: np.ndarray
    by_voice: np.ndarray

    def others_heard(self) -> bool:
        """Whether some voice is that of somebody else more than of any person; taken for granted where none was heard.

        Speech that fits nobody's lips may else be of somebody in profile, or be a dub.
        """
        return not len(self.shares) or bool((self.shares[:, -1] > self.shares[:, :-1].max(axis=1) + _MORE).any())

    def margin(self) -> float:
        """By how much lips bear the match of voices and faces out: mean log odds for a person while only they speak.

        Mean over the people for whom lips tell anything for a second; 0 where there is none. Below 0, lips would rather have
        the people exchanged.
        """
        found = []
        for lips, alone in zip(self.lips, self.decoding.alone, strict=True):
            weight = alone * (np.abs(lips) >= _TELLS / 2)
            if weight.sum() >= FPS:
                found.append(float((lips * weight).sum() / weight.sum()))
        return sum(found) / max(len(found), 1)

    def agreement(self, person: int, frames: slice) -> float | None:
        """Share of frames in which lips and voice name the same one, of those in which both name somebody, 0 to 1."""
        lips, voice = self.by_lips[person, frames], self.by_voice[person, frames]
        both = (np.abs(lips) >= _TELLS) & (np.abs(voice) >= _TELLS)
        return float((np.sign(lips) == np.sign(voice))[both].mean()) if both.sum() >= _FEW else None


def attribute(evidence: Evidence, features: Sequence[np.ndarray], model: TurnModel) -> Attribution:
    """Decode in rounds: speech attributed surely teaches whose the voices are, and they help where lips do not show.

    What a source of evidence tells is learnt from the other ones, or it would come to believe itself: whose a heard voice is
    from lips alone, how two voices sound from lips and heard voices.

    Args:
        evidence: its `voice` is not used.
        features: voice features [T, D], of which those are used that tell two voices apart best; for two people only.
    """
    speech, lips, seen = evidence.speech, evidence.lips, evidence.seen
    heard = evidence.heard if evidence.heard is not None else np.zeros((0, len(speech)))
    plain = replace(evidence, voice=np.zeros(lips.shape))
    if len(heard):
        plain = replace(plain, lips=read_lips(lips, seen, speech, leaning(lips)))
    for _ in range(_ROUNDS):
        shares = _shares(heard, speech * seen.any(axis=0), model.decode(plain))
        voices = _voices(features, model.decode(plain, shares), speech)
        told = {"voice": np.stack([voices.odds, -voices.odds]) / 2, "together": voices.together} if len(lips) == 2 else {}
        evidence = replace(plain, **told)
        decoding = model.decode(evidence, shares)
        if len(heard):
            plain = replace(plain, lips=read_lips(lips, seen, speech, decoding.persons))
    by_lips = _against_others(evidence.lips)
    singles = ((), *((person,) for person in range(len(lips))), ())
    by_voice = _against_others(evidence.voice + (fit(heard, shares, singles)[:, 1:-1].T if len(heard) else 0.0))
    return Attribution(decoding, voices, shares, _against_others(lips), by_lips, by_voice)


def _shares(heard: np.ndarray, speech: np.ndarray, decoding: Decoding) -> np.ndarray:
    """Learnt where lips are decided, in speech during which somebody is seen."""
    if not len(heard):
        return np.zeros((0, len(decoding.alone) + 1))
    alone, other = (np.maximum(2.0 * chance - 1.0, 0.0) for chance in (decoding.alone, decoding.other))
    return learn_shares(heard, speech, alone, other)


def _voices(features: Sequence[np.ndarray], decoding: Decoding, speech: np.ndarray) -> VoiceEvidence:
    if len(decoding.alone) != 2:
        return VoiceEvidence.nothing(len(speech))
    first, second = (sure_frames(decoding, speech, person) for person in range(2))
    found = [compare_voices(columns, first, second) for columns in features]
    return max(found, key=lambda voices: voices.separation, default=VoiceEvidence.nothing(len(speech)))


def _against_others(scores: np.ndarray) -> np.ndarray:
    """Each row of [P, T] less the largest of the other rows; as it is where there is only one."""
    if len(scores) < 2:
        return scores
    return np.stack([row - np.delete(scores, index, axis=0).max(axis=0) for index, row in enumerate(scores)])


def sure_frames(decoding: Decoding, speech: np.ndarray, person: int) -> np.ndarray:
    """Bool [T]: speech that is surely this person's, and surely nobody else's."""
    return np.asarray((decoding.alone[person] >= _SURE) & (speech >= SPEECH))


@dataclass(frozen=True)
class TurnRules:
    """How posteriors become turns.

    Attributes:
        min_confidence: probability, given that somebody speaks, below which speech is given to nobody.
        min_agreement: a turn in which lips and voice name the same one in a smaller share of its frames is given to nobody.
        min_turn: frames; shorter turns are dropped.
        max_gap: frames; shorter pauses of one person are bridged.
    """

    min_confidence: float = 0.8
    min_agreement: float = 0.0
    min_turn: int = 5
    max_gap: int = 7

    def turns(self, attribution: Attribution) -> list[Turn]:
        """Turns of p0, p1, of somebody else (person None), and speech left undecided (unsure), by start.

        One person's turns never overlap, and undecided speech overlaps nobody's.
        """
        decoding = attribution.decoding
        who = decoding.persons / np.maximum(1.0 - decoding.silence, 1e-6)  # given that somebody speaks
        elsewhere = decoding.other / np.maximum(1.0 - decoding.silence, 1e-6)
        heard = decoding.path == len(decoding.states) - 1
        given = np.zeros(len(heard), bool)
        turns, contradicted = [], []
        for person, chance in enumerate(who):
            own = decoding.speaks(person)
            heard |= own
            doubt = drop_short(own & (chance < self.min_confidence), self.min_turn)
            mask = drop_short(close_gaps(own & ~doubt, self.max_gap) & ~doubt, self.min_turn)
            for run in runs(mask):
                agreement = attribution.agreement(person, slice(*run))
                if agreement is not None and agreement < self.min_agreement:
                    contradicted.append(run)
                    continue
                given[slice(*run)] = True
                turns.append(Turn(PERSONS[person], Span.of_frames(*run), _mean(chance, run), agreement=agreement))
        for run in contradicted:
            heard[slice(*run)] = True
        for run in runs(drop_short(heard & ~given, self.min_turn)):
            surely = attribution.others_heard() and _mean(elsewhere, run) >= self.min_confidence
            best = _mean(elsewhere, run) if surely else max(_mean(chance, run) for chance in who)
            turns.append(Turn(None, Span.of_frames(*run), best, unsure=not surely))
        return sorted(turns, key=lambda turn: (turn.span, turn.person or "~"))


def _mean(values: np.ndarray, run: tuple[int, int]) -> float:
    return float(np.clip(values[slice(*run)].mean(), 0.0, 1.0))


def seconds_spoken(turns: Sequence[Turn], person: str | None, *, unsure: bool = False) -> float:
    """Seconds of the turns of one person, or with None of nobody known (`unsure` tells the two kinds apart)."""
    return float(sum(turn.span.duration for turn in turns if turn.person == person and turn.unsure == unsure))
