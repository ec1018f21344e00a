"""Reports: as data, as text, as a page, beside each other."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyconv.errors import UsageError
from training.evaluation.compare import together, unlike
from training.evaluation.published import TABLES
from training.evaluation.report import markdown, page, write
from training.evaluation.results import (
    GROUND_TRUTH,
    INFINITE,
    NOTHING,
    About,
    DataSet,
    Described,
    Difference,
    Distribution,
    Problem,
    Report,
    Result,
    SampleVideo,
    SystemInfo,
    Unavailable,
)
from training.evaluation.tables import main_tables, short
from training.evaluation.versus import verdicts

EVIL = "<script>alert(1)</script>|`x`"


def result(system: str, metric: str, value: float | None, slice_: str = "all", **more: Any) -> Result:
    low, high = (None, None) if value is None else (value - 0.05, value + 0.05)
    told = {"low": low, "high": high, "interval": "bootstrap, 9 draws of 3 units", "cases": 4, "units": 3, "frames": 500}
    return Result(system, "interactive", slice_, metric, value, **{**told, **more})


@pytest.fixture
def report() -> Report:
    about = About(
        command=f"python -m training.evaluate --data {EVIL}",
        dyconv="0.5.0",
        torch="2.11.0",
        device="cpu",
        seed=0,
        data=(DataSet("demo@held_out", "a" * 64, {"clips": 4, "hours": 0.1}),),
        systems=(SystemInfo("ours", "1" * 64, "weights w"), SystemInfo("static", "2" * 64)),
        views=("interactive",),
        features=("mesh",),
        clusters=((40, 20), (15, 9)),
        weights={"alexnet": "b" * 64},
        more={"size": 256, "nothing": float("nan")},
    )
    metrics = (
        Described("ssim", "higher", "", "Structural similarity.", "pictures"),
        Described("psnr", "higher", "dB", "Peak signal-to-noise ratio.", "pictures"),
        Described("fd.mesh.expression", "lower", "", EVIL, "motion"),
        Described("var.mesh.expression", "truth", "", "Variance.", "motion"),
    )
    results = [
        result(GROUND_TRUTH, "ssim", 1.0, low=None, high=None),
        result(GROUND_TRUTH, "psnr", None, word=INFINITE),
        result(GROUND_TRUTH, "var.mesh.expression", 2.0),
    ]
    for number, system in enumerate(("ours", "static", "mirror")):
        results += [result(system, "ssim", 0.8 - 0.1 * number), result(system, "psnr", 30.0 + number)]
        results += [result(system, "fd.mesh.expression", 5.0 + number), result(system, "var.mesh.expression", 3.5 - number)]
        results += [result(system, "ssim", 0.7 - 0.1 * number, slice_) for slice_ in ("state=speaking", EVIL)]
    differences = (
        Difference("ours", "static", "interactive", "all", "ssim", 0.1, 0.05, 0.15),
        Difference("ours", "static", "interactive", "all", "psnr", -1.0, -3.0, 1.0),
    )
    samples = (SampleVideo("samples/a b.mp4", EVIL, "interactive", (GROUND_TRUTH, "ours", EVIL), "own left, partner right"),)
    return Report(
        about,
        metrics,
        tuple(results),
        differences,
        (Unavailable("lpips", "the file is not there", "dyconv models pull alexnet"),),
        (Problem(f"the video {EVIL} ends after 3 of 9 frames", "make it again", "c.p0", "ours", "interactive"),),
        {"decode": 12.0, "forward": 30.0, "metric": 4.0},
        samples,
        (
            Distribution(
                "head yaw", "degrees", "interactive", -45.0, 45.0, {GROUND_TRUTH: (0.25, 0.5, 0.25), "ours": (0.0, 1.0, 0.0)}
            ),
        ),
    )


def test_json_is_strict_and_round_trips(report: Report, tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(report.dumps(), parse_constant=refuse)["schema"] == 1
    (tmp_path / "report.json").write_text(report.dumps())
    back = Report.read(tmp_path)
    assert back.dumps() == report.dumps()
    assert back.results == report.results and back.about.clusters == ((40, 20), (15, 9)) and back.about.more["nothing"] is None
    endless = next(item for item in back.results if item.word == INFINITE)
    assert endless.value is None


def test_numpy_numbers_become_plain_ones(report: Report) -> None:
    odd = replace(
        report, profile={"decode": np.float32(1.5)}, about=replace(report.about, more={"n": np.int64(3), "x": math.inf})
    )
    data = json.loads(odd.dumps())
    assert data["profile"] == {"decode": 1.5} and data["about"]["more"] == {"n": 3, "x": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "expected a report of schema 1, found 99"),
        ({"schema": None}, "found none"),
        ({"results": None}, "results: expected a list, found null"),
        ({"results": [{}]}, r"results\[0\] lacks the field 'system'"),
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"profile": {"decode": "long"}}, "profile.decode: expected a number, found 'long'"),
        ({"about": []}, "about: expected an object, found a list"),
    ],
)
def test_a_report_that_does_not_fit_says_where(report: Report, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps({**report.to_json(), **change}))
    with pytest.raises(UsageError, match=message) as caught:
        Report.read(file)
    assert str(file) in caught.value.message and caught.value.hint


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"schema": NaN}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(UsageError):
        Report.read(tmp_path)
    with pytest.raises(UsageError, match="no report can be read there"):
        Report.read(tmp_path / "nowhere.json")


def test_best_is_marked_beside_the_ground_truth(report: Report) -> None:
    best = {}
    for table in main_tables(report, "interactive"):
        for row, cells in table.rows:
            best |= {metric.name: row[0] for metric, cell in zip(table.columns, cells, strict=True) if cell.best}
    # Variance: static and mirror are equally far from the truth, so neither is best.
    assert best == {"ssim": "ours", "psnr": "mirror", "fd.mesh.expression": "ours"}
    tied = [replace(item, value=0.5) if item.metric == "ssim" else item for item in report.results]
    cells = [cells[0] for _, cells in main_tables(replace(report, results=tuple(tied)), "interactive")[0].rows]
    assert not any(cell.best for cell in cells)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.83412, "0.8341"),
        (31.561, "31.56"),
        (159.04, "159.0"),
        (7188.2, "7188"),
        (-0.0, "0.000"),
        (1e-6, "1.00e-06"),
        (1.4e-17, "0.000"),
        (0.000312345, "0.000312"),
        (None, "–"),
    ],
)
def test_numbers_as_a_person_reads_them(value: float | None, text: str) -> None:
    assert short(value) == text


class Page(HTMLParser):
    """Tags and what they load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_everything_is_written_and_the_same_again(report: Report, tmp_path: Path) -> None:
    for name in ("one", "other"):
        write(report, tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert [str(file) for file in files] == [
        "plots/interactive-distributions.png",
        "plots/interactive-motion-expression-by-mesh.png",
        "plots/interactive-pictures.png",
        "plots/interactive-slices.png",
        "plots/profile.png",
        "report.html",
        "report.json",
        "report.md",
    ]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes(), file
    linked = re.findall(r"\]\((plots/[^)]+)\)", (tmp_path / "one" / "report.md").read_text())
    assert linked and all((tmp_path / "one" / name).is_file() for name in linked)
    html = Page((tmp_path / "one" / "report.html").read_text())
    assert html.tags.count("svg") == 5 and html.tags.count("video") == 1 and "script" not in html.tags


def test_the_page_runs_nothing_and_loads_nothing_from_elsewhere(report: Report) -> None:
    html = page(report)
    found = Page(html)
    assert "<script" not in html and EVIL in found.text
    assert all(target.startswith("#") or target == "samples/a%20b.mp4" for target in found.loaded)
    assert not re.search(r"https?://(?!www\.w3\.org)", html)
    assert "prefers-color-scheme: dark" in html


def test_large_groups_of_metrics_stand_in_parts(report: Report) -> None:
    names = [f"{kind}.mesh.{what}" for what in ("expression", "pose") for kind in ("fd", "var", "mse")]
    names += [f"face.{number}" for number in range(11)]
    metrics = tuple(Described(name, "lower", "", "", "motion") for name in names)
    results = tuple(result(system, name, 1.0) for system in ("ours", "static") for name in names)
    tables = main_tables(replace(report, metrics=metrics, results=results), "interactive")
    told = [(table.title, len(table.columns)) for table in tables]
    assert told == [("motion, expression by mesh", 3), ("motion, pose by mesh", 3), ("motion (1)", 6), ("motion (2)", 5)]
    assert [column.name for table in tables for column in table.columns] == names


def test_few_sources_are_warned_of(report: Report) -> None:
    many = replace(report, results=tuple(replace(item, units=40) for item in report.results))
    for text, calm in ((page(report), page(many)), (markdown(report), markdown(many))):
        assert "Few sources: 3." in text and "Few sources" not in calm


def test_data_sets_have_no_best_and_no_published_numbers(report: Report) -> None:
    sets = replace(report, about=replace(report.about, systems=()))
    assert not any(cell.best for table in main_tables(sets, "interactive") for _, cells in table.rows for cell in cells)
    assert "Published numbers" not in page(sets) + markdown(sets)


def test_what_no_system_has_a_number_of_is_named(report: Report) -> None:
    lost = Described("rpcc.mesh.pose", "lower", "", "", "motion")
    more = tuple(Result(system, "interactive", "all", lost.name, None, word=NOTHING) for system in (GROUND_TRUTH, "ours"))
    told = replace(report, metrics=(*report.metrics, lost), results=report.results + more)
    assert lost.name not in [column.name for table in main_tables(told, "interactive") for column in table.columns]
    for text in (page(told), markdown(told)):
        assert "Nothing to measure here for rpcc.mesh.pose:" in text
    assert "Nothing to measure here" not in page(report)


@pytest.mark.parametrize(
    "text", ["lpips", "dyconv models pull alexnet", "ends after 3 of 9 frames", "make it again", "INFP", "K of SID"]
)
def test_page_and_text_tell_what_matters(report: Report, text: str) -> None:
    assert text in page(report) and text in markdown(report)


def test_markdown_tables_are_whole(report: Report) -> None:
    text = markdown(report)
    command, rest = text.split("\n", 3)[2:]
    assert command.startswith("`") and command.count("`") == 2
    assert "script" in rest and not re.search(r"(?<!\\)<script", rest)
    rows = 0
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().split("\n")}
        assert len(widths) == 1, block
        rows += block.count("\n")
    assert rows > 30 and "**0.8000** (0.7500 to 0.8500)" in text and "∞" in text


def test_published_numbers_are_marked_as_not_comparable(report: Report) -> None:
    for text in (page(report), markdown(report)):
        assert text.index("Not comparable:") < text.index("2.613")
    assert "| *ours, here* | *0.8000* | *30.00* | *–* |" in markdown(report)
    assert all(len(table.columns) == len(table.ours) == len(values) for table in TABLES for _, values in table.rows)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"features": ("infp",)}, "motion features: mesh and infp"),
        ({"clusters": ((15, 9),)}, "K of SID: 40 / 20, 15 / 9 and 15 / 9"),
        ({"data": (DataSet("demo@held_out", "c" * 64),)}, "data: aaaaaaaaaaaaaaaa and cccccccccccccccc"),
        ({"views": ("listening",)}, "views: interactive and listening"),
        ({"weights": {"alexnet": "d" * 64}}, "weights of alexnet: bbbbbbbbbbbbbbbb and dddddddddddddddd"),
        ({"more": {"size": 128}}, "size: 256 and 128"),
    ],
)
def test_reports_that_do_not_compare_are_refused(report: Report, change: dict[str, Any], told: str) -> None:
    other = replace(report, about=replace(report.about, **change))
    with pytest.raises(UsageError, match=re.escape(told)) as caught:
        together([report, other], ["A", "B"])
    assert "A and B cannot be put side by side" in caught.value.message
    assert len(unlike(report.about, other.about)) == 1


def test_reports_that_compare_become_one(report: Report) -> None:
    other = replace(report, about=replace(report.about, device="cuda", seed=3))
    joined = together([report, other], ["A", "B"])
    systems = list(dict.fromkeys(item.system for item in joined.results))
    assert systems == [GROUND_TRUTH, "ours (A)", "static (A)", "mirror (A)", "ours (B)", "static (B)", "mirror (B)"]


def test_the_command_refuses_in_two_lines(report: Report, tmp_path: Path) -> None:
    other = replace(report, about=replace(report.about, features=("infp",)))
    for name, item in (("A", report), ("B", other)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(item.dumps())
    command = [sys.executable, "-m", "training.evaluation.compare"]
    refused = subprocess.run([*command, str(tmp_path / "A"), str(tmp_path / "B")], capture_output=True, text=True)
    assert refused.returncode == 2 and "motion features: mesh and infp" in refused.stderr
    assert "Traceback" not in refused.stderr and len(refused.stderr.strip().split("\n")) == 2
    told = subprocess.run([*command, str(tmp_path / "A"), str(tmp_path / "A")], capture_output=True, text=True)
    assert told.returncode == 0 and "fd.mesh.expression" in told.stdout


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.1, 0.3, "A is wider than B"),
        (-0.3, -0.1, "A is narrower than B"),
        (-0.1, 0.3, "no difference shown"),
        (0.0, 0.3, "no difference shown"),
        (None, None, "cannot be told (no interval: one unit)"),
    ],
)
def test_two_sets_are_told_apart_no_further_than_the_interval(
    report: Report, low: float | None, high: float | None, words: str
) -> None:
    value = 0.2 if low is None or high is None else (low + high) / 2
    how = "no interval: one unit" if low is None else "bootstrap"
    found = Difference("A", "B", "video", "all", "var.mesh.expression", value, low, high, interval=how, paired=False)
    sets = replace(report, differences=(found,))
    assert [item.sentence for item in verdicts(sets)] == [words]
    for text in (page(sets), markdown(sets)):
        assert words.replace("(", "").split()[0] in text and "A against B" in text and words.split(" (")[0] in text
