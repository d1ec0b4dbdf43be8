"""Packs what a cluster is sent: this package as a zip, and an environment for its Python workers as a tar.gz.

    python -m spark_apps.pack environment.tar.gz                       what a worker with engine openvino needs, and
                                                                       the decoders of HEIC and others that are here
    python -m spark_apps.pack environment.tar.gz torch torchvision     and further packages
    python -m spark_apps.pack --code /folder                           this package; prints where the zip is

The environment holds the packages of the Python that packs it, so driver and workers have the same versions. It holds
no interpreter: a node needs Python of the same minor version. Standard library only, but for `environment`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from spark_apps.contract import ExitCode, JobError
from spark_apps.spark import packages


def main() -> int:
    """Packs an environment and says how large it is, or the code and says where it is."""
    parser = argparse.ArgumentParser(
        prog="spark_apps.pack", description="Packs an environment for the Python workers of a cluster."
    )
    parser.add_argument("target", type=Path, help="file to write: .tar.gz or .tgz; with --code an existing folder")
    parser.add_argument("--code", action="store_true", help="pack this package as a zip, instead")
    parser.add_argument("package", nargs="*", help=f"further packages beside {', '.join(packages.worker())}")
    arguments = parser.parse_args()
    try:
        if arguments.code:
            print(packages.code(arguments.target))
            return ExitCode.DONE
        packages.environment(arguments.target, [*packages.worker(), *arguments.package])
    except JobError as error:
        print(f"pack failed: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"pack failed: {arguments.target} cannot be written: {error}", file=sys.stderr)
        return ExitCode.UNREACHABLE
    print(f"{arguments.target}: {arguments.target.stat().st_size / 2**20:,.0f} MiB")
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
