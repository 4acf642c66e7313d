"""Ask tools/serve.py for many outlines: how many a second, and what memory it holds.

Called as: .venv/bin/python tests/serve_load.py [--pictures N] [--users N]

example, the figures of docs/serve.md:
  .venv/bin/python tests/serve_load.py --pictures 2000 --users 20
"""

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import cv2
import httpx2
from tiny import ROOT, python

from lesion_d2.parallel import progress_bar
from lesion_d2.synthetic import render

SMALL, LARGE = (768, 1024), (3024, 4032)  # a photograph of the archive, one of a phone


def drawn(size, count):
    """Return drawn photographs of a size as JPEG; large ones are enlarged, which is quicker."""
    pictures = [cv2.resize(render(9, index, *SMALL)[0], size[::-1]) for index in range(count)]
    return [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]


def outline(client, picture):
    """Ask until there is a place, as the page does."""
    while True:
        files = {"photograph": ("a.jpg", picture)}
        answer = client.post("/api/outlines?picture=true", files=files)
        if answer.status_code != 429:
            answer.raise_for_status()
            return
        time.sleep(float(answer.headers["Retry-After"]))


def speed(address, users, pictures):
    """Return the pictures a second of some users, who each send all of the pictures in turn."""

    def work(_):
        with httpx2.Client(base_url=address, timeout=600) as client:
            for picture in pictures:
                outline(client, picture)

    start = time.perf_counter()
    with ThreadPoolExecutor(users) as executor:
        list(executor.map(work, range(users)))
    return users * len(pictures) / (time.perf_counter() - start)


def memory(process):
    """Return the megabytes that a process holds."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) >> 10


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=200, help="for the memory (default: 200)")
    parser.add_argument("--users", type=int, default=20, help="at once (default: 20)")
    options = parser.parse_args()
    small, large = drawn(SMALL, 12), drawn(LARGE, 4)
    process = python(ROOT / "tools" / "serve.py", "--port", 0)
    try:
        line = ""
        while not line.startswith("open "):
            line = process.stdout.readline()
        address = line.split()[1]
        speed(address, 1, small)  # warms up
        print(f"load of this computer: {os.getloadavg()[0]:.1f}, {os.cpu_count()} CPUs")
        for name, pictures in (("1024x768", small), ("4032x3024", large)):
            for users, some in ((1, 3 * pictures), (options.users, pictures[:6])):
                print(f"{name}, {users} at once: {speed(address, users, some):.1f} a second")
        print(f"memory: {memory(process)} MB", flush=True)
        mixed = [*small, *large[:1]]  # one in thirteen is large
        with httpx2.Client(base_url=address, timeout=600) as client:
            for picture in progress_bar(list(islice(cycle(mixed), options.pictures))):
                outline(client, picture)
        print(f"memory after {options.pictures} more: {memory(process)} MB")
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    main()
