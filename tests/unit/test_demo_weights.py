"""The demo takes the best weights that can be had, says what it could not have, and does not wait long for the hub."""

from __future__ import annotations

import io
import threading
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo import weights
from spark_apps.contract import BadSetting, ModelSettings, Unreachable


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that were resolved; all of them are to be had."""
    names: list[str] = []

    def resolve(spec: ModelSettings) -> Any:
        names.append(spec.weights)
        return SimpleNamespace(name={"DEFAULT": "IMAGENET1K_V2"}.get(spec.weights, spec.weights))

    monkeypatch.setattr(weights.weights, "resolve", resolve)
    monkeypatch.setattr(weights, "hub_answers", lambda: True)
    return names


def test_the_hub_comes_first_and_default_becomes_a_real_name(asked: list[str]) -> None:
    assert weights.choose() == ("IMAGENET1K_V2", [])
    assert asked == ["DEFAULT"]


def test_without_the_hub_the_npm_registry(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "hub_answers", lambda: False)
    chosen, missing = weights.choose()
    assert chosen == "keras-v1"
    assert asked == ["keras-v1"]
    assert len(missing) == 1
    assert "hub" in missing[0]


def test_without_either_random_ones_and_both_reasons(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(spec: ModelSettings) -> Any:
        raise Unreachable("gone", f"No {spec.weights} today.")

    monkeypatch.setattr(weights.weights, "resolve", unreachable)
    assert weights.choose() == ("random:0", ["No DEFAULT today.", "No keras-v1 today."])


def test_damaged_weights_are_no_reason_for_others(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(spec: ModelSettings) -> Any:
        raise BadSetting("weights_damaged", "Another hash.")

    monkeypatch.setattr(weights.weights, "resolve", damaged)
    with pytest.raises(BadSetting):
        weights.choose()


class TestHub:
    @pytest.fixture(autouse=True)
    def empty_cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def test_a_silent_hub_is_given_up_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        weights.torchvision()  # its import takes seconds of its own
        silence = threading.Event()

        def silent(*_: Any, **__: Any) -> None:
            silence.wait(60)
            raise OSError("too late")

        monkeypatch.setattr(urllib.request, "urlopen", silent)
        begin = time.monotonic()
        assert not weights.hub_answers(patience=0.3)
        assert time.monotonic() - begin < 30
        silence.set()

    def test_a_hub_that_cannot_be_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def nobody(*_: Any, **__: Any) -> None:
            raise OSError("no route")

        monkeypatch.setattr(urllib.request, "urlopen", nobody)
        assert not weights.hub_answers()

    def test_a_hub_that_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Answer(io.BytesIO):
            status = 200

        asked: list[urllib.request.Request] = []
        monkeypatch.setattr(urllib.request, "urlopen", lambda request, **_: asked.append(request) or Answer())
        assert weights.hub_answers()
        assert asked[0].get_method() == "HEAD"

    def test_weights_that_are_here_already_need_no_hub(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def nobody(*_: Any, **__: Any) -> None:
            raise AssertionError("asked")

        monkeypatch.setattr(urllib.request, "urlopen", nobody)
        url = weights.torchvision().models.ResNet50_Weights.DEFAULT.url
        kept = tmp_path / "hub" / "checkpoints" / url.rsplit("/", 1)[-1]
        kept.parent.mkdir(parents=True)
        kept.touch()
        assert weights.hub_answers()
