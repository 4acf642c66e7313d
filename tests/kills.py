#!/usr/bin/env python
"""Kill tools at random moments: nothing whole is lost, and the next run gives the same bytes.

Called as: tests/kills.py [--tools convert train predict eval tune] [--count 20]

Each kill is a SIGKILL of the tool's own process, at a moment drawn evenly from the time that it
works. Then: its workers are gone; what it had written is whole, or what was there before is; the
same command ends well, with the result of a run that nobody killed, and leaves no
file of the killed one behind.
"""

import argparse
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from convert_archive import folder_bytes
from tiny import DEMO, ROOT, TRAINING, load, tiny_options

from lesion_d2.commands.convert import ConvertOptions, convert
from lesion_d2.data.datasets import register_dataset
from lesion_d2.files import read_whole_rows
from lesion_d2.parallel import progress_bar
from lesion_d2.synthetic import write_archive
from lesion_d2.synthetic.archive import IMAGES, MASKS

TOOLS = ("convert", "train", "predict", "eval", "tune")


@dataclass
class Case:
    """A tool, what it begins with, and what comes out.

    Attributes:
        command: arguments of the tool.
        folder: what it works in; made anew for each kill.
        begun: pattern of a file in it that shows that the work has begun.
        result: returns what the tool has written, by name.
        initial: content of the folder at the beginning.
    """

    command: list[object]
    folder: Path
    begun: str
    result: Callable[[], dict[str, object]]
    initial: Path | None = None

    def reset(self) -> None:
        """Make the folder as it is at the beginning."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.initial:
            shutil.copytree(self.initial, self.folder)
        else:
            self.folder.mkdir(parents=True)

    def start(self) -> BaseProcess:
        """Start the tool in a session of its own."""
        command = [str(item) for item in self.command]
        process = get_context("fork").Process(target=run_tool_file, args=(command, self.log))
        process.start()
        return process

    @property
    def log(self) -> Path:
        """Where the tool's output goes."""
        return self.folder.with_suffix(".log")

    def wait_for_work(self, process: BaseProcess) -> None:
        """Wait until the work has begun, or the process has ended."""
        while process.is_alive() and not any(self.folder.glob(self.begun)):
            time.sleep(0.005)

    def finish(self, process: BaseProcess) -> None:
        """Wait for a process that nobody kills."""
        process.join()
        assert process.exitcode == 0, self.log.read_text()

    def kill_often(self, count: int, seed: int = 0) -> int:
        """Kill the tool ``count`` times and check what follows; return how many hit it at work."""
        self.reset()
        process = self.start()
        self.wait_for_work(process)
        begun = time.monotonic()
        self.finish(process)
        seconds = time.monotonic() - begun
        expected = self.result()
        rng = random.Random(seed)
        hits = 0
        for _ in progress_bar(range(count), "killing", unit="kill"):
            self.reset()
            before = self.result()
            process = self.start()
            self.wait_for_work(process)
            time.sleep(rng.uniform(0, seconds))
            hits += process.is_alive()
            process.kill()
            process.join()
            wait_for_end(process.pid)
            self.check(before, expected)
            self.finish(self.start())
            found = self.result()
            assert found == expected, difference(found, expected)
            left = list(self.folder.rglob(".*"))
            assert not left, left
        return hits

    def check(self, before: dict[str, object], expected: dict[str, object]) -> None:
        """Check that each file that is there is whole: the one of before, or the new one."""
        for name, content in self.result().items():
            assert content in (before.get(name), expected.get(name)), f"{name}: neither old nor new"


class Convert(Case):
    """A conversion in place of an earlier one, which is there whole until the new one is."""

    def check(self, before: dict[str, object], expected: dict[str, object]) -> None:
        found = self.result()
        if not found:  # between the two renames; the next run begins with putting it back
            found = folder_bytes(self.folder / ".out.replaced")
        assert found in (before, expected), difference(found, before)


def run_tool_file(command: list[str], log: Path) -> None:
    """Run a tool as its own process does; this one, forked, has imported torch already."""
    os.setsid()
    os.chdir(ROOT)
    with open(log, "w") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


def difference(found: dict[str, object], expected: dict[str, object]) -> list[str]:
    """Return the names whose content differs."""
    return [n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n)]


def wait_for_end(group: int) -> None:
    """Wait until no process of a group is left: workers see within seconds that they are alone."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    raise AssertionError("worker processes live on")


def tool(name: str, *options: object) -> list[object]:
    """Return the command of a tool."""
    return [ROOT / "tools" / f"{name}.py", *options]


def files_of(folder: Path) -> dict[str, object]:
    """Return the content of the files of a folder, without hidden files and logs."""
    return {
        name: content
        for name, content in folder_bytes(folder).items()
        if not Path(name).name.startswith((".", "log", "events"))
    }


def convert_case(root: Path, count: int = 40) -> Case:
    """Convert pictures of which some are linked and some made smaller, over an earlier data set."""
    archive, folder, start = root / "originals", root / "convert", root / "convert_start"
    write_archive(archive, count, sizes=[(96, 128), (705, 940)], workers=1)
    inputs = {"all": (archive / IMAGES, archive / MASKS)}
    convert(ConvertOptions(inputs, start / "out", group=False))
    originals = folder_bytes(archive)

    def result() -> dict[str, object]:
        assert folder_bytes(archive) == originals
        return dict(folder_bytes(folder / "out"))

    options = ["--images", archive / IMAGES, "--masks", archive / MASKS, "--workers", 2]
    more = ["--output", folder / "out", "--seed", 1, "--overwrite"]
    return Convert(tool("convert_isic", *options, *more), folder, ".out.partial", result, start)


def train_case(root: Path) -> Case:
    """Train in three stages, with a checkpoint of each iteration; after a kill, resume."""
    folder = root / "train"

    def result() -> dict[str, object]:
        final = folder / "model_final.pth"
        weights = load(final)["model"] if final.is_file() else {}
        return {key: value.numpy().tobytes() for key, value in weights.items()}

    options = tiny_options(folder, *TRAINING)
    command = tool("train_net", "--config-file", DEMO, "--resume", *options)
    return Case(command, folder, "*.pth", result)


def predict_case(root: Path, bundle: Path, photographs: Path) -> Case:
    """Predict a folder; a second run continues."""
    folder = root / "predict"
    out = folder / "out"

    def result() -> dict[str, object]:
        found = {n: content for n, content in files_of(out).items() if not n.endswith(".csv")}
        for row in read_whole_rows(out / "predictions.csv"):
            assert (out / row["mask"]).is_file()
            found[f"row of {row['file']}"] = row | {"seconds": ""}
        return found

    options = ["--bundle", bundle, "--input", photographs, "--output", out, "--workers", 2]
    options += ["--format", "coco,labelme,geojson"]
    return Case(tool("predict", *options), folder, "out/predictions.csv", result)


def cases(root: Path, tools: Sequence[str]) -> Iterator[tuple[str, Case]]:
    """Yield the case of each tool; a short training makes what all but the first need."""
    if "convert" in tools:
        yield "convert", convert_case(root)
    if not set(tools) - {"convert"}:
        return
    archive, data = root / "archive", root / "datasets" / "tiny"
    write_archive(archive, 24, sizes=[(96, 128), (72, 96)], workers=1)
    convert(ConvertOptions({"all": (archive / IMAGES, archive / MASKS)}, data, group=False))
    register_dataset("tiny", data)
    training = train_case(root)
    training.reset()
    training.finish(training.start())
    run = root / "run"
    shutil.copytree(training.folder, run)
    for path in (*run.glob("model_0*"), *run.glob("log*"), *run.glob("events*")):
        path.unlink()
    config, final = run / "config.yaml", run / "model_final.pth"
    if "train" in tools:
        yield "train", training
    if "predict" in tools:
        bundle = root / "lesion.safetensors"
        options = ["--config-file", config, "--output", bundle, "MODEL.WEIGHTS", final]
        export = Case(tool("export", *options), root / "export", "", dict)
        export.finish(export.start())
        yield "predict", predict_case(root, bundle, archive / IMAGES)
    for name, begun in (("eval", "eval/*"), ("tune", "*")):
        if name in tools:
            folder = root / name
            options = ["--config-file", config, "OUTPUT_DIR", folder, "MODEL.WEIGHTS", final]
            flags = ["--eval-only"] if name == "eval" else []
            yield name, Case(tool(name, *flags, *options), folder, begun, partial(files_of, folder))


def main() -> None:
    """Kill each tool that is asked for, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=TOOLS)
    parser.add_argument("--count", type=int, default=20, help="kills of each tool (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, case in cases(Path(folder), args.tools):
            hits = case.kill_often(args.count, args.seed)
            print(f"{name}: {args.count} kills, {hits} of them at work; all ended well", flush=True)


if __name__ == "__main__":
    main()
