"""What documents and help texts name exists: files, links, commands, config keys, imports."""

import argparse
import ast
import importlib
import re
import shlex
import subprocess

import pytest
import yaml
from tiny import ROOT, load_tool

from lesion_d2.config.defaults import get_lesion_cfg

DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part == "output" for part in path.relative_to(ROOT).parts)
)
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in DOCUMENTS}
TOOLS = {path.name: load_tool(path.stem) for path in sorted((ROOT / "tools").glob("*.py"))}
HELP = {
    f"tools/{name} --help": tool.EPILOG for name, tool in TOOLS.items() if hasattr(tool, "EPILOG")
}
# Files of the repository, not those that a command makes.
PATH = re.compile(r"(?<![\w/.])(?:tools|configs|lesion_d2|docs|tests)/[\w./-]*\w")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^\s*(?:torchrun [^/]*)?(tools/(\w+)\.py .*)$", re.MULTILINE)
KEY = re.compile(r"\b(?:MODEL|INPUT|DATASETS|DATALOADER|SOLVER|TEST)(?:\.[A-Z][A-Z0-9_]*)+\b")
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """Return the names that links to the headings of a document use."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    for link in LINK.findall(TEXTS[name]):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("name", [*TEXTS, *HELP])
def test_files_that_are_named_exist(name):
    text = (TEXTS | HELP)[name]
    assert [path for path in PATH.findall(text) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", [*TEXTS, *HELP])
def test_config_keys_that_are_named_exist(name):
    cfg = get_lesion_cfg()
    unknown = []
    for key in KEY.findall((TEXTS | HELP)[name]):
        node = cfg
        for part in key.split("."):
            if part not in node:
                unknown.append(key)
                break
            node = node[part]
    assert unknown == []


def commands() -> list[tuple[str, str]]:
    """Return (tool, command line) of every command that starts a line."""
    found = set()
    for text in (TEXTS | HELP).values():
        found.update(COMMAND.findall(re.sub(r"\\\n\s*", "", text)))
    return sorted((tool, line) for line, tool in found)


@pytest.mark.parametrize(("tool", "line"), commands())
def test_commands_are_understood(tool, line, monkeypatch):
    class UnderstoodError(Exception):
        pass

    def parse(self, *args, **kwargs):
        self.parse_known_args(*args, **kwargs)
        raise UnderstoodError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr("sys.argv", shlex.split(line, comments=True))
    with pytest.raises(UnderstoodError):
        load_tool(tool).main()


@pytest.mark.parametrize("name", TEXTS)
def test_imports_of_examples_work(name):
    for snippet in SNIPPET.findall(TEXTS[name]):
        for node in ast.walk(ast.parse(snippet)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names)


def test_hooks_run_what_make_lint_runs():
    """Also in one order, so that a reader of either knows both."""
    listed = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--old-file=install", "lint"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"]] == listed


def test_make_targets_that_are_named_exist():
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", "\n".join(TEXTS.values()), re.MULTILINE))
    assert named
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)) - {"help"}
    assert named <= targets
    assert {line.split()[1] for line in listed.splitlines()} == targets
