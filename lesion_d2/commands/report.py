"""The reports of a run's evaluations."""

from pathlib import Path

from lesion_d2.errors import LesionError
from lesion_d2.report.write import write_report
from lesion_d2.results.evaluation import find_dataset, find_evaluations
from lesion_d2.results.run import find_run


def write_reports(run: Path, dataset: Path | None = None, output: Path | None = None) -> list[Path]:
    """Write the report of each evaluation and return their paths.

    Args:
        run: folder of a run, or of one evaluation.
        dataset: the converted data set; by default that of the evaluated name.
        output: the file for a single evaluation; by default ``report.html`` in its folder.

    Raises:
        LesionError: there is no evaluation, there are several for one ``output``, or a file does
            not fit.
    """
    folders = find_evaluations(run)
    if output and len(folders) > 1:
        raise LesionError(
            f"{run}: holds {len(folders)} evaluations; name one of them to use --output"
        )
    return [
        write_report(folder, dataset or find_dataset(folder), find_run(folder), output)
        for folder in folders
    ]
