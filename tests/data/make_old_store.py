"""Makes `store-0.1.tar.gz`, a small store as the versions before 0.2.0 wrote it, by running their code.

    python tests/data/make_old_store.py <checkout of dd330e5> <checkout of 4af3334>

Two days of small pictures that this file draws, each with files that are no photos. The older code writes them from the
command line and the first day a second time; then `undo` takes that back. The younger code knows which Dag a run is of,
and publishes a third day as one. Every path in the store is below FOLDER, which is removed in the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from PIL import Image

FOLDER = Path("/tmp/image-features-0.1")
KEPT = Path(__file__).with_name("store-0.1.tar.gz")
PHOTOS = FOLDER / "photos"
MODEL = "resnet18-random_0-fp32"


def picture(folder: Path, name: str, seed: int) -> None:
    """A picture of three gradients, 96 x 72 pixels; as JPEG some 1.3 kB."""
    folder.mkdir(parents=True, exist_ok=True)
    ramp = Image.linear_gradient("L").resize((96, 72))
    turned = [ramp.rotate(angle, expand=False) for angle in (37 * seed, 90 + 53 * seed, 71 * seed)]
    Image.merge("RGB", turned).save(folder / name, quality=80)


def main(before: Path, after: Path) -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    for number in range(4):
        picture(PHOTOS / "2026-11-20", f"{number}.jpg", number)
    shutil.copy(PHOTOS / "2026-11-20" / "3.jpg", PHOTOS / "2026-11-20" / "3 again.jpg")
    (PHOTOS / "2026-11-20" / "empty.jpg").touch()
    for number in range(3, 6):
        picture(PHOTOS / "2026-11-21", f"{number}.jpg", number)
    (PHOTOS / "2026-11-21" / "cut.jpg").write_bytes((PHOTOS / "2026-11-21" / "4.jpg").read_bytes()[:700])
    for number in (5, 6):
        picture(PHOTOS / "2026-11-22", f"größe #{number}.jpg", number)
    (PHOTOS / "2026-11-22" / "notes.jpg").write_text("no photo")

    publish(before, "2026-11-20", "first")
    publish(before, "2026-11-21", "scheduled__2026-11-21T00:00:00+00:00")
    publish(before, "2026-11-20", "again")
    run(before, "undo", "--partition", "2026-11-20", "--model", MODEL)
    publish(after, "2026-11-22", "manual__1", "--dag-id", "image_features")
    with tarfile.open(KEPT, "w:gz") as archive:
        archive.add(FOLDER / "store", "store", filter=kept)
    shutil.rmtree(FOLDER)


def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """All but the engine's 47 MB, which are made again when they are missing; nobody's name."""
    member.uname = member.gname = ""
    member.uid = member.gid = 0
    return None if member.name == "store/models" else member


def publish(checkout: Path, partition: str, run_id: str, *options: str) -> None:
    """The three jobs."""
    common = ("--partition", partition, "--run-id", run_id, *options)
    run(checkout, "ingest", "--source", f"{PHOTOS}/{{partition}}", *common)
    run(checkout, "extract", "--model", "resnet18", "--weights", "random:0", *common)
    run(checkout, "validate", "--max-failed-fraction", "0.5", "--max-drift", "1", "--recheck", "2", *common)


def run(checkout: Path, job: str, *arguments: str) -> None:
    command = [sys.executable, "-m", f"spark_apps.{job}", "--store", str(FOLDER / "store"), *arguments]
    subprocess.run(command, cwd=checkout, env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"}, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
