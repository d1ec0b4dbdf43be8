"""Models: the names that `--model` takes, or whether there is one of a name. Nothing is downloaded.

python -m spark_apps.models              every name, of each source whose package is installed
python -m spark_apps.models dinov3       those that hold the word
python -m spark_apps.models --check timm:resnet50
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse

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
    asked.add_argument("--check", metavar="MODEL", help="Say what is wrong with this name of a model, if anything.")
    given = parser.parse_args(argv)
    if given.check:
        try:
            sources.check(given.check)
        except BadSetting as error:
            print(error, file=sys.stderr)
            return ExitCode.DONE if error.code == "package_missing" else ExitCode.BAD_SETTING
        return ExitCode.DONE
    for source in MODEL_SOURCES:
        try:
            names = sources.source(source).names()
        except BadSetting as missing:
            print(f"{source}: {missing}", file=sys.stderr)
            continue
        print("\n".join(name for name in names if given.word.lower() in name.lower()), end="\n" if names else "")
    return ExitCode.DONE


if __name__ == "__main__":
    from spark_apps.models import main as entry

    sys.exit(entry())
