"""The pipeline as one object in your own Dag: one ingest, and for each model extract, validate and what may follow."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import BaseOperator, TaskGroup

from image_features import arguments, run_settings
from image_features import settings as options
from image_features.operators import (
    DuplicatesOperator,
    ExtractOperator,
    IndexOperator,
    IngestOperator,
    StageOperator,
    ValidateOperator,
)
from spark_apps import contract

CHAIN = (*contract.STAGES, "index", "duplicates")
"""The stages that a group may have."""
OF_ALL = ("conn_id", "storage_conn_id", "conf", "env_vars")
"""Arguments of the operators, beside the settings, that the group hands to each of its tasks; what else is for all of
them goes into `default_args`."""


class ImageFeaturesTaskGroup(TaskGroup):
    """`ingest >> extract >> validate`, or several `extract >> validate` after one ingest.

    With `index`, each validate is followed by an index, which makes its model searchable, and with `duplicates` by one
    that looks for duplicates. With `ask_to_publish` a person is asked about a run that validate has rejected
    (`human_step`), and both follow that publication, too.

    Takes every setting of these stages as a keyword argument, each a template, and hands it to the stages that have
    it. `default_args` of the group or the Dag set what else operators take: pool, queue, retries, callbacks,
    executor_config.

    :param models: one mapping for each model, of settings of extract and validate that are its own, for example
        `[{"model": "resnet50"}, {"model": "convnext_tiny", "precision": "bf16"}]`; by default one model, with the
        settings of the group.
    :param index: whether to bring what is published into the search index; by default [image_features] index.
    :param duplicates: whether to look for duplicates of what is published; by default [image_features] duplicates.
    :param ask_to_publish: whether to ask a person about a rejected run, or arguments of `AskToPublishOperator`, such as
        `{"assigned_users": […]}`; by default [image_features] ask_to_publish.
    :param conn_id: the Spark connection of all tasks.
    :param storage_conn_id: the connection (aws, wasb, adls, google_cloud_platform) that the store is reached with.
    :param conf: settings of Spark for all jobs.
    :param env_vars: variables for the environment of all jobs.
    :raises TypeError: an argument or a setting of a model that no stage has.
    :raises BadSetting: a value is not allowed, or two of the models are the same.
    """

    @arguments.declared(contract.DuplicatesSettings, contract.IndexSettings, *contract.SETTINGS.values())
    def __init__(
        self,
        group_id: str = "image_features",
        *,
        models: Sequence[Mapping[str, Any]] | None = None,
        index: bool | None = None,
        duplicates: bool | None = None,
        ask_to_publish: bool | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        takes = set(inspect.signature(TaskGroup).parameters)
        own_arguments = {"models", "index", "duplicates", "ask_to_publish"}
        arguments.refuse_unknown(type(self).__name__, kwargs, {*takes, *_settings(CHAIN), *OF_ALL, *own_arguments})
        settings = {name: value for name, value in kwargs.items() if name in _settings(CHAIN)}
        index = options.index() if index is None else index
        duplicates = options.duplicates() if duplicates is None else duplicates
        ask = options.ask_to_publish() if ask_to_publish is None else ask_to_publish
        following: list[tuple[type[StageOperator], str]] = []
        following += [(IndexOperator, "index")] if index else []
        following += [(DuplicatesOperator, "duplicates")] if duplicates else []
        shared = {name: value for name, value in kwargs.items() if name in OF_ALL}
        own = [dict(model) for model in models or [{}]]
        for model in own:
            arguments.refuse_unknown(f"A model of {type(self).__name__}", model, _settings(CHAIN[1:]))
        super().__init__(group_id, **{name: value for name, value in kwargs.items() if name in takes})
        with self:
            ingest = self._task(IngestOperator, "ingest", settings, shared)
            for model, ending in zip(own, _endings(own), strict=True):
                extract = self._task(ExtractOperator, f"extract{ending}", {**settings, **model}, shared)
                validate = self._task(ValidateOperator, f"validate{ending}", {**settings, **model}, shared)
                ingest >> extract >> validate
                last: BaseOperator = validate
                if ask is not False:
                    from image_features import human_step  # not at the top: only here Airflow has to have such a step

                    asking = ask if isinstance(ask, Mapping) else {}
                    last = human_step.after(validate, ending, given={**settings, **model}, shared=shared, asking=asking)
                for operator, name in following:
                    task = self._task(operator, f"{name}{ending}", {**settings, **model}, shared)
                    last >> task
                    last = task

    def _task(
        self, operator: type[StageOperator], task_id: str, settings: Mapping[str, Any], shared: Mapping[str, Any]
    ) -> StageOperator:
        known = _settings([operator.stage])
        return operator(task_id=task_id, **{name: settings[name] for name in settings if name in known}, **shared)


def _settings(stages: Sequence[str]) -> set[str]:
    """What the arguments for the settings of these stages are called."""
    kinds = [contract.COMMANDS[stage] for stage in stages]
    return {
        arguments.argument(name)
        for kind in kinds
        for name in arguments.names(kind)
        if name not in run_settings.OF_OTHER_MEANING.get(kind, ())
    }


def _endings(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells the tasks of several models apart: the model's name, and a number where two share it."""
    if len(models) == 1:
        return [""]
    named = [re.sub(r"\W", "_", str(model.get("model") or model.get("extractor") or "model")) for model in models]
    seen: Counter[str] = Counter()
    endings = []
    for name in named:
        seen[name] += 1
        endings.append(f"_{name}" if named.count(name) == 1 else f"_{name}_{seen[name]}")
    return endings
