"""The contact sheet: some photos, each with the photos whose features are nearest to its own by cosine.

Texts and sounds are shown by a picture of them, with their names for labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps

from spark_apps import catalog, contract
from spark_apps.media import imaging, preview

Vectors = npt.NDArray[np.float32]

TILE, GAP, MARGIN, CAPTION, HEADER = 208, 14, 44, 62, 128
"""Pixels: side of a photo, space between photos, border, height of the text below a photo, height of the title."""
QUERY_GAP = 46
INK, GREY, PALE, ACCENT = "#1c2430", "#6b7684", "#e6eaee", "#0f766e"


@dataclass(frozen=True)
class Photos:
    """Published photos; entry i of each field belongs together. `vectors`: float32 [photos, dim], of length 1."""

    uris: list[str]
    image_ids: list[str]
    labels: list[str]
    scores: list[float]
    partitions: list[str]
    vectors: Vectors

    @property
    def noun(self) -> str:
        return "photos" if any(self.scores) else "files"


def make(store: str, partitions: list[str], model: str, path: Path, *, rows: int = 7, columns: int = 5) -> None:
    """Draws the sheet of the published photos of `partitions` into the PNG file `path`."""
    photos = gather(store, partitions, model)
    sheet = [(query, nearest(photos, query, columns)) for query in choose_queries(photos, rows, columns)]
    shown = {index for query, near in sheet for index in (query, *(other for other, _ in near))}
    days = f"{len(partitions)} days" if len(partitions) > 1 else partitions[0]
    subtitle = f"{model}  ·  {len(photos.uris)} {photos.noun} of {days}"
    if "-random_" in model:
        subtitle += "  ·  RANDOM WEIGHTS: of little meaning"
    picture = draw(photos, sheet, thumbnails(store, photos, shown), columns, subtitle)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    picture.save(part, "PNG", optimize=True)
    part.replace(path)


def gather(store: str, partitions: list[str], model: str) -> Photos:
    """The published rows of all `partitions`, with vectors scaled to length 1."""
    rows = [
        row | {"partition": partition}
        for partition in partitions
        for row in catalog.vectors(
            store, partition, model, ["uri", "image_id", "features", "top1_label", "top1_score"]
        ).to_pylist()
    ]
    rows.sort(key=lambda row: (row["partition"], row["uri"]))
    vectors = np.array([row["features"] for row in rows], dtype=np.float32).reshape(len(rows), -1)
    return Photos(
        uris=[row["uri"] for row in rows],
        image_ids=[row["image_id"] for row in rows],
        labels=[row["top1_label"] or unquote(row["uri"].rpartition("/")[2]) for row in rows],
        scores=[row["top1_score"] or 0.0 for row in rows],
        partitions=[row["partition"] for row in rows],
        vectors=vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12),
    )


def nearest(photos: Photos, query: int, count: int) -> list[tuple[int, float]]:
    """The `count` photos nearest to photo `query` with their cosine; of byte-identical photos the first only."""
    similarity = photos.vectors @ photos.vectors[query]
    seen = {photos.image_ids[query]}
    found: list[tuple[int, float]] = []
    for index in np.argsort(-similarity, kind="stable").tolist():
        if len(found) == count:
            break
        if photos.image_ids[index] not in seen:
            seen.add(photos.image_ids[index])
            found.append((index, float(similarity[index])))
    return found


def choose_queries(photos: Photos, count: int, neighbours: int) -> list[int]:
    """Photos that show most: they have near neighbours themselves, and are far from each other.

    Of the half of the photos whose farthest shown neighbour is nearest, the one with the surest label comes first;
    then, again and again, the one farthest from all chosen so far.
    """
    if not photos.uris:
        return []
    reach = np.array([min((s for _, s in nearest(photos, i, neighbours)), default=-1) for i in range(len(photos.uris))])
    candidates = np.flatnonzero(reach >= np.median(reach)).tolist()
    chosen = [max(candidates, key=lambda index: photos.scores[index])]
    while len(chosen) < min(count, len(candidates)):
        closest = (photos.vectors[candidates] @ photos.vectors[chosen].T).max(axis=1)
        closest[[candidates.index(index) for index in chosen]] = np.inf
        chosen.append(candidates[int(np.argmin(closest))])
    return chosen


def thumbnails(store: str, photos: Photos, wanted: set[int]) -> dict[int, Image.Image]:
    """Square upright thumbnails by index: the centre of the photo, which is what the model saw."""
    made: dict[int, Image.Image] = {}
    for partition in sorted({photos.partitions[index] for index in wanted}):
        table = catalog.images(store, partition, ["uri", "content"])
        place = {uri: row for row, uri in enumerate(table["uri"].to_pylist())}
        for index in wanted:
            if photos.partitions[index] == partition:
                content = table["content"][place[photos.uris[index]]].as_py()
                made[index] = _thumbnail(content)
    return made


def _thumbnail(content: bytes) -> Image.Image:
    size, best = (TILE, TILE), Image.Resampling.LANCZOS
    try:
        return ImageOps.fit(imaging.upright_rgb(content, contract.MAX_PIXELS), size, best)
    except imaging.BadImage:
        return ImageOps.pad(preview.draw(content, TILE, contract.MAX_PIXELS), size, best, preview.PAPER)


def draw(
    photos: Photos,
    sheet: list[tuple[int, list[tuple[int, float]]]],
    pictures: dict[int, Image.Image],
    columns: int,
    subtitle: str,
) -> Image.Image:
    """The sheet: one row per query, its neighbours to the right with cosine, top-1 label and day."""
    width = 2 * MARGIN + (columns + 1) * TILE + QUERY_GAP + (columns - 1) * GAP
    height = HEADER + len(sheet) * (TILE + CAPTION + GAP) + MARGIN // 2
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, 34), f"{photos.noun.title()} and their nearest neighbours", INK, _font(30))
    pen.text(
        (MARGIN, 76),
        f"{subtitle}  ·  cosine of the features, {'top-1 label' if any(photos.scores) else 'name'}",
        GREY,
        _font(16),
    )
    pen.line((MARGIN, HEADER - 20, width - MARGIN, HEADER - 20), PALE, 2)
    for row, (query, near) in enumerate(sheet):
        top = HEADER + row * (TILE + CAPTION + GAP)
        _tile(canvas, pictures[query], MARGIN, top)
        frame = (MARGIN - 5, top - 5, MARGIN + TILE + 4, top + TILE + 4)
        pen.rounded_rectangle(frame, 11, outline=ACCENT, width=3)
        pen.text((MARGIN, top + TILE + 11), _fitted(photos.labels[query], 17), INK, _font(17), stroke_width=0.3)
        pen.text((MARGIN, top + TILE + 35), photos.partitions[query], GREY, _font(13))
        for column, (index, similarity) in enumerate(near):
            left = MARGIN + TILE + QUERY_GAP + column * (TILE + GAP)
            _tile(canvas, pictures[index], left, top)
            number = f"{similarity:.2f}"
            pen.text((left, top + TILE + 11), number, ACCENT, _font(17), stroke_width=0.3)
            indent = int(_font(17).getlength(number)) + 10
            label = _fitted(photos.labels[index], 17, TILE - indent)
            pen.text((left + indent, top + TILE + 11), label, INK, _font(17))
            pen.text((left, top + TILE + 35), photos.partitions[index], GREY, _font(13))
    return canvas


def _tile(canvas: Image.Image, picture: Image.Image, left: int, top: int) -> None:
    """Pastes a photo with rounded corners and a hairline, so that white photos have an edge on the white sheet."""
    scale = 4
    mask = Image.new("L", (TILE * scale, TILE * scale), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, TILE * scale - 1, TILE * scale - 1), 8 * scale, 255)
    canvas.paste(picture, (left, top), mask.resize((TILE, TILE), Image.Resampling.LANCZOS))
    ImageDraw.Draw(canvas).rounded_rectangle((left, top, left + TILE - 1, top + TILE - 1), 8, outline=PALE)


def _fitted(text: str, size: int, width: int = TILE) -> str:
    """`text` without underscores, shortened until it is at most `width` pixels wide."""
    text = text.replace("_", " ")
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own scalable font: the same on every machine."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("This Pillow was built without FreeType: the contact sheet cannot be lettered.")
    return font
