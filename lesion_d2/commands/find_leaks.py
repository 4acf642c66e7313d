"""The whole audit: from converted data sets to the files that say what leaks."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesion_d2.errors import LesionError
from lesion_d2.figures.style import save_figure
from lesion_d2.files import atomic_write
from lesion_d2.leaks.report import describe, leaks_of, summarise, with_twin, write_leaks
from lesion_d2.leaks.scores import compare_scores, read_scores, training_split
from lesion_d2.leaks.search import find_twins, read_images
from lesion_d2.leaks.sheet import PAIRS_A_SHEET, sheet_figures
from lesion_d2.parallel import progress_bar


@dataclass(frozen=True)
class Audit:
    """What an audit found and wrote.

    Attributes:
        summary: the content of ``audit.json``.
        leaks: number of pairs across splits.
        files: what was written.
    """

    summary: dict[str, Any]
    leaks: int
    files: list[Path]

    @property
    def exit_code(self) -> int:
        """0, or 2 when there are leaks."""
        return 2 if self.leaks else 0

    def __str__(self) -> str:
        files = "\n".join(str(path) for path in self.files)
        return f"{describe(self.summary)}\n{self.leaks:,} leaks\n{files}"


def audit(
    dataset: Path,
    against: Path | None = None,
    eval_dir: Path | None = None,
    output: Path | None = None,
    workers: int = 1,
    sheets: int = 10,
) -> Audit:
    """Search converted data sets for leaks and write what is found.

    Args:
        dataset: the data set of the training.
        against: a second data set, such as an external test set.
        eval_dir: an evaluation of any split but the training's, whose scores to compare.
        output: the folder to write to; by default ``output/leaks/`` and the names.
        workers: number of processes that read images.
        sheets: the most contact sheets.

    Raises:
        LesionError: an input cannot be read or does not fit, or ``output`` cannot be made.
    """
    for name, value, least in (("workers", workers, 1), ("sheets", sheets, 0)):
        if value < least:
            raise LesionError(f"{name}: {value} is less than {least}")
    folders = [dataset, against] if against else [dataset]
    images = read_images(folders)
    scores = read_scores(eval_dir, images) if eval_dir else None
    names = "_".join(folder.absolute().name for folder in folders)
    output = _create(output or Path("output", "leaks", names))

    twins = find_twins(images, workers)
    leaks = leaks_of(twins)
    summary = summarise(images, twins)
    if scores:
        affected = with_twin(twins, scores.place, training_split(images))
        summary["scores"] = compare_scores(scores, affected)
    files = [output / "audit.json", output / "leaks.csv"]
    with atomic_write(files[0]) as stream:
        json.dump(summary, stream, indent=1)
        stream.write("\n")
    write_leaks(files[1], leaks)
    for old in output.glob("leaks_[0-9][0-9]*.png"):
        old.unlink()
    pages = min(sheets, -(-len(leaks) // PAIRS_A_SHEET))
    figures = progress_bar(
        sheet_figures(leaks, sheets), "drawing", pages, unit="sheet", disable=not pages
    )
    for number, figure in enumerate(figures, 1):
        files.append(save_figure(figure, output / f"leaks_{number:02d}.png"))
    return Audit(summary, len(leaks), files)


def _create(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LesionError(
            f"{folder}: cannot be created ({error.strerror}); give another --output"
        ) from error
    return folder
