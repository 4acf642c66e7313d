"""The whole leak search: from converted data sets to the files that say what leaks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesion_d2.cpus import available_cpus
from lesion_d2.errors import LesionError
from lesion_d2.figures.style import save_figure
from lesion_d2.files import write_csv, write_json
from lesion_d2.leaks import count_leaks, find_twins, leaks_in_words, read_images, sheet_figures

LEAK_COLUMNS = (
    *("kind", "first_dataset", "first_split", "first_id"),
    *("second_dataset", "second_split", "second_id", "hash_distance", "score"),
)


@dataclass(frozen=True)
class FoundLeaks:
    """The content of ``leaks.json``, the number of pairs across splits, and what was written."""

    summary: dict[str, Any]
    leaks: int
    files: list[Path]

    def __str__(self) -> str:
        files = "\n".join(str(path) for path in self.files)
        return f"{leaks_in_words(self.summary)}\n{self.leaks:,} leaks\n{files}"


def find_leaks(
    dataset: Path,
    against: Path | None = None,
    output: Path | None = None,
    workers: int | None = None,
    sheets: int = 10,
) -> FoundLeaks:
    """Search converted data sets for leaks and write what is found.

    ``against`` is a second data set, such as an external test set. The ``output`` folder is by
    default ``output/leaks/`` and the names. ``workers`` are processes that read images, by default
    one for each CPU available; at most ``sheets`` contact sheets are written.

    Raises:
        LesionError: an input cannot be read or does not fit, or ``output`` cannot be made.
    """
    folders = [dataset, against] if against else [dataset]
    images = read_images(folders)
    names = "_".join(folder.absolute().name for folder in folders)
    output = output or Path("output", "leaks", names)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LesionError(
            f"{output}: cannot be created ({error.strerror}); give another --output"
        ) from error

    twins = find_twins(images, workers or available_cpus())
    leaks = [pair for pair in twins if pair.first.place != pair.second.place]
    summary = count_leaks(images, twins)
    files = [output / "leaks.json", output / "leaks.csv"]
    write_json(files[0], summary)
    rows = []
    for pair in leaks:
        one, two = ((*side.place, side.image.isic_id) for side in (pair.first, pair.second))
        rows.append([pair.kind, *one, *two, pair.hash_distance, pair.score])
    write_csv(files[1], LEAK_COLUMNS, rows)
    for old in output.glob("leaks_[0-9][0-9]*.png"):
        old.unlink()
    for number, figure in enumerate(sheet_figures(leaks, sheets), 1):
        files.append(save_figure(figure, output / f"leaks_{number:02d}.png"))
    return FoundLeaks(summary, len(leaks), files)
