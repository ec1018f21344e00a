"""What `target_tasnet` knows of two voices and of their mix before any learned step.

On an STFT of 40 ms windows every 20 ms (two columns are one 25 fps frame), each column of the mix is explained as a sum of
spectra heard from the two people alone, without any learning (exemplars as in Gemmeke, Virtanen and Hurmalainen 2011). That
gives log odds for each bin. They are laid beside what else tells voices apart: loudness at two window lengths, phase
from column to column and from bin to bin, the mean spectrum of each voice and how it spreads, and how high each speaks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dyconv.time import SAMPLE_RATE

WINDOW, HOP = 640, 320  # samples: 40 and 20 ms
BINS = WINDOW // 2 + 1
SEEN = 225  # bins that the network corrects, up to 5.6 kHz
ODD, EVEN = 5, 11  # features that change sign when the two people change places, and features that stay
PITCHES = 24  # steps of a histogram of pitch
_POWER = 0.7  # of magnitudes that are taken for sums of known spectra
ROUNDS = 60  # of multiplicative updates
_QUIET = 0.15  # of the mean: quieter spectra are not kept
_LIMIT = 5.0  # log odds of one bin
_PITCH_HZ = (65.0, 400.0)
_VOICED = 0.5  # of a column's energy that comes again one period later


class Known(NamedTuple):
    """One voice: spectra [F, M], each summing to one; mean and spread [2, F] of log spectra; pitch [PITCHES], sums to one."""

    spectra: Tensor
    colour: Tensor
    pitch: Tensor


class Hints(NamedTuple):
    """What the network gets of one piece: features [ODD + EVEN, SEEN, T], odds [F, T], pitch [2 PITCHES] (odd, even)."""

    features: Tensor
    odds: Tensor
    pitch: Tensor

    def exchanged(self) -> Hints:
        """The same with the two people in the other order."""
        signs = torch.ones(ODD + EVEN, 1, 1)
        signs[:ODD] = -1
        pitch = torch.cat([-self.pitch[:PITCHES], self.pitch[PITCHES:]])
        return Hints(self.features * signs.to(self.features.dtype), -self.odds, pitch)


def analyse(samples: Tensor, window: int = WINDOW) -> Tensor:
    """Complex spectrum [F, T] of samples [N] (or with leading dimensions), columns centred on multiples of 20 ms."""
    return torch.stft(samples, window, HOP, window=torch.hann_window(window).sqrt(), return_complex=True)


def synthesise(spectrum: Tensor, samples: int) -> Tensor:
    return torch.istft(spectrum, WINDOW, HOP, window=torch.hann_window(WINDOW).sqrt(), length=samples)


def at_unit_level(samples: Tensor) -> Tensor:
    return samples / (samples.square().mean(dim=-1, keepdim=True).sqrt() + 1e-5)


def known(samples: Tensor) -> Known:
    """What is known of a voice from samples [N] of nobody else."""
    magnitude = analyse(at_unit_level(samples)).abs()
    spectra = magnitude.pow(_POWER)
    total = spectra.sum(dim=0)
    heard = total > _QUIET * total.mean()
    log = torch.log(magnitude[:, heard] + 1e-2)
    colour = torch.stack([log.mean(dim=1), log.std(dim=1, correction=0)])
    return Known(spectra[:, heard] / total[heard], colour, _pitch(magnitude[:, heard]))


def _pitch(magnitude: Tensor) -> Tensor:
    """How often a voice is how high, [PITCHES] on a logarithmic scale, from the autocorrelation of columns [F, M]."""
    again = torch.fft.irfft(magnitude.square(), dim=0)
    low, high = (int(SAMPLE_RATE / hz) for hz in _PITCH_HZ[::-1])
    lags = torch.arange(low, min(high, WINDOW // 2) + 1)
    found, at = (again[lags] / (again[0] + 1e-6)).max(dim=0)
    place = torch.log(SAMPLE_RATE / lags[at] / _PITCH_HZ[0]) / torch.log(torch.tensor(_PITCH_HZ[1] / _PITCH_HZ[0]))
    steps = (torch.arange(PITCHES) + 0.5) / PITCHES
    near = torch.exp(-0.5 * ((place[:, None] - steps) * PITCHES).square()) * (found > _VOICED)[:, None]
    return near.sum(dim=0) / (near.sum() + 1e-3)


def explained(magnitude: Tensor, first: Tensor, second: Tensor, rounds: int = ROUNDS) -> tuple[Tensor, Tensor]:
    """Parts [F, T] of a mix's magnitudes [F, T] (to the power of 0.7) that spectra [F, M] of two voices explain.

    Non-negative weights, by multiplicative updates for the Kullback-Leibler divergence (Lee and Seung 2001), each to the
    power of 1.5: above 1 it prefers few spectra to many.
    """
    target = magnitude.pow(_POWER) + 1e-4
    both = torch.cat([first, second], dim=1)
    weights = target.mean(dim=0, keepdim=True).expand(both.shape[1], -1)
    turned = both.t().contiguous()
    for _ in range(rounds):
        change = turned @ (target / (both @ weights + 1e-4))
        weights = weights * change * change.sqrt()
    return (first @ weights[: first.shape[1]]).float(), (second @ weights[first.shape[1] :]).float()


def hints(samples: Tensor, voices: tuple[Known, Known], alone: Tensor, rounds: int = ROUNDS) -> Hints:
    """What tells the two voices apart in samples [N], at unit level.

    Args:
        samples: the mix.
        voices: what is known of each.
        alone: who speaks alone by column, [2, T] in 0 to 1, see `columns`.
        rounds: of `explained`.
    """
    spectrum = analyse(samples)
    magnitude = spectrum.abs()
    shares = explained(magnitude, voices[0].spectra, voices[1].spectra, rounds)
    raw, odds = (_odds(*pair) for pair in (shares, tuple(map(_smoothed, shares))))
    seen = spectrum[:SEEN]
    loud = torch.log(magnitude[:SEEN] + 1e-2) / 2
    missing = torch.log(magnitude[:SEEN].pow(_POWER) + 1e-2) - torch.log(shares[0][:SEEN] + shares[1][:SEEN] + 1e-2)
    colours = [voice.colour[:, :SEEN, None].expand(-1, -1, loud.shape[1]) for voice in voices]
    turn, height = (alone[0] - alone[1]).expand_as(loud), torch.linspace(-1, 1, SEEN)[:, None].expand_as(loud)
    fine = torch.log(analyse(samples, 2 * WINDOW).abs() + 2e-2) / 2
    odd = torch.stack([odds[:SEEN] / 2, raw[:SEEN] / 2, turn])
    even = torch.stack([loud, missing.clamp(-2, 2), height, fine[: 2 * SEEN : 2], fine[1 : 2 * SEEN : 2]])
    features = torch.cat(
        [odd, colours[0] - colours[1], even, (colours[0] + colours[1]) / 2, _phases(seen, magnitude[:SEEN])], dim=0
    )
    pitch = torch.cat([voices[0].pitch - voices[1].pitch, voices[0].pitch + voices[1].pitch]) * 4
    return Hints(features, odds, pitch)


def _odds(first: Tensor, second: Tensor) -> Tensor:
    return (torch.log(first + 1e-3) - torch.log(second + 1e-3)).clamp(-_LIMIT, _LIMIT)


def _phases(spectrum: Tensor, magnitude: Tensor) -> Tensor:
    """Cosine and sine of the phase step in time (a tone in the middle of a bin has none) and in frequency, [4, F, T]."""
    unit = spectrum / (magnitude + 1e-3)
    signs = 1.0 - 2.0 * (torch.arange(spectrum.shape[0]) % 2)[:, None]  # a tone's phase over 20 ms: pi a bin
    later = torch.nn.functional.pad(unit[:, 1:] * unit[:, :-1].conj() * signs, (1, 0))
    above = torch.nn.functional.pad(unit[1:] * unit[:-1].conj(), (0, 0, 1, 0))
    return torch.cat([torch.view_as_real(step).permute(2, 0, 1) for step in (later, above)])


def columns(activity: Tensor) -> Tensor:
    """Activity by STFT column, [..., 2 T + 1], of activity by 25 fps frame [..., T]; a column on an edge is the mean."""
    double = activity.repeat_interleave(2, dim=-1)
    padded = torch.cat([double[..., :1], double, double[..., -1:]], dim=-1)
    return (padded[..., 1:] + padded[..., :-1]) / 2


def _smoothed(share: Tensor) -> Tensor:
    """Over three columns, one half of the middle one."""
    padded = torch.nn.functional.pad(share[None], (1, 1), mode="replicate")[0]
    return (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
