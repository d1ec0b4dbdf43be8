"""Notes the moment of the first feature row of our own pipeline, from outside of it.

On the benchmarks' PYTHONPATH, so Python runs it at the start of every process of a measured system. Without the
environment variable it does nothing; with it, the engine that `spark_apps.model` loads is wrapped once.
"""

import importlib.abc
import importlib.util
import os
import sys

ENGINES = "spark_apps.model.engines"


class Marked:
    """An engine that notes when its first features are there."""

    def __init__(self, engine):
        self._engine = engine

    def run(self, *args, **options):
        from benchmarks.protocol import first_row

        outputs = self._engine.run(*args, **options)
        first_row()
        self.run = self._engine.run  # once is enough
        return outputs

    def __getattr__(self, name):
        return getattr(self._engine, name)


class AfterImport(importlib.abc.MetaPathFinder):
    """Wraps `load` of the engines' module right after its import."""

    def find_spec(self, name, path, target=None):
        if name != ENGINES:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            load = module.load
            module.load = lambda *args, **options: Marked(load(*args, **options))

        spec.loader.exec_module = exec_module
        return spec


if os.environ.get("BENCH_FIRST_ROW"):
    sys.meta_path.insert(0, AfterImport())
