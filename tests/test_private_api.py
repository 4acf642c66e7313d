"""Private names of torch and Detectron2 that the package uses: each is listed, with the reason.

A name that an upgrade removes, and one that is used without being listed, fails here and is named.
"""

import ast
import importlib
import inspect
import re
import sys
from functools import cache
from pathlib import Path

import pytest
from tiny import ROOT

LIBRARIES = ("torch", "torchvision", "detectron2", "fvcore")
# (where it is defined, name): why there is no public way.
PRIVATE = {
    ("detectron2.checkpoint.DetectionCheckpointer", "_load_file"): (
        "fvcore documents it as the place to read other formats; files are read there safely"
    ),
    ("detectron2.checkpoint.DetectionCheckpointer", "_log_incompatible_keys"): (
        "the only place that hears which weights of a file were left out"
    ),
    **dict.fromkeys(
        (
            ("detectron2.modeling.Backbone", "_out_features"),
            ("detectron2.modeling.Backbone", "_out_feature_strides"),
            ("detectron2.modeling.Backbone", "_out_feature_channels"),
        ),
        "what Detectron2's documents ask a backbone of one's own to set",
    ),
    ("detectron2.engine.DefaultTrainer", "_trainer"): (
        "holds the loop, whose model is wrapped anew at each stage"
    ),
    ("detectron2.engine.SimpleTrainer", "_data_loader_iter"): (
        "a step of training in bfloat16 takes its batch as Detectron2's own loops do"
    ),
    ("detectron2.engine.SimpleTrainer", "_data_loader_iter_obj"): (
        "a benchmark starts a loader that was used before"
    ),
    ("detectron2.engine.SimpleTrainer", "_write_metrics"): (
        "a step of training in bfloat16 logs as Detectron2's own loops do"
    ),
    ("torch.nn.modules.batchnorm", "_BatchNorm"): "the base of all batch norms",
}
LISTED = {name for _, name in PRIVATE}
NAMED_TUPLES = {"_asdict", "_fields", "_replace"}  # public in spite of their names
FILES = sorted([*(ROOT / "lesion_d2").rglob("*.py"), *(ROOT / "tools").glob("*.py")])


def is_private(name: str) -> bool:
    return bool(re.fullmatch(r"_[^_]\w*", name)) and name not in NAMED_TUPLES


def imported(tree: ast.AST) -> set[str]:
    """Return private names that are imported from a library."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            paths = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        else:
            continue
        for path in paths:
            if path.partition(".")[0] in LIBRARIES:
                found.update(filter(is_private, path.split(".")))
    return found


def defined(tree: ast.AST) -> set[str]:
    """Return names of functions, methods and attributes that the code itself makes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                found.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def attributes(tree: ast.AST) -> set[str]:
    """Return the private names that follow a dot, but for Python's own modules before it."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and is_private(node.attr)
        and not (isinstance(node.value, ast.Name) and node.value.id in sys.stdlib_module_names)
    }


def inherited(path: Path) -> set[str]:
    """Return private names of a library's class that one of the file's classes uses or replaces."""
    module_name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    module = importlib.import_module(module_name)
    found = set()
    for cls in vars(module).values():
        if not inspect.isclass(cls) or cls.__module__ != module_name:
            continue
        bases = [base for base in cls.__mro__ if base.__module__.partition(".")[0] in LIBRARIES]
        theirs = {name for base in bases for name in re.findall(r"\b_\w+", inspect.getsource(base))}
        tree = ast.parse(inspect.getsource(cls))
        found |= (attributes(tree) | defined(tree)) & theirs
    return set(filter(is_private, found))


TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
OURS = {name for tree in TREES.values() for name in defined(tree)}


@cache
def used(path: Path) -> set[str]:
    found = imported(TREES[path]) | (attributes(TREES[path]) - OURS)
    if path.is_relative_to(ROOT / "lesion_d2") and path.name != "__init__.py":
        found |= inherited(path)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_private_and_used_is_listed(path):
    assert used(path) <= LISTED, "list it in tests/test_private_api.py with the reason, or avoid it"


def test_nothing_is_listed_in_vain():
    assert set().union(*map(used, FILES)) == LISTED


@pytest.mark.parametrize(("where", "name"), PRIVATE)
def test_what_is_listed_is_still_there(where, name):
    parent, _, last = where.rpartition(".")
    home = getattr(importlib.import_module(parent), last)
    if not inspect.isclass(home):
        home = importlib.import_module(where)
        assert hasattr(home, name), f"{where}.{name} is gone: {PRIVATE[where, name]}"
        return
    sources = [inspect.getsource(base) for base in home.__mro__ if base is not object]
    assert any(re.search(rf"\b{name}\b", source) for source in sources), (
        f"{where}.{name} is gone: {PRIVATE[where, name]}"
    )


def test_a_new_one_would_be_found():
    tree = ast.parse("from detectron2.layers.mask_ops import _do_paste_mask\nx = y._secret")
    assert imported(tree) == {"_do_paste_mask"}
    assert attributes(tree) == {"_secret"}
