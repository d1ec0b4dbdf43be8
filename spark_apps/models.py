"""Models: the names that `--model` takes, or whether there is one of a name. Nothing is downloaded.

python -m spark_apps.models              every name, of each source whose package is installed
python -m spark_apps.models dinov3       those that hold the word
python -m spark_apps.models --check timm:resnet50

Names without a source before them are torchvision's. A file is named by its path or URI, and listed nowhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import os

from spark_apps.contract import MODEL_SOURCES, BadSetting, ExitCode
from spark_apps.model import sources


def main(argv: list[str] | None = None) -> int:
    """Prints the names; with `--check` nothing, or what is wrong. The exit status is that of the jobs."""
    about, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="spark_apps.models",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("word", nargs="?", default="", help="Part of a name.")
    asked.add_argument(
        "--check",
        metavar="MODEL",
        help="Say what is wrong with this name of a model, if anything; a file is not looked at.",
    )
    given = parser.parse_args(argv)
    if given.check is not None:
        try:
            sources.check(given.check)
        except BadSetting as error:
            print(error, file=sys.stderr)
            return ExitCode.DONE if error.code == "package_missing" else ExitCode.BAD_SETTING
        return ExitCode.DONE
    found = _named(given.word.lower())
    if given.word and not found:
        print(f"No model has {given.word!r} in its name.", file=sys.stderr)
    try:
        print("".join(f"{name}\n" for name in found), end="", flush=True)
    except BrokenPipeError:  # of `| head`; Python would say so once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.DONE


def _named(word: str) -> list[str]:
    """The names that hold `word`; says which sources are not installed."""
    found: list[str] = []
    for source in MODEL_SOURCES:
        try:
            found += [name for name in sources.source(source).names() if word in name.lower()]
        except BadSetting as missing:
            print(f"{source}: {missing}", file=sys.stderr)
    return found


if __name__ == "__main__":
    from spark_apps.models import main as entry

    sys.exit(entry())
