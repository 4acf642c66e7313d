"""The routes of the page and of its API."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import FileResponse, JSONResponse

import lesion_d2
from lesion_d2.errors import LesionError
from lesion_d2.images.masks import mask_png
from lesion_d2.images.reading import read_image
from lesion_d2.images.source import BadFileError
from lesion_d2.prediction.confidence import word_for
from lesion_d2.prediction.predictor import LesionPredictor
from lesion_d2.web.guard import MAX_BYTES
from lesion_d2.web.outlines import (
    PICTURE_SIDE,
    Collection,
    Drawn,
    Outline,
    Packing,
    Rings,
    Shape,
    describe_mask,
    drawn_mask,
    outline_picture,
    pack_outlines,
    picture_jpeg,
)
from lesion_d2.web.review import Decision, Item, Review

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
Result = TypeVar("Result")
_PHOTOGRAPH = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["photograph"],
                "properties": {"photograph": {"type": "string", "format": "binary"}},
            }
        }
    },
}
_PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}, "description": "the mask: 255 is lesion, else 0"}
}
_PACKED: dict[Packing, str] = {
    "masks": "application/zip",
    "coco": "application/json",
    "labelme": "application/zip",
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "not a form with one file named photograph"},
    413: {"description": f"more than {MAX_BYTES >> 20} MB, or too many pixels"},
    422: {"description": "not a picture, or damaged"},
    429: {"description": "too many at a time: ask again after Retry-After seconds"},
}


class Listed(BaseModel):
    """A prediction in the list of a review."""

    name: str
    estimated_iou: float | None
    word: str | None
    decision: Decision | None


class Decided(BaseModel):
    """What a reviewer says of a prediction; ``rings`` is the outline of a ``correct``."""

    decision: Decision
    rings: Rings | None = None


class _InMemory(MultiPartParser):
    spool_max_size = 2 * MAX_BYTES  # never a file on disk


def outline_app(predictor: LesionPredictor, workers: int) -> FastAPI:
    """Return the application that outlines uploads, ``workers`` at a time. It keeps none."""
    app = _new_app("outline.html")
    model, hands = ThreadPoolExecutor(workers), ThreadPoolExecutor(1)

    @app.post(
        "/api/outlines",
        response_model=Outline,
        responses={**_PNG, **_REFUSALS},
        openapi_extra={"requestBody": _PHOTOGRAPH},
    )
    async def outlines(
        request: Request, answer: Literal["json", "png"] = "json", picture: bool = False
    ) -> Any:
        """Outline one photograph. `answer=png` gives the mask in place of JSON."""
        data = await _uploaded(request)
        outline, lesion = await _run(model, partial(outline_picture, predictor, data, picture))
        if answer == "png":
            return Response(
                await _run(hands, partial(mask_png, lesion.mask)), media_type="image/png"
            )
        return outline

    @app.post("/api/masks", response_model=Shape, responses=_PNG)
    async def masks(drawn: Drawn, answer: Literal["json", "png"] = "json") -> Any:
        """Fill a drawn outline: a pixel whose centre is inside is lesion."""
        mask = await _run(hands, partial(drawn_mask, drawn))
        if answer == "png":
            return Response(await _run(hands, partial(mask_png, mask)), media_type="image/png")
        return await _run(hands, partial(describe_mask, mask))

    record = {"version": lesion_d2.__version__, **predictor.settings}

    @app.post("/api/files", responses={200: {"content": {kind: {} for kind in _PACKED.values()}}})
    async def files(collection: Collection, answer: Packing = "masks") -> Response:
        """Put the outlines of several pictures into one file: a zip, or JSON for COCO."""
        work = partial(pack_outlines, collection.pictures, answer, record, collection.before)
        return Response(await _run(hands, work), media_type=_PACKED[answer])

    return app


def review_app(review: Review) -> FastAPI:
    """Return the application for a review; it must run inside ``review.alone()``."""
    app = _new_app("review.html")
    hands = ThreadPoolExecutor(1)

    def item_of(number: int) -> Item:
        if not 0 <= number < len(review.items):
            raise HTTPException(404, f"there are predictions 0 to {len(review.items) - 1}")
        return review.items[number]

    def listed(item: Item) -> Listed:
        return Listed(
            name=item.name.encode("utf-8", "replace").decode(),
            estimated_iou=item.estimated_iou,
            word=word_for(item.estimated_iou),
            decision=review.decisions.get(item.name),
        )

    @app.get("/api/review")
    async def predictions() -> list[Listed]:
        """List the predictions, least sure first."""
        return [listed(item) for item in review.items]

    @app.get("/api/review/{number}")
    async def prediction(number: int) -> Shape:
        """Return the outline as it was decided on, else as it was predicted."""
        item = item_of(number)
        return await _run(hands, lambda: describe_mask(review.mask(item)))

    @app.get("/api/review/{number}/picture", responses={200: {"content": {"image/jpeg": {}}}})
    async def picture(number: int) -> Response:
        """Return the photograph as it is to be seen."""
        path = item_of(number).photograph
        data = await _run(hands, lambda: picture_jpeg(read_image(path, PICTURE_SIDE)[0]))
        return Response(data, media_type="image/jpeg")

    @app.post("/api/review/{number}")
    async def decide(number: int, decided: Decided) -> Listed:
        """Take a decision; it is on disk when the answer comes."""
        item = item_of(number)
        if (decided.decision == "correct") != (decided.rings is not None):
            raise HTTPException(422, "rings: give them with the decision correct, and only then")

        def work() -> Listed:
            mask = None
            if decided.rings is not None:
                height, width = review.mask(item).shape
                mask = drawn_mask(Drawn(width=width, height=height, rings=decided.rings))
            review.decide(item, decided.decision, mask)
            return listed(item)

        return await _run(hands, work)

    return app


def _new_app(page: str) -> FastAPI:
    app = FastAPIOffline(title="lesion_d2", version=lesion_d2.__version__, redoc_url=None)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/", include_in_schema=False)
    async def front() -> FileResponse:
        return FileResponse(STATIC / page)

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        """Say the first fault without the input, which may be all of it, or no JSON (NaN)."""
        first = {key: error.errors()[0][key] for key in ("type", "loc", "msg")}
        return JSONResponse({"detail": [first]}, 422)

    return app


async def _run(executor: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    """Do one piece of work in a thread; what is wrong with a file becomes an answer."""
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, work)
    except BadFileError as error:
        status = 413 if error.reason == "too_large" else 422
        raise HTTPException(status, str(error)) from error
    except LesionError as error:
        raise HTTPException(422, str(error)) from error
    except Exception as error:  # whatever one file raises, the server goes on
        logger.exception("a request failed")
        raise HTTPException(500, f"this failed here ({type(error).__name__}: {error})") from error


async def _uploaded(request: Request) -> bytes:
    """Return the one file of a form; its name is not looked at."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(400, "send a form (multipart/form-data) with one file named photograph")
    try:
        parser = _InMemory(request.headers, request.stream(), max_files=1, max_fields=8)
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form cannot be read: {error.message}") from error
    file = form.get("photograph")
    if not isinstance(file, UploadFile):
        raise HTTPException(400, "the form has no whole file named photograph")
    try:
        return await file.read()
    finally:
        await form.close()
