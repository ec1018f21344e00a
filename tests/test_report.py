"""`dyconv report`: the page says what the ledger says, asks nothing of any network, and runs nothing that a title says."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dyconv.cli.report import report
from dyconv.errors import UsageError
from dyconv.ledger import clip_standings, read_ledger, source_standing
from dyconv.plan.measure import read_samples
from dyconv.report.numbers import head_pose, read_numbers
from dyconv.report.page import render, write_report
from dyconv.report.plots import Bar, Histogram, bars, histogram, ticks
from dyconv.report.profile import profile, run_profile
from dyconv.report.words import hours
from dyconv.store import Store
from tests.small_build import FRAMES, NASTY, face_points, small_build


class Page(HTMLParser):
    """Every tag and attribute of a page, and its text by the heading it stands under."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.links: list[tuple[str, str]] = []
        self.handlers: list[str] = []
        self.sections: dict[str, list[str]] = {}
        self._section = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href", "background"):
                self.links.append((tag, value or ""))
            if name.startswith("on"):
                self.handlers.append(name)
            if tag == "h2" and name == "id":
                self._section = value or ""

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.sections.setdefault(self._section, []).append(data.strip())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return small_build(tmp_path_factory.mktemp("report") / "build", pack=True)


@pytest.fixture(scope="module")
def text(store: Store) -> str:
    return render(store)


def test_the_page_asks_nothing_of_any_network_and_runs_nothing(text: str) -> None:
    page = Page(text)
    assert page.links
    assert all(value.startswith(("#", "data:image/jpeg;base64,")) for _, value in page.links), page.links
    assert not page.handlers
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & page.tags.keys()
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style


def test_what_titles_and_errors_say_is_text(text: str) -> None:
    assert NASTY not in text
    page = Page(text)
    assert any(NASTY in item for item in page.sections["dropped"]), "shown as it was written"
    assert any("<img src='http://evil.example/x.png'" in item for item in page.sections["failed"])


def test_numbers_are_those_of_the_ledger(store: Store, text: str) -> None:
    logs = read_ledger(store)
    sources = Counter(source_standing(log).state for log in logs.values())
    clips = Counter(item.state for log in logs.values() for item in clip_standings(log))
    assert sources == {"kept": 2, "dropped": 1, "failed": 1}
    assert clips == {"kept": 2, "dropped": 2}
    page = Page(text)
    head = page.sections[""]
    assert head[head.index("sources") + 1 : head.index("sources") + 3] == ["4", "2 kept, 1 dropped, 1 failed"]
    assert head[head.index("clips") + 1 : head.index("clips") + 3] == ["2", "2 kept, 2 dropped"]
    assert head[head.index("kept") + 1 : head.index("kept") + 3] == ["4.0 s", "50% of 8.0 s"]
    assert head[head.index("people seen") + 1] == "4"


def test_the_funnel_stands_in_the_order_of_the_stages_and_adds_up(store: Store) -> None:
    numbers = read_numbers(store)
    stages = {row.stage: row for row in numbers.funnel.stages}
    assert list(stages) == ["download", "scenes", "normalize", "people"]
    assert numbers.dropped_s["people"] == {"NOT_DYADIC": pytest.approx(2 * FRAMES / 25)}
    people = stages["people"]
    assert people.media_in == pytest.approx(people.media_out + sum(numbers.dropped_s["people"].values()))
    assert numbers.kept_s == pytest.approx(people.media_out)


def test_distributions_are_measured_on_kept_clips(store: Store) -> None:
    spread = read_numbers(store).spread
    assert spread.duration_s == [2.0, 2.0]
    assert spread.face_px == [40.0] * 4
    assert spread.speaking == [0.5, 0.4] * 2
    assert spread.overlap == [0.1, 0.1]
    assert spread.turn_s == [1.0, 0.8] * 2
    assert spread.av_offset_ms == [10.0, 10.0]
    assert len(spread.yaw) == len(spread.pitch) == 2 * 2 * FRAMES // 10


def test_licences_count_sources_and_what_is_kept_of_them(store: Store) -> None:
    licences = read_numbers(store).licences
    assert {name: (row.sources, row.clips) for name, row in licences.items()} == {
        "CC-BY-4.0": (2, 1),
        "own": (1, 1),
        "none given": (1, 0),
    }


def test_sample_frames_are_pictures_with_boxes(text: str) -> None:
    images = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(images) == 4, "two kept, two dropped; the source that never came has none"
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int) for data in images]
    assert all(picture.shape[1] == 320 for picture in pictures)
    blue = [int(((picture[..., 2] > 120) & (picture[..., 0] < 60)).sum()) for picture in pictures]
    assert min(blue[:2]) > 100, "the kept ones have p0's box"
    assert max(blue[2:]) == 0


def test_shards_are_summed_up(store: Store, text: str) -> None:
    said = " ".join(Page(text).sections["shards"])
    assert "2 clips, 4.0 s" in said
    assert "video.mp4" in said


def test_a_damaged_index_is_said_and_the_page_is_written(tmp_path: Path) -> None:
    store = small_build(tmp_path / "build", pack=True)
    store.write_bytes("shards/index.json", b"{")
    assert "index.json is damaged" in " ".join(Page(render(store)).sections["shards"])


def test_a_kept_record_that_is_gone_is_said(tmp_path: Path) -> None:
    store = small_build(tmp_path / "build")
    numbers = read_numbers(store)
    path = f"work/{numbers.kept[0].stage}/{str(numbers.kept[0].fp)[:2]}/{numbers.kept[0].fp}/done.json"
    store.remove(path)
    assert "records of 1 kept clips are gone" in render(store)


def test_the_same_build_gives_the_same_page(store: Store, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    report(store.root)
    assert capsys.readouterr().out.strip() == f"{store}/report.html"
    assert store.read_bytes("report.html").decode() == text


def test_a_folder_that_is_no_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no output folder of a run"):
        write_report(Store(tmp_path))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200))
def test_a_histogram_counts_every_value_and_stays_inside(values: list[float]) -> None:
    svg = str(histogram(Histogram("<t>", "s & s", values, "clips", low=0)))
    assert "<t>" not in svg
    counts = [int(count.replace(",", "")) for count in re.findall(r": ([\d,]+) clips</title>", svg)]
    assert sum(counts) == len(values)
    for x, width in re.findall(r'<rect class="bar" x="([\d.e+-]+)" y="[\d.]+" width="([\d.]+)"', svg):
        assert 39 <= float(x) <= 330
        assert float(x) + float(width) <= 315


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5))
def test_ticks_are_even_and_within(low: float, width: float) -> None:
    marks = ticks(low, low + width)
    assert 1 <= len(marks) <= 12
    assert all(low - 1e-6 * width - 1e-9 <= mark <= low + width * (1 + 1e-6) + 1e-9 for mark in marks)


def test_bars_share_one_scale() -> None:
    svg = str(bars([Bar("a", [("out", 1.0, "x")], ""), Bar("b", [("out", 0.25, "y"), ("dropped", 0.75, "z")], "")], 1.0))
    widths = [float(value) for value in re.findall(r'<rect class="(?:out|dropped)" x="[\d.]+" y="\d+" width="([\d.]+)"', svg)]
    assert widths == pytest.approx([530, 132.5, 397.5])


def test_head_pose_of_a_turned_face() -> None:
    straight = face_points(np.zeros(2))
    angle = np.radians(30)
    turned = straight.copy()
    turned[:, 0], turned[:, 2] = straight[:, 0] * np.cos(angle), straight[:, 0] * np.sin(angle)
    nodding = straight.copy()
    nodding[:, 1], nodding[:, 2] = straight[:, 1] * np.cos(angle), straight[:, 1] * np.sin(angle)
    yaw, pitch = head_pose(np.stack([straight, turned, nodding]))
    assert yaw == pytest.approx([0, 30, 0], abs=1e-4)
    assert pitch == pytest.approx([0, 0, -30], abs=1e-4)


@pytest.mark.parametrize(
    ("seconds", "said"), [(4.0, "4.0 s"), (600.0, "10.0 min"), (9000.0, "2.5 h"), (7_200_000.0, "2,000.0 h")]
)
def test_lengths_read_well(seconds: float, said: str) -> None:
    assert hours(seconds) == said


def test_the_profile_adds_up_and_names_the_slowest(store: Store, text: str) -> None:
    numbers = read_numbers(store)
    stages = profile(numbers.logs.values(), numbers.levels)
    assert [stage.stage for stage in stages] == ["download", "scenes", "normalize", "people"]
    assert sum(stage.work_s for stage in stages) == pytest.approx(sum(row.seconds for row in numbers.funnel.stages))
    by_name = {stage.stage: stage for stage in stages}
    events = [event for log in numbers.logs.values() for event in log.events if event.stage == "normalize"]
    normalize = by_name["normalize"]
    assert (normalize.items, normalize.media_s) == (4, 8.0)
    assert normalize.slowest[0].seconds == max(event.seconds for event in events)
    assert normalize.median_s <= normalize.p95_s <= normalize.slowest[0].seconds
    assert normalize.per_media_s == pytest.approx(sum(event.seconds for event in events) / 8)
    assert by_name["download"].media_s == 8.0, "what fetches is measured by what it fetched"
    failed = [event.seconds for log in numbers.logs.values() for event in log.failed()]
    assert by_name["download"].failed_s == pytest.approx(sum(failed))
    said = " ".join(Page(text).sections["time"])
    for stage in stages:
        assert f"dyconv replay {stage.slowest[0].id} {stage.stage} --out OUT" in said


def test_the_last_run_is_told_apart_into_work_and_waiting(store: Store, text: str, tmp_path: Path) -> None:
    run = run_profile(read_samples(store))
    assert run is not None
    numbers = read_numbers(store)
    assert run.stages_s == pytest.approx(sum(row.seconds for row in numbers.funnel.stages))
    assert run.stages_s + run.setup_s <= run.wall_s * 1.05, "one worker, in the driver's process"
    assert run.idle_s >= 0 and run.workers <= 1.05 and run.deaths == 0
    assert "on the clock" in " ".join(Page(text).sections["time"])
    bare = small_build(tmp_path / "build")
    bare.remove("metrics.prom")
    page = Page(render(bare))
    assert "on the clock" not in " ".join(page.sections["time"]), "an older build has no metrics, and a page"
    bare.write_bytes("metrics.prom", b"\xff{")
    assert "on the clock" not in render(bare)
