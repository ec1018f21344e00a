"""One worker process and the watch over it: it may crash, hang or take too much memory, and only its clip pays.

The same on a laptop and in a Ray actor. A clip's limit, a crash's Python stack and a process's memory can only be seen
from outside: code that hangs in a native call lets no other thread of its process run.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

import psutil

from dyconv.child import STACKS, Job
from dyconv.errors import DyconvError
from dyconv.resources import memory_left
from dyconv.store import Store
from dyconv.task import Death, Kind, Notice, Report, Task
from dyconv.work import sweep_scratch

_SCARCE = 256 * 2**20  # bytes free on a machine below which its largest worker has to go
_GROWN = 1.5  # times its size after the first clip: a worker that takes a large part of its share by growing, leaks
_LARGE = 0.7  # of its share: where growth begins to matter
_STILLBORN = 4  # processes in a row that end before they say anything
_STACK_S = 0.3  # for a worker to write its stack down before it is killed
_TRACE = 6000  # bytes of a stack that are kept


@dataclass
class _Doing:
    """What the worker said it began."""

    notice: Notice
    since: float


class Supervisor:
    """Keeps one worker process alive and gives it one task at a time.

    Args:
        job: what the worker does.
        share: bytes of memory meant for one worker; above it the worker is killed when the machine runs short.
        most: bytes above which it is killed in any case; None for no such bound.
    """

    def __init__(self, job: Job, share: int, most: int | None = None) -> None:
        self._job, self._share, self._most = job, share, most
        self._task: Task | None = None
        self._stillborn = 0
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._trace = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        handles = (theirs.fileno(), self._trace.fileno())
        path = os.pathsep.join(os.path.abspath(item) for item in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dyconv.child", *(str(handle) for handle in handles), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            pass_fds=handles,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is the driver's affair
        )
        theirs.close()
        self.pipe = Connection(ours.detach())
        self.name = f"{socket.gethostname()}:{self._process.pid}"
        self._doing: _Doing | None = None
        self._settled: int | None = None  # bytes it took after its first task
        self._send(self._job.to_json())

    @property
    def busy(self) -> bool:
        return self._task is not None

    def give(self, task: Task) -> None:
        self._task = task
        self._send(task.to_json())

    def _send(self, data: object) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is dead: `reports` will find out
            self.pipe.send_bytes(json.dumps(data).encode())

    def reports(self) -> Iterator[Report]:
        """What the worker has told since; a worker that died or had to be killed is replaced, and has its task again."""
        try:
            while self.pipe.poll():
                yield from self._heard(Report.from_json(json.loads(self.pipe.recv_bytes())))
        except (EOFError, ConnectionResetError):
            yield self._replace(self._death())
            return
        if self._task is not None and (death := self._overdue() or self._greedy()):
            yield self._replace(death)

    def _heard(self, report: Report) -> Iterator[Report]:
        self._stillborn = 0
        self._task = None if report.error else report.rest
        notices = [item for item in report.items if isinstance(item, Notice)]
        if not any(notice.kind is Kind.READY for notice in notices):  # which is said in the middle of a stage
            self._doing = _Doing(notices[-1], time.monotonic()) if notices else None
        items = [replace(item, worker=self.name) if isinstance(item, Notice) else item for item in report.items]
        if self._task is None and report.error is None and (leak := self._leaking()):
            items.append(Notice(Kind.RECYCLED, self.name, detail=leak))
            self._end()
            self._start()
        yield replace(report, items=tuple(items))

    def _death(self) -> Death:
        """How a worker ended that did so by itself."""
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return self._died("closed its pipe")
        return self._died(f"signal {_signal_name(-code)}" if code < 0 else f"exit status {code}")

    def _died(self, how: str, kind: Kind = Kind.DIED) -> Death:
        stage = self._doing.notice.stage if self._doing else None
        size = os.fstat(self._trace.fileno()).st_size
        # faulthandler writes the innermost frame first: the beginning is what matters.
        stack = os.pread(self._trace.fileno(), min(size, _TRACE), 0).decode(errors="replace")
        return Death(kind, stage, f"{how}\n{stack}" if stack else how)

    def _overdue(self) -> Death | None:
        """The death of a worker that is past its stage's limit. It is asked first where it is."""
        doing = self._doing
        if doing is None or (spent := time.monotonic() - doing.since) <= doing.notice.seconds:
            return None
        self._process.send_signal(STACKS)
        time.sleep(_STACK_S)
        return self._died(f"no end after {spent:.0f} s, the limit is {doing.notice.seconds:.0f} s", Kind.HUNG)

    def _greedy(self) -> Death | None:
        """The death of a worker that takes more than it may, or more than its share while the machine has nothing left."""
        used = self._memory()
        if self._most is not None and used > self._most:
            return self._died(f"used {_gib(used)}, may use {_gib(self._most)}", Kind.MEMORY)
        if used > self._share and memory_left() < _SCARCE:
            return self._died(f"used {_gib(used)}, its share is {_gib(self._share)}, nothing was left", Kind.MEMORY)
        return None

    def _leaking(self) -> str:
        """Says so if the worker has grown by much, between two tasks."""
        used = self._memory()
        self._settled = self._settled or used
        bound = _LARGE * (self._most or self._share)
        if used > bound and used > _GROWN * self._settled:
            return f"grew from {_gib(self._settled)} to {_gib(used)}"
        return ""

    def _memory(self) -> int:
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def _replace(self, death: Death) -> Report:
        """Clear the dead worker away, start another, and give it the task again."""
        name, doing = self.name, self._doing
        self._stillborn += 1
        self._end()
        sweep_scratch(Store(self._job.store))
        if self._stillborn > _STILLBORN:
            self._task = None
            hint = "run `dyconv doctor`; --workers 0 works in this process and shows more"
            return Report(
                error=DyconvError(f"workers die one after the other before they do anything: {death.detail}", hint=hint)
            )
        self._start()
        told = doing.notice if doing else Notice(death.kind)
        notice = replace(told, kind=death.kind, worker=name, detail=death.detail, seconds=0.0)
        if self._task is not None:
            self.give(replace(self._task, deaths=(*self._task.deaths, death)))
        return Report((notice,), rest=self._task)

    def _end(self) -> None:
        """End the worker and whatever it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.pipe.close()
        self._trace.close()

    def close(self) -> None:
        self._end()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
