"""How well a diarizer does: diarization error rate without collar, overlap scored.

    python -m training.diarization.measure --sample                    pyannote.audio's packaged sample
    python -m training.diarization.measure --ami                       AMI excerpts of DYCONV_REAL_DATA (used for tuning)
    python -m training.diarization.measure --corpus DIR                composed conversations, by voices and overlap share
    python -m training.diarization.measure --tune DIR                  best clustering parameters on composed + AMI

`--weights` names another folder than the packaged one, `--step` another step of the windows, `--model` another diarizer of
the catalogue (such as `pyannote_ge2e`, the default one).
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from pyannote.core import Annotation, Segment, Timeline
from rich.console import Console
from rich.table import Table

from dyconv.media.audio import read_audio
from dyconv.models import registry
from dyconv.models.pyannote_diarizer import PipelineDiarizer
from dyconv.models.pyannote_load import quiet_import
from dyconv.models.pyannote_small import PyannoteSmall
from dyconv.models.slots import Diarization
from dyconv.time import FPS, SAMPLE_RATE
from training.corpora import data_dir
from training.diarization.export import WEIGHTS

AMI = ("dev00", "dev01", "trn03")


@dataclass(frozen=True)
class Item:
    """One recording with its truth."""

    name: str
    samples: np.ndarray
    truth: Annotation

    @property
    def voices(self) -> int:
        return len(self.truth.labels())

    @property
    def overlap(self) -> float:
        """Share of speech time in which more than one speaks."""
        speech = self.truth.get_timeline().support().duration()
        return float(self.truth.get_overlap().duration() / max(speech, 1e-9))


def rttm(path: Path) -> dict[str, Annotation]:
    """Annotations by file name."""
    found: dict[str, Annotation] = {}
    for index, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        fields = line.split()
        start, length = float(fields[3]), float(fields[4])
        found.setdefault(fields[1], Annotation(uri=fields[1]))[Segment(start, start + length), index] = fields[7]
    return found


def sample_item() -> Item:
    """pyannote.audio's packaged recording: 30 s of a telephone call of two women."""
    found = find_spec("pyannote.audio")
    assert found is not None and found.origin is not None
    folder = Path(found.origin).parent / "sample"
    return Item("sample", read_audio(folder / "sample.wav"), rttm(folder / "sample.rttm")["sample"])


def ami_items() -> list[Item]:
    truth: dict[str, Annotation] = {}
    for part in ("train", "development"):
        truth |= rttm(data_dir() / "truth" / f"pyannote-audio__debug.{part}.rttm")
    return [Item(name, read_audio(data_dir() / "audio" / f"pyannote-audio__{name}.wav"), truth[name]) for name in AMI]


def corpus_items(folder: Path, parts: Iterable[str], most: int) -> list[Item]:
    out = []
    for part in parts:
        truth = rttm(folder / f"conversations.{part}.rttm")
        out += [Item(name, read_audio(folder / "wav" / f"{name}.wav"), truth[name]) for name in sorted(truth)[:most]]
    return out


def as_annotation(found: Diarization) -> Annotation:
    """Turns of a diarization on the 25 fps clock, frames at least half covered counting."""
    out = Annotation()
    for row, activity in enumerate(found.activity):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], activity >= 0.5, [0]]))).reshape(-1, 2)
        for start, stop in edges:
            out[Segment(start / FPS, stop / FPS), f"{row}.{start}"] = f"voice{row}"
    return out


def error(items: list[tuple[Item, Annotation]]) -> dict[str, float]:
    """DER over all items, its three parts, and the mean error in the number of voices."""
    from pyannote.metrics.diarization import DiarizationErrorRate

    metric: Any = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    for item, found in items:
        metric(item.truth, found, uem=Timeline([Segment(0, len(item.samples) / SAMPLE_RATE)]))
    sums = metric[:]
    total = max(sums["total"], 1e-9)
    off = float(np.mean([abs(len(found.labels()) - item.voices) for item, found in items]))
    parts = {
        name: sums[key] / total for name, key in (("miss", "missed detection"), ("fa", "false alarm"), ("conf", "confusion"))
    }
    return {"der": abs(metric), **parts, "voices_off": off}


def report(diarizer: PipelineDiarizer, items: list[Item], console: Console) -> None:
    """A table of the error by set: all, by number of voices, by overlap share of the two-voice ones."""
    pairs = [(item, as_annotation(diarizer.diarize(item.samples))) for item in items]
    groups: dict[str, list] = {"all": pairs}
    if len(items) <= len(AMI):
        groups |= {item.name: [(item, found)] for item, found in pairs}
    else:
        for count in (1, 2, 3):
            groups[f"{count} voices"] = [pair for pair in pairs if pair[0].voices == count]
        for low, high in ((0, 0.05), (0.05, 0.15), (0.15, 1)):
            chosen = [pair for pair in pairs if pair[0].voices == 2 and low <= pair[0].overlap < high]
            groups[f"2 voices, overlap {low:.0%} to {high:.0%}"] = chosen
    table = Table("set", "files", "DER", "missed", "false alarm", "confusion", "voices off")
    for name, chosen in groups.items():
        if chosen:
            found = error(chosen)
            row = [f"{100 * found[key]:.1f} %" for key in ("der", "miss", "fa", "conf")]
            table.add_row(name, str(len(chosen)), *row, f"{found['voices_off']:.2f}")
    console.print(table)


def tune(diarizer: PipelineDiarizer, sets: dict[str, list[Item]], console: Console) -> None:
    """Try clustering parameters; segmentation and embeddings of the windows are computed once. The best mean first."""
    pipeline: Any = diarizer.pipeline
    kept: dict[str, dict[str, Any]] = {}
    pipeline.training, apply = True, pipeline.apply
    pipeline.apply = lambda file, **options: apply(
        kept.setdefault(str(hash(file["waveform"].numpy().tobytes())), file), **options
    )
    results = []
    for threshold, gap in itertools.product((0.4, 0.5, 0.6, 0.7, 0.8), (0.1, 0.4)):
        clustering = {"method": "average", "threshold": threshold, "min_cluster_size": 4}
        pipeline.instantiate({"segmentation": {"min_duration_off": gap}, "clustering": clustering})
        found = {
            name: error([(item, as_annotation(diarizer.diarize(item.samples))) for item in items])
            for name, items in sets.items()
        }
        results.append((float(np.mean([values["der"] for values in found.values()])), found, clustering, gap))
        shown = {name: {key: round(float(value), 3) for key, value in values.items()} for name, values in found.items()}
        console.print(f"{results[-1][0]:.3f}", shown, json.dumps(clustering), gap)
    best = min(results, key=lambda result: result[0])
    console.print("best:", json.dumps(best[2]), "min_duration_off", best[3])
    pipeline.training, pipeline.apply = False, apply


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--ami", action="store_true")
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--tune", type=Path)
    parser.add_argument("--most", type=int, default=1000, help="files of a corpus")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--step", type=float)
    parser.add_argument("--model", help="name of a diarizer of the catalogue")
    args = parser.parse_args()
    quiet_import()
    console = Console(width=140)
    files = [args.weights / name for name in ("config.json", "segmentation.safetensors", "embedding.safetensors")]
    diarizer = registry.load(args.model) if args.model else PyannoteSmall(*files, step=args.step)
    if args.tune:
        sets = {"composed": corpus_items(args.tune, ["development"], args.most), "ami": ami_items()}
        tune(diarizer, sets, console)
    if args.corpus:
        report(diarizer, corpus_items(args.corpus, ["development", "train"], args.most), console)
    if args.ami:
        report(diarizer, ami_items(), console)
    if args.sample:
        report(diarizer, [sample_item()], console)


if __name__ == "__main__":
    main()
