"""No reader can run what it reads: every call that could is named here, with the reason why it is safe where it stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

_RUNS = ("eval", "exec", "compile", "__import__", "os.system", "os.popen", "import_module", "importlib.import_module")
_UNPICKLES = ("pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.loads", "dill.load", "dill.loads", "joblib.load")
_UNPICKLES += ("marshal.load", "marshal.loads", "shelve.open", "pandas.read_pickle", "pd.read_pickle")
_LOADS = ("yaml.load", "yaml.full_load", "yaml.unsafe_load", "torch.load", "np.load", "numpy.load")
_OPENS = ("tarfile.open", "zipfile.ZipFile", "shutil.unpack_archive", "av.open", "Image.open", "imageio.imread", "cv2.imread")
_OPENS += ("soundfile.read", "soundfile.SoundFile", "pq.read_table", "pq.ParquetFile", "sqlite3.connect")
_XML = ("ElementTree.parse", "ElementTree.fromstring", "ElementTree.XML", "ET.parse", "ET.fromstring", "ET.iterparse", "ET.XML")
_XML += ("minidom.parse", "minidom.parseString", "expat.ParserCreate", "sax.parse", "etree.parse", "etree.fromstring")
_CALLS = frozenset((*_RUNS, *_UNPICKLES, *_LOADS, *_OPENS, *_XML))
_METHODS = ("exec_module", "extractall", "extract", "read_pickle")  # of anything

_WRITES = "writes a file of our own"
_WEIGHTS = "weights_only=True: torch makes tensors and plain containers alone"
# (file, call): why it is safe there.
ALLOWED: dict[tuple[str, str], str] = {
    (
        "dyconv/arrays.py",
        "zipfile.ZipFile",
    ): "sizes are compared with the bound and the arrays' own headers; nothing is unpickled",
    ("dyconv/audit/interchange/eaf.py", "expat.ParserCreate"): "document types and entities are refused, and depth beyond 32",
    (
        "dyconv/audit/library.py",
        "tarfile.open",
    ): "headers alone, uncompressed, plain files only (check_plain), nothing is extracted",
    ("dyconv/audit/overlay.py", "sqlite3.connect"): "the reviewers' own file; each decision in it is checked",
    ("dyconv/child.py", "pickle.loads"): "the plan of the driver that started this process, through its pipe",
    ("dyconv/child.py", "importlib.import_module"): "a module of this program, by a constant name",
    ("dyconv/cli/__init__.py", "import_module"): "a command out of a constant table",
    ("dyconv/download/join.py", "av.open"): "pictures that were written a moment ago, and the target",
    ("dyconv/importers/prepare.py", "av.open"): _WRITES,
    ("dyconv/infp/film.py", "av.open"): _WRITES,
    ("dyconv/infp/mark.py", "ElementTree.fromstring"): "at most 1 MiB of UTF-8 in which <! is refused: no entities",
    ("dyconv/media/audio.py", "soundfile.SoundFile"): "read in blocks, within MEDIA_SECONDS",
    ("dyconv/media/own.py", "av.open"): "MP4 and Matroska alone, local files alone, at most PIXELS",
    ("dyconv/media/source.py", "av.open"): "a list of containers, local files alone, at most PIXELS, MEDIA_STREAMS",
    ("dyconv/media/splice.py", "av.open"): "normalized video of this run",
    ("dyconv/media/video.py", "av.open"): "normalized video of this run, and writing",
    ("dyconv/models/demucs_load.py", "torch.load"): _WEIGHTS,
    (
        "dyconv/models/fetch.py",
        "zipfile.ZipFile",
    ): "a wheel or archive of which one member with a known sha256 is copied by our own name",
    ("dyconv/models/ge2e_net.py", "torch.load"): _WEIGHTS,
    ("dyconv/models/lr_asd.py", "torch.load"): _WEIGHTS,
    ("dyconv/models/pyannote_load.py", "torch.load"): _WEIGHTS,
    ("dyconv/models/pyannote_load.py", "import_module"): "below pyannote.audio.models alone, and only a pyannote Model is made",
    ("dyconv/models/registry.py", "import_module"): "a factory out of the registry in this program",
    ("dyconv/recipes.py", "importlib.import_module"): "a recipe of the project by its name, out of the list of those there are",
    ("dyconv/recipes.py", "exec_module"): "a recipe is a program: the file that the user names; a release's is never run",
    ("dyconv/release/card.py", "import_module"): "the module of a stage class of a recipe that comes with the project",
    (
        "dyconv/release/packed.py",
        "tarfile.open",
    ): "headers alone, uncompressed, plain files only (check_plain), nothing is extracted",
    ("dyconv/shards/__init__.py", "import_module"): "this package's own modules, out of a constant table",
    ("dyconv/shards/table.py", "pq.ParquetFile"): "in batches, within TABLE_BYTES, columns checked",
    (
        "dyconv/shards/tar.py",
        "tarfile.open",
    ): "uncompressed, plain files only (check_plain), within MEMBER_BYTES; nothing is extracted",
    ("dyconv/synth/footage.py", "Image.open"): "looks at the header alone",
    ("dyconv/synth/puppet.py", "Image.open"): "a user's own photograph, within PICTURE_PIXELS",
    ("dyconv/synth/render.py", "av.open"): _WRITES,
    ("training/infp/clips.py", "tarfile.open"): "headers alone, uncompressed, plain files only (check_plain)",
    ("training/infp/prepare.py", "av.open"): "films that this program has rendered, and writing",
    ("training/evaluation/catalogue.py", "import_module"): "a module out of a constant table",
    ("training/evaluation/videos.py", "av.open"): "a user's own film; local files",
    ("training/evaluation/foreign.py", "torch.load"): _WEIGHTS,
    ("training/infp/checkpoint.py", "torch.load"): _WEIGHTS,
    ("training/infp/perceptual.py", "torch.load"): _WEIGHTS,
    ("training/active_speaker/data.py", "np.load"): "the user's own training data, without pickle",
    ("training/active_speaker/export.py", "torch.load"): _WEIGHTS,
    ("training/active_speaker/train.py", "torch.load"): _WEIGHTS,
    ("training/cleanup/export.py", "torch.load"): _WEIGHTS,
    ("training/cleanup/sounds.py", "soundfile.SoundFile"): "the user's own training data",
    ("training/cleanup/train.py", "torch.load"): _WEIGHTS,
    ("training/diarization/compose.py", "np.load"): "the user's own training data, without pickle",
    ("training/diarization/compose.py", "soundfile.read"): "the user's own training data",
    ("training/diarization/train.py", "torch.load"): "a Lightning checkpoint that this trainer wrote itself",
    ("training/diarization/voices.py", "np.load"): "the user's own training data, without pickle",
    ("training/separation/export.py", "torch.load"): _WEIGHTS,
    ("training/separation/measure.py", "soundfile.read"): "the user's own training data",
    ("training/separation/train.py", "torch.load"): _WEIGHTS,
    ("training/separation/voices.py", "soundfile.read"): "the user's own training data",
    ("pipelines/quality/identities.py", "Image.open"): "a picture that an installed package carries",
    ("pipelines/vendor.py", "tarfile.open"): "an npm package with a known hash; members are read by name, nothing is extracted",
}


@cache
def modules() -> tuple[tuple[str, ast.AST], ...]:
    """(path from the root, syntax tree) of all code that is not a test."""
    paths = [path for top in ("dyconv", "training", "pipelines") for path in sorted((ROOT / top).rglob("*.py"))]
    return tuple((path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())) for path in paths)


def name_of(node: ast.AST) -> str | None:
    """`a.b.c` of plain names; None for anything else, such as a method of what a call returned."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        below = name_of(node.value)
        return f"{below}.{node.attr}" if below else None
    return None


def found(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """(what, call) of everything in a module that could run, unpickle or unpack what it is given."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node.func)
        if name in _CALLS:
            yield name, node
        elif isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
            yield node.func.attr, node


def test_everything_that_could_run_what_it_reads_is_known() -> None:
    seen = {(file, what): node.lineno for file, tree in modules() for what, node in found(tree)}
    new = {f"{file}:{line} {what}" for (file, what), line in seen.items() if (file, what) not in ALLOWED}
    assert not new, f"read it another way, or say in ALLOWED why it is safe: {sorted(new)}"
    gone = sorted(set(ALLOWED) - set(seen))
    assert not gone, f"is no longer there, take it out of ALLOWED: {gone}"


def test_no_command_goes_through_a_shell() -> None:
    for file, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                assert "shell" not in given, f"{file}:{node.lineno}: give a list of arguments"


def test_weights_are_read_without_their_pickles_and_arrays_without_objects() -> None:
    for file, tree in modules():
        for what, node in found(tree):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if what == "torch.load" and ALLOWED[file, what] == _WEIGHTS:
                assert given.get("weights_only") == "True", f"{file}:{node.lineno}"
            if what in ("np.load", "numpy.load"):
                assert given.get("allow_pickle", "False") == "False", f"{file}:{node.lineno}"


@pytest.mark.parametrize(
    "code", ["eval(x)", "import pickle\npickle.loads(x)", "torch.load(p)", "tar.extractall()", "tarfile.open(f).extract(m)"]
)
def test_the_search_finds_what_it_looks_for(code: str) -> None:
    assert list(found(ast.parse(code)))
    assert not list(found(ast.parse("net.eval()\nmodel().eval()\nre.compile(x)\njson.loads(x)")))
