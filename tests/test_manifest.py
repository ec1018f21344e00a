"""Manifests: a file that cannot be used stops the run, a bad row is one named drop, and nothing leaves its folder."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyconv.cli import main
from dyconv.errors import ManifestError
from dyconv.manifest import COLUMNS, MAX_ID, BadRow, default_id, listing, local_path, read_manifest
from dyconv.records import DropReason, Source, check_id, child_id, dump
from dyconv.time import Span

URL = "https://example.org/a.mp4"


def manifest(tmp_path: Path, text: str, name: str = "m.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_is_read():
    rows = read_manifest(Path(__file__).parent.parent / "manifests" / "example.csv")
    assert [row.id for row in rows] == ["interview-01", "debate-rewatch", "own-recording"]
    assert all(isinstance(row, Source) and row.licence for row in rows)


def test_csv_and_jsonl_say_the_same(tmp_path):
    text = 'id,url,licence,title,x_mine\none,https://example.org/1,own,"a, b",z\n,https://example.org/2,,,\n'
    as_csv = read_manifest(manifest(tmp_path, text))
    lines = [json.dumps({**row}) for row in csv.DictReader(io.StringIO(text))]
    as_jsonl = read_manifest(manifest(tmp_path, "\n\n".join(lines), "m.jsonl"))
    assert as_csv == as_jsonl
    assert as_csv[0] == Source("one", "https://example.org/1", "own", "a, b")
    assert as_csv[1] == Source(default_id("https://example.org/2"), "https://example.org/2")


def test_byte_order_mark_blank_lines_and_short_rows(tmp_path):
    rows = read_manifest(manifest(tmp_path, f"\ufeffurl,licence,title\r\n{URL}\r\n\r\n ,,\r\n"))
    assert rows == [Source(default_id(URL), URL)]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("m.csv", "", "no column 'url'"),
        ("m.csv", "url\n", "no rows"),
        ("m.csv", "url\n\n  \n", "no rows"),
        ("m.csv", "id,licence\na,own\n", "no column 'url'"),
        ("m.csv", f"url,license\n{URL},own\n", "did you mean 'licence'"),
        ("m.csv", f"URL\n{URL}\n", "did you mean 'url'"),
        ("m.csv", f"url,speakers\n{URL},2\n", "x_speakers"),
        ("m.csv", f"url,url\n{URL},{URL}\n", "twice"),
        ("m.csv", f'url\n"{URL}\n', "not CSV"),
        ("m.csv", f"url;licence\n{URL};own\n", "unknown column 'url;licence'"),
        ("m.jsonl", "", "no rows"),
        ("m.jsonl", "not json\n[1]\n", "no line is a JSON object"),
        ("m.jsonl", json.dumps({"url": URL, "licens": "own"}), "did you mean 'licence'"),
        ("m.jsonl", json.dumps({"id": "a"}), "no column 'url'"),
        ("m.txt", URL, "named .csv or .jsonl"),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path, name, text, says):
    with pytest.raises(ManifestError) as caught:
        read_manifest(manifest(tmp_path, text, name))
    assert says in str(caught.value)
    assert caught.value.exit_code == 2


def test_missing_file_and_wrong_encoding(tmp_path):
    with pytest.raises(ManifestError, match="there is no manifest"):
        read_manifest(tmp_path / "nowhere.csv")
    (tmp_path / "latin.csv").write_bytes("url,title\nhttps://example.org,Grüße\n".encode("latin-1"))
    with pytest.raises(ManifestError, match="not UTF-8"):
        read_manifest(tmp_path / "latin.csv")
    with pytest.raises(ManifestError, match="cannot read"):
        (tmp_path / "folder.csv").mkdir()
        read_manifest(tmp_path / "folder.csv")


BAD = [
    ({"url": ""}, "no url"),
    ({"url": "ftp://example.org/a"}, "found 'ftp'"),
    ({"url": "javascript:alert(1)"}, "found 'javascript'"),
    ({"url": "data:video/mp4;base64,AAAA"}, "found 'data'"),
    ({"url": "ytsearch:two people"}, "white space"),
    ({"url": "https:///a.mp4"}, "without a host"),
    ({"url": "http://[::1/a"}, "bad url"),
    ({"url": "http://h:99999/a"}, "bad url"),
    ({"url": "https://user:secret@example.org/a"}, "cookies file"),
    ({"url": "https://example.org/a b"}, "white space"),
    ({"url": "https://example.org/" + "a" * 3000}, "characters"),
    ({"url": "//[x", "id": "a b"}, "expected 1 to"),
    ({"url": "../outside.mp4"}, "leaves the manifest's folder"),
    ({"url": "a/../../outside.mp4"}, "leaves the manifest's folder"),
    ({"url": "file:///a/../etc/passwd"}, "bad local path"),
    ({"url": "file:///a/%2e%2e/etc/passwd"}, "bad local path"),
    ({"url": "file://host/share/a.mp4"}, "expected file:///whole/path"),
    ({"url": URL, "id": "../evil"}, "expected 1 to"),
    ({"url": URL, "id": "a/b"}, "expected 1 to"),
    ({"url": URL, "id": "a.b"}, "expected 1 to"),
    ({"url": URL, "id": "ä"}, "expected 1 to"),
    ({"url": URL, "id": "a" * (MAX_ID + 1)}, "expected 1 to"),
    ({"url": URL, "language": "en]/b["}, "BCP 47"),
    ({"url": URL, "id": 7}, "expected text"),
    ({"url": [URL]}, "expected text"),
    ({"url": URL, "title": "\ud800"}, "Unicode"),
]


@pytest.mark.parametrize(("row", "says"), BAD, ids=[f"{next(reversed(row))}-{says[:12]}" for row, says in BAD])
def test_a_bad_row_is_one_named_drop_and_the_others_go_on(tmp_path, row, says):
    good = [{"url": "https://example.org/before"}, row, {"url": "https://example.org/after"}]
    rows = read_manifest(manifest(tmp_path, "\n".join(json.dumps(value) for value in good), "m.jsonl"))
    assert isinstance(rows[0], Source) and isinstance(rows[2], Source)
    bad = rows[1]
    assert isinstance(bad, BadRow)
    assert says in bad.detail and bad.detail.startswith("row 2 ")
    drop = bad.drop()
    assert drop.reason is DropReason.BAD_ROW
    assert drop.clip.id == check_id(bad.id) and bad.id.startswith("row-0002-")
    dump(drop.clip.to_json())
    assert "secret" not in repr(bad)


def test_damaged_lines_are_bad_rows(tmp_path):
    rows = read_manifest(manifest(tmp_path, f'{{"url": "{URL}"}}\n{{broken\n[]\n', "m.jsonl"))
    assert [type(row) for row in rows] == [Source, BadRow, BadRow]
    rows = read_manifest(manifest(tmp_path, f"url,title\n{URL},one, two\n"))
    assert isinstance(rows[0], BadRow) and "3 cells" in rows[0].detail


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        (("a", URL), ("a", URL + "?2"), "id 'a'"),
        (("a", URL), ("b", URL), "url"),
        (("a", URL), ("b", "HTTPS://EXAMPLE.org/a.mp4#t=3"), "url"),
        (("a", "clip.mp4"), ("b", "./clip.mp4"), "url"),
    ],
)
def test_a_duplicate_names_the_row_that_came_first(tmp_path, first, second, what):
    text = "id,url\n" + "".join(f"{name},{url}\n" for name, url in (first, second, ("c", "https://example.org/c")))
    rows = read_manifest(manifest(tmp_path, text))
    assert [type(row) for row in rows] == [Source, BadRow, Source]
    assert rows[1].detail.startswith(f"row 2 {what}") and "row 1 (a)" in rows[1].detail


def test_a_bad_row_does_not_take_an_id_from_a_good_one(tmp_path):
    rows = read_manifest(manifest(tmp_path, f"id,url\na,ftp://example.org\na,{URL}\n"))
    assert isinstance(rows[1], Source) and rows[1].id == "a"


def test_local_paths_are_relative_to_the_manifest(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    path = manifest(tmp_path / "sub", "url\nclips/a b.mp4\n/whole/ü.mp4\nfile:///x/%C3%BC%20y.mp4\n")
    monkeypatch.chdir(tmp_path)
    rows = read_manifest(Path("sub") / path.name)
    assert [local_path(row.url) for row in rows] == [
        tmp_path / "sub" / "clips" / "a b.mp4",
        Path("/whole/ü.mp4"),
        Path("/x/ü y.mp4"),
    ]
    assert rows[0].id == default_id("clips/a b.mp4"), "the id does not depend on where the folder lies"


@given(st.text(max_size=200))
def test_default_ids_are_safe_and_leave_room(url):
    made = default_id(url)
    assert check_id(made) == made and len(made) <= MAX_ID
    assert default_id(url) == made


def test_the_longest_id_still_makes_clips():
    check_id(child_id("a" * MAX_ID, Span.of(0, 10**6)))


@given(st.lists(st.lists(st.text(max_size=30), min_size=1, max_size=9), min_size=1, max_size=6))
def test_any_cells_give_rows_or_a_named_error(tmp_path_factory, table):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["id", "url", "language"], *table])
    path = tmp_path_factory.mktemp("any") / "m.csv"
    path.write_bytes(text.getvalue().encode("utf-8", "replace"))
    try:
        rows = read_manifest(path)
    except ManifestError:
        return
    ids = [row.id for row in rows]
    assert len(set(ids)) == len(ids)
    for row in rows:
        assert check_id(row.id)
        if isinstance(row, BadRow):
            row.drop()


def test_listing_a_folder(tmp_path, capsys, monkeypatch):
    clips = tmp_path / "clips"
    (clips / "sub").mkdir(parents=True)
    for name in ("b.MP4", "sub/a, b.mkv", "sub/a.mkv", "note.txt", ".hidden.mp4"):
        (clips / name).write_bytes(b"x")
    out = tmp_path / "list.csv"
    monkeypatch.setattr("sys.argv", ["dyconv", "manifest", str(clips), "--licence", "own", "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    rows = read_manifest(out)
    assert [local_path(row.url) for row in rows] == [clips / name for name in ("b.MP4", "sub/a, b.mkv", "sub/a.mkv")]
    assert "file:" not in out.read_text(), "files below the manifest's folder are listed relative to it"
    elsewhere = read_manifest(manifest(tmp_path / "clips", listing(clips, "own"), "all.csv"))
    assert [row.id for row in elsewhere] == [row.id for row in rows]
    assert {row.licence for row in rows} == {"own"}


@pytest.mark.parametrize("arguments", [["nowhere", "--licence", "own"], [".", "--licence", " "], [".", "--licence", "own"]])
def test_listing_mistakes_are_usage_errors(tmp_path, arguments, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["dyconv", "manifest", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_columns_are_those_of_the_record():
    text = (Path(__file__).parent.parent / "manifests" / "README.md").read_text()
    assert all(f"| `{name}` |" in text for name in COLUMNS)
