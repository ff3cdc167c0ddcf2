"""A pipeline's steps as a picture: columns by what they wait for, each with the state of its job, if it is a job's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from apps.batch.engine.plan import Plan
from apps.batch.models import Job
from apps.core.errors import Problem
from apps.registry.pipelines.graph import Graph

WIDTH, HEIGHT, ACROSS, DOWN, MARGIN = 184, 48, 64, 20, 2
LONGEST = 22  # letters of a name that fit


@dataclass(frozen=True)
class Box:
    """A step at its place in the picture; `job` None while it has not been made. `after`: what it waits for.

    `note`: what a step that is no job's has in the place of a state.
    """

    name: str
    x: int
    y: int
    job: Job | None
    after: tuple[str, ...]
    note: str = ""

    @property
    def tone(self) -> str:
        return self.job.tone if self.job is not None else "idle"

    @property
    def short(self) -> str:
        return _short(self.name)

    @property
    def text_x(self) -> int:
        return self.x + 28

    @property
    def first_y(self) -> int:
        return self.y + 20

    @property
    def second_y(self) -> int:
        return self.y + 37

    @property
    def dot(self) -> tuple[int, int]:
        return self.x + 15, self.y + 16


@dataclass(frozen=True)
class Picture:
    boxes: list[Box]
    lines: list[str]
    width: int
    height: int


def picture_of(job: Job) -> Picture | None:
    """None for a job whose plan cannot be read: its steps are a list all the same."""
    try:
        graph = Plan.of(job.settings).graph
        graph.order()
    except (KeyError, TypeError, Problem):
        return None
    return picture(graph, jobs={each.step: each for each in job.children.all()})


def picture(graph: Graph, *, jobs: Mapping[str, Job] | None = None, notes: Mapping[str, str] | None = None) -> Picture:
    """The steps with their jobs, or with their notes, both by the step's name."""
    jobs, notes = jobs or {}, notes or {}
    levels: dict[str, int] = {}
    rows: dict[int, int] = {}
    boxes: dict[str, Box] = {}
    for name in graph.order():
        after = tuple(sorted(graph.steps[name].after()))
        level = levels[name] = 1 + max((levels[each] for each in after), default=-1)
        row = rows[level] = rows.get(level, -1) + 1
        x, y = MARGIN + level * (WIDTH + ACROSS), MARGIN + row * (HEIGHT + DOWN)
        boxes[name] = Box(name, x, y, jobs.get(name), after, _short(notes.get(name, "")))
    lines = [_line(boxes[each], box) for box in boxes.values() for each in box.after]
    width = 2 * MARGIN + max(levels.values(), default=0) * (WIDTH + ACROSS) + WIDTH
    height = 2 * MARGIN + max(rows.values(), default=0) * (HEIGHT + DOWN) + HEIGHT
    return Picture(list(boxes.values()), lines, width, height)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _line(start: Box, end: Box) -> str:
    """A curve from the right side of one box to the left side of the other."""
    x1, y1, x2, y2 = start.x + WIDTH, start.y + HEIGHT // 2, end.x, end.y + HEIGHT // 2
    middle = (x1 + x2) // 2
    return f"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}"
