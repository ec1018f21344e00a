"""One target under atheris, in a process of its own: `python -m tests.fuzz.guided NAME ...`, started by `tests.fuzz.run`.

Coverage of dyconv's own code decides which inputs are kept and changed further; half of the changes are those that know the
format (`tests.fuzz.mutate`). A finding is written as a file and the run goes on; a native crash, or memory beyond the limit,
ends this process, and libFuzzer writes the file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

import atheris

_LONGEST = 1 << 20  # bytes of an input
_NOTED_S = 1.0


class Tally:
    """What was seen so far, in a file that outlives this process."""

    def __init__(self, out: Path, crashes: Path, name: str) -> None:
        self.out, self.crashes, self.name = out, crashes, name
        self.runs = self.taken = 0
        self.slowest = 0.0
        self.found: dict[str, dict[str, object]] = {}
        self._noted = 0.0

    def add(self, data: bytes, outcome: bool | str, took: float) -> None:
        self.runs += 1
        if took > self.slowest:
            self.slowest = took
        if isinstance(outcome, bool):
            self.taken += outcome
        else:
            self._finding(data, outcome)
        if time.monotonic() - self._noted > _NOTED_S:
            self.write()

    def _finding(self, data: bytes, told: str) -> None:
        """Keep the first, and then the shortest, input for each place in the code."""
        where = told.split(":")[0] + told.rpartition(" | ")[2].split(" < ")[0]
        known = self.found.get(where)
        if known is None or len(data) < int(str(known["bytes"])):
            path = self.crashes / f"{self.name}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"
            path.write_bytes(data)
            self.found[where] = {"file": path.name, "bytes": len(data), "told": told}
            self.write()

    def write(self) -> None:
        self._noted = time.monotonic()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        told = {"runs": self.runs, "taken": self.taken, "slowest_s": round(self.slowest, 3), "peak_mb": peak}
        self.out.write_text(json.dumps({**told, "found": list(self.found.values())}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--crashes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--memory", type=int, required=True)
    given = parser.parse_args()
    with atheris.instrument_imports(include=["dyconv"]):
        from tests.fuzz.mutate import mutated
        from tests.fuzz.seeded import SECONDS, _too_slow, set_limit, tried
        from tests.fuzz.targets import TARGETS

        target = TARGETS[given.name]
        folder = Path(tempfile.mkdtemp(prefix="dyconv-fuzz-")) / "target"
        folder.mkdir()
        valid = target.make(folder)
        assert target.check(folder, valid), f"{target.name}: valid bytes are refused"
    given.corpus.mkdir(parents=True, exist_ok=True)
    (given.corpus / "valid").write_bytes(valid)
    for seed in range(20):  # so that the first inputs are near to valid ones
        (given.corpus / f"seed{seed:02d}").write_bytes(mutated(valid, target.kind, seed)[:_LONGEST])
    tally = Tally(given.out, given.crashes, target.name)
    signal.signal(signal.SIGALRM, _too_slow)
    set_limit(given.memory)

    def one(data: bytes) -> None:
        begun = time.monotonic()
        tally.add(data, tried(target, folder, data), time.monotonic() - begun)

    def change(data: bytes, longest: int, seed: int) -> bytes:
        if seed % 2:
            return mutated(data, target.kind, seed)[:longest]
        return bytes(atheris.Mutate(data, longest))

    options = (f"-max_total_time={given.seconds}", f"-artifact_prefix={given.crashes}/{target.name}-", "-print_final_stats=1")
    bounds = (f"-max_len={_LONGEST}", f"-timeout={int(SECONDS) + 10}", "-rss_limit_mb=0", "-verbosity=1")
    atheris.Setup([sys.argv[0], str(given.corpus), *options, *bounds], one, custom_mutator=change)
    os.environ.setdefault("ASAN_OPTIONS", "")
    atheris.Fuzz()


if __name__ == "__main__":
    main()
