"""What is inside `target_tasnet`: spectra heard in two enrolments say whose a bin is, and a small network corrects it.

On an STFT of 40 ms windows every 20 ms (two columns are one 25 fps frame), each column of the mix is explained as a sum of
spectra heard from the two people alone, without any learning (exemplars as in Gemmeke, Virtanen and Hurmalainen 2011). That
gives log odds for each bin. A small convolutional network, trained on composed overlaps, looks at the odds and the mix
around each bin up to 5.6 kHz and corrects them. The two masks sum to one, so the voices sum to the mix.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

WINDOW, HOP = 640, 320  # samples: 40 and 20 ms
BINS = WINDOW // 2 + 1
SEEN = 225  # bins that the network corrects, up to 5.6 kHz
_POWER = 0.7  # of magnitudes that are taken for sums of known spectra
_ROUNDS, _STEP = 30, 1.5  # of multiplicative updates; above 1 a step prefers few spectra to many
_QUIET = 0.15  # of the mean: quieter spectra are not kept
_LIMIT = 5.0  # log odds of one bin
_FEATURES = 5
_DILATIONS = (1, 2, 4, 1)


@dataclass(frozen=True)
class Shape:
    """Sizes of the network, stored with its weights."""

    width: int = 16

    def to_json(self) -> dict[str, int]:
        return asdict(self)


class Corrector(nn.Module):
    """Convolutions over time and frequency that see 160 ms and 200 Hz around each bin on both sides."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        layers: list[nn.Module] = []
        for index, dilation in enumerate(_DILATIONS):
            inputs = shape.width if index else _FEATURES
            layers += [nn.Conv2d(inputs, shape.width, 3, padding=dilation, dilation=dilation), nn.PReLU(shape.width)]
        self.body = nn.Sequential(*layers)
        self.out = nn.Conv2d(shape.width, 1, 1, bias=False)
        nn.init.zeros_(self.out.weight)  # it begins with what the spectra say
        self.trust = nn.Parameter(torch.tensor(1 / _POWER))

    def forward(self, features: Tensor) -> Tensor:
        """Corrected log odds [B, SEEN, T] of features [B, 5, SEEN, T], see `features_of`."""
        return self.trust * features[:, 0] * 2 + self.out(self.body(features))[:, 0].float()

    def odds(self, spectrum: Tensor, spectra: tuple[Tensor, Tensor], alone: Tensor) -> Tensor:
        """Log odds [F, T] that a bin of the mix's spectrum [F, T] is the first voice's, the same for either order.

        Args:
            spectrum: complex, at unit level.
            spectra: what is known of each voice, from `exemplars`.
            alone: who speaks alone, [2, T] in 0 to 1.
        """
        shares = explained(spectrum.abs(), *spectra)
        first, second = (features_of(spectrum.abs(), *pair) for pair in ((shares, alone), (shares[::-1], alone.flip(0))))
        seen = self(torch.stack([first, second]))
        likely = self.trust * 2 * features_of(spectrum.abs(), shares, alone, bins=BINS)[0]
        return torch.cat([(seen[0] - seen[1]) / 2, likely[SEEN:]])


def analyse(samples: Tensor) -> Tensor:
    """Complex spectrum [F, T] of samples [N] (or with leading dimensions), columns centred on multiples of 20 ms."""
    return torch.stft(samples, WINDOW, HOP, window=_window(), return_complex=True)


def synthesise(spectrum: Tensor, samples: int) -> Tensor:
    return torch.istft(spectrum, WINDOW, HOP, window=_window(), length=samples)


def at_unit_level(samples: Tensor) -> Tensor:
    return samples / (samples.square().mean(dim=-1, keepdim=True).sqrt() + 1e-5)


def exemplars(samples: Tensor) -> Tensor:
    """Spectra of one voice to explain mixtures with, [F, M], each summing to one, of samples [N] of nobody else."""
    spectra = analyse(at_unit_level(samples)).abs().pow(_POWER)
    total = spectra.sum(dim=0)
    heard = total > _QUIET * total.mean()
    return spectra[:, heard] / total[heard]


def explained(magnitude: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Parts [F, T] of a mix's magnitudes [F, T] (to the power of 0.7) that spectra [F, M] of two voices explain.

    Non-negative weights, by multiplicative updates for the Kullback-Leibler divergence (Lee and Seung 2001).
    """
    target = magnitude.pow(_POWER) + 1e-4
    both = torch.cat([first, second], dim=1)
    weights = target.mean(dim=0, keepdim=True).expand(both.shape[1], -1)
    turned = both.t().contiguous()
    for _ in range(_ROUNDS):
        weights = weights * (turned @ (target / (both @ weights + 1e-4))).pow(_STEP)
    return _smoothed(first @ weights[: first.shape[1]]), _smoothed(second @ weights[first.shape[1] :])


def features_of(magnitude: Tensor, shares: tuple[Tensor, Tensor], alone: Tensor, bins: int = SEEN) -> Tensor:
    """What the network sees of each bin, [5, bins, T]: half the log odds, loudness, what is unexplained, turns, pitch scale."""
    first, second = (share[:bins] for share in shares)
    odds = (torch.log(first + 1e-3) - torch.log(second + 1e-3)).clamp(-_LIMIT, _LIMIT) / 2
    loud = torch.log(magnitude[:bins] + 1e-2) / 2
    missing = torch.log(magnitude[:bins].pow(_POWER) + 1e-2) - torch.log(first + second + 1e-2)
    turn = (alone[0] - alone[1]).expand_as(loud)
    height = torch.linspace(-1, 1, bins)[:, None].expand_as(loud)
    return torch.stack([odds, loud, missing.clamp(-2, 2), turn, height])


def columns(activity: Tensor) -> Tensor:
    """Activity by STFT column, [..., 2 T + 1], of activity by 25 fps frame [..., T]; a column on an edge is the mean."""
    double = activity.repeat_interleave(2, dim=-1)
    padded = torch.cat([double[..., :1], double, double[..., -1:]], dim=-1)
    return (padded[..., 1:] + padded[..., :-1]) / 2


def _smoothed(share: Tensor) -> Tensor:
    """Over three columns, one half of the middle one."""
    padded = torch.nn.functional.pad(share[None], (1, 1), mode="replicate")[0]
    return (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4


def _window() -> Tensor:
    return torch.hann_window(WINDOW).sqrt()
