"""One stage on one clip again, to see what it does. Reads an output folder and changes nothing in it."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from rich.console import Console

from dyconv import recipes
from dyconv.errors import UsageError
from dyconv.ledger import RUN_FILE, Event, State, read_ledger
from dyconv.recipe import Recipe
from dyconv.records import Clip, Drop, source_clip
from dyconv.run_file import read_run
from dyconv.stages.base import Files, check_contract
from dyconv.store import Store
from dyconv.task import make_plan
from dyconv.work import read_clip, read_done, read_failed_clip, work_folder


def replay(clip_id: str, stage_name: str, out: str, recipe_ref: str | None = None, keep: Path | None = None) -> int:
    """Run it, tell what came out, and return an exit status.

    Raises:
        UsageError: if the folder, clip or stage is not known.
    """
    store = Store(out)
    recipe = _recipe(store, recipe_ref)
    stage = recipe.stage(stage_name)
    clip = find_input(store, recipe, clip_id, stage_name)
    console = Console()
    console.print(f"{stage_name} on {clip.id} ({clip.span}) with {stage.config()}", highlight=False)
    scratch = Path(tempfile.mkdtemp(prefix="dyconv-replay-"))
    started = time.monotonic()
    try:
        stage.setup()
        outcomes = list(stage.process(clip, Files(store, work_folder(stage_name, "0" * 64), scratch)))
        check_contract(stage, clip, outcomes)
        for outcome in outcomes:
            _tell(console, outcome)
    except Exception:  # noqa: BLE001 - the point of a replay is to show it
        console.print_exception(show_locals=False)
        return 1
    finally:
        console.print(f"{time.monotonic() - started:.1f} s", highlight=False)
        if keep is not None:
            shutil.copytree(scratch, keep, dirs_exist_ok=True)
            console.print(f"files are in {keep}", highlight=False)
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def _recipe(store: Store, ref: str | None) -> Recipe:
    if ref is None:
        record = read_run(store)
        if record is None:
            raise UsageError(f"{store} is no output folder of a run: it has no {RUN_FILE}")
        ref = record["recipe_file"] or record["recipe"]
    return recipes.load(ref)


def find_input(store: Store, recipe: Recipe, clip_id: str, stage_name: str) -> Clip:
    """The record as it stood before the stage: what the stage before it gave, by the ledger.

    Raises:
        UsageError: if the clip is not known or never came to that stage.
    """
    plan = make_plan(recipe)
    names = [step.stage.name for step in plan.steps]
    index = names.index(stage_name)
    level = plan.steps[index].level
    for log in read_ledger(store).values():
        events = [event for event in log.events if event.id == clip_id or clip_id in (event.children or ())]
        if log.id == clip_id and index == 0:
            return _first(store, log.events)
        for event in events:
            if index and event.stage == names[index - 1] and event.state in (State.PASSED, State.KEPT):
                found = event.level + (event.children is not None)
                if found == level:
                    return read_clip(store, event, clip_id)
        if events:
            seen = ", ".join(dict.fromkeys(event.stage or "" for event in events))
            raise UsageError(f"{clip_id} never came to stage {stage_name}", hint=f"the ledger has it at: {seen}")
    raise UsageError(f"{store} knows no clip {clip_id}", hint=f"`dyconv status {store}` lists them")


def _first(store: Store, events: list[Event]) -> Clip:
    """The record a source starts as, from what its first stage left, done or failed."""
    for event in events:
        if event.level == 0 and event.stage and event.fp:
            folder = work_folder(event.stage, event.fp)
            if done := read_done(store, folder):
                outcome = done[0][0]
                return source_clip((outcome.clip if isinstance(outcome, Drop) else outcome).source)
            return read_failed_clip(store, folder)
    raise UsageError("this source has not been tried yet", hint="run it first")


def _tell(console: Console, outcome: Clip | Drop) -> None:
    if isinstance(outcome, Drop):
        console.print(f"[yellow]dropped[/] {outcome.clip.id}: {outcome.reason}: {outcome.detail}", highlight=False)
        return
    console.print(f"[green]passed[/] {outcome.id} ({outcome.span})", highlight=False)
    for name, value in sorted(outcome.measures.items()):
        console.print(f"  {name} = {value}", highlight=False)
    for key, ref in sorted(outcome.assets.items()):
        console.print(f"  {key}: {ref.size} bytes, sha256 {ref.sha256[:12]}", highlight=False)
