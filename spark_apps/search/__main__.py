"""Search: the photos of a store that are nearest to a file, to words, or to one that is published."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spark_apps.contract import BadFile, BadSetting, ExitCode, JobError, from_here
from spark_apps.search.reading import Index, Neighbour, open_index


def main(argv: list[str] | None = None) -> int:
    """Prints the nearest files; the exit status is that of the jobs (`contract.ExitCode`)."""
    asked = _parser().parse_args(argv)
    try:
        begin = time.perf_counter()
        index = open_index(from_here(asked.store), asked.model)
        query = _query(index, asked)
        opened = time.perf_counter()
        among = index.between(asked.first, asked.last) if asked.first or asked.last else None
        found, compared = index.search(query, asked.k, among, asked.min_similarity)
        seconds = time.perf_counter() - opened
        behind = index.behind()
    except BadFile as bad:
        print(f"The file gives no vector: {bad.code}: {bad.message}", file=sys.stderr)
        return ExitCode.BAD_SETTING
    except JobError as error:
        print(f"search failed: {error}", file=sys.stderr)
        return error.exit_code
    if behind:
        print(_behind(behind), file=sys.stderr)
    if asked.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
        return ExitCode.DONE
    print(_table(found))
    how = "exactly" if compared.exact else "by the index, the best of them exactly"
    print(
        f"{len(found)} of {compared.rows:,} vectors in {len(compared.partitions):,} partitions, compared {how}, in "
        f"{1000 * seconds:.0f} ms (opened in {opened - begin:.1f} s)"
    )
    return ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spark_apps.search", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--store", required=True, help="Folder or URI that holds the tables.")
    parser.add_argument(
        "--model", required=True, help="What the features are published under, for example resnet50-imagenet1k_v2-fp32."
    )
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--photo", metavar="FILE", help="A photo of this machine; the store's model makes its vector.")
    query.add_argument(
        "--text", metavar="WORDS", help="What a photo shows, in words: for models with a text side, as open_clip's."
    )
    query.add_argument("--text-file", metavar="FILE", help="A text, for the features of the extractor text.")
    query.add_argument("--image-id", metavar="SHA256", help="A published file, by the sha256 of its content.")
    parser.add_argument(
        "--template",
        default="none",
        choices=("none", "simple", "openai"),
        help="Put the words of --text into open_clip's sentences for this purpose, 7 (simple) or 80 (openai), and "
        "search by the mean of their vectors (default: %(default)s).",
    )
    parser.add_argument("-k", type=int, default=10, help="How many to find (default: %(default)s).")
    parser.add_argument("--from", dest="first", default="", metavar="PARTITION", help="The first partition to search.")
    parser.add_argument("--to", dest="last", default="", metavar="PARTITION", help="The last partition to search.")
    parser.add_argument("--min-similarity", type=float, metavar="COSINE", help="Leave out what is less similar.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    return parser


def _query(index: Index, asked: argparse.Namespace) -> Any:
    if asked.image_id:
        found = index.vector(asked.image_id)
        if found is None:
            raise BadSetting("no_such_photo", f"The index holds no file {asked.image_id}.", "Give the sha256 of one.")
        return found
    from spark_apps.search import embedding  # not at the top: it needs the model's engine

    if asked.text is not None:
        return embedding.of_words(index.store, index.model, asked.text, asked.template)
    name = asked.photo or asked.text_file
    try:
        content = Path(name).expanduser().read_bytes()
    except OSError as error:
        raise BadSetting(
            "bad_file", f"{name} cannot be read: {error.strerror}.", "Give a file of this machine."
        ) from None
    return embedding.vector(index.store, index.model, content)


def _table(found: list[Neighbour]) -> str:
    rows = [("similarity", "partition", "file", "image id")]
    rows += [(f"{one.similarity:.4f}", one.partition, one.uri, f"{one.image_id[:12]}…") for one in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _behind(differing: dict[str, int]) -> str:
    return (
        f"The index is behind: {sum(differing.values()):,} rows of {len(differing):,} partitions differ from what is "
        "published. Run python -m spark_apps.index."
    )


if __name__ == "__main__":
    sys.exit(main())
