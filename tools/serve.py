#!/usr/bin/env python
"""Open a page on this computer: outline photographs and correct them, or review predictions.

Called as: tools/serve.py [--model FILE] [--port N] [KEY VALUE ...]
or: tools/serve.py --review PREDICTIONS --images PHOTOGRAPHS [--port N]
"""

from importlib.util import find_spec
from pathlib import Path

from lesion_d2.command_line import add_overrides, tool_parser
from lesion_d2.errors import LesionError, run_tool

EPILOG = """
Prints the address to open in a browser. Nothing leaves this computer: the page asks no other host,
and the server listens to this computer alone unless --host is given. Pictures are kept in memory
and go with the page. /docs is the page of the API.

--review shows the predictions of a folder that tools/predict.py wrote, least sure first. Decisions
are written to PREDICTIONS/reviewed/: masks/, and review.csv. A review that was stopped continues.

examples:
  outline photographs with the model that comes with lesion_d2:
    tools/serve.py
  for phones in the same network, who need the token of the printed address:
    tools/serve.py --model lesion.safetensors --host 0.0.0.0 --port 8100
  review what tools/predict.py wrote:
    tools/serve.py --review predictions --images photographs
docs/serve.md explains the page, the review, the API, and what keeps it safe.
"""


def main() -> None:
    """Serve the page until Ctrl-C."""
    parser = tool_parser(__doc__, EPILOG)
    add = parser.add_argument
    what = "model in one file, from tools/export.py (default: the one that comes with lesion_d2)"
    add("--model", default="pretrained", metavar="FILE", help=what)
    what = "port to listen on, 0 for any that is free (default: 8000)"
    add("--port", type=int, default=8000, metavar="N", help=what)
    what = "address to listen on, such as 0.0.0.0 for all; requests then need a token"
    add("--host", metavar="ADDRESS", help=what)
    what = "folder of predictions to review, in place of outlining"
    add("--review", type=Path, metavar="PREDICTIONS", help=what)
    what = "folder of the photographs that they were made of"
    add("--images", type=Path, metavar="PHOTOGRAPHS", help=what)
    add_overrides(parser)
    args = parser.parse_args()
    if bool(args.review) != bool(args.images):
        parser.error("--review and --images go together")
    if args.review and (args.opts or args.model != parser.get_default("model")):
        parser.error("--review shows what was predicted; leave --model and KEY VALUE out")
    if find_spec("fastapi_offline") is None or find_spec("uvicorn") is None:
        raise LesionError(
            "tools/serve.py needs more packages: pip install '.[onnx,web]' in the project's folder"
        )

    from lesion_d2.commands.serve import serve_outlines, serve_review

    if args.review:
        serve_review(args.review, args.images, args.host, args.port)
    else:
        serve_outlines(args.model, args.opts, args.host, args.port)


if __name__ == "__main__":
    run_tool(main)
