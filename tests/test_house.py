"""The layout: every import points down, and every module can be the first to be imported."""

import ast
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny import ROOT

from lesion_d2.cpus import available_cpus

# From the top down; the folders of one line may import each other in one direction only.
FLOORS = (
    ("benchmark",),
    ("commands",),
    ("web",),
    ("report", "leaks", "figures"),
    ("results",),
    ("engine",),
    ("evaluation",),
    ("prediction",),
    ("convert", "synthetic", "data"),
    ("modeling",),
    ("images",),
    ("config",),
    ("command_line", "errors", "files", "onnx_format", "parallel", "transfer"),
    ("cpus",),
)
RANK = {name: rank for rank, floor in enumerate(FLOORS) for name in floor}
PACKAGE = ROOT / "lesion_d2"
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Return the project's modules that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            found.add(str(node.module))
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in found if name.startswith("lesion_d2.")}


def arrows() -> set[tuple[str, str, str]]:
    """Return (folder, imported folder, file) of the package, without arrows inside a folder."""
    found = set()
    for path in MODULES:
        folder = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if folder == "__init__":  # the face of the package, which hands names on
            continue
        for name in imported(path):
            other = name.split(".")[1]
            if other in RANK and other != folder:
                found.add((folder, other, str(path.relative_to(ROOT))))
    return found


def test_every_folder_has_its_floor():
    entries = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in MODULES}
    assert entries - {"__init__"} == RANK.keys()


def test_no_arrow_points_up():
    assert [arrow for arrow in sorted(arrows()) if RANK[arrow[1]] < RANK[arrow[0]]] == []


def test_no_two_folders_import_each_other():
    pairs = {(folder, other) for folder, other, _ in arrows()}
    assert {pair for pair in pairs if pair[::-1] in pairs} == set()


def test_one_name_means_one_thing():
    """No public function or class has the name of another; each benchmark has its own ``run``."""
    homes: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(name_of(path))
    shared = {name: files for name, files in homes.items() if len(files) > 1}
    assert all(name.startswith("lesion_d2.benchmark.") for name in shared.pop("run"))
    assert shared == {}


@pytest.mark.parametrize("folder", ["prediction", "evaluation"])
def test_prediction_and_scores_draw_nothing(folder):
    text = "".join(path.read_text() for path in (PACKAGE / folder).glob("*.py"))
    assert "import matplotlib" not in text
    assert "from matplotlib" not in text


@pytest.fixture(scope="session")
def first_imports():
    """What the import of each module raises, by name, as the project's first in a process."""

    names, workers = [name_of(path) for path in MODULES], available_cpus()

    def run(share):
        command = [sys.executable, "tests/first_imports.py", *share]
        return json.loads(subprocess.check_output(command, cwd=ROOT, text=True))

    with ThreadPoolExecutor(workers) as executor:
        shares = executor.map(run, [names[start::workers] for start in range(workers)])
        return {name: error for share in shares for name, error in share.items()}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_module_alone(path, first_imports):
    assert first_imports[name_of(path)] == ""
