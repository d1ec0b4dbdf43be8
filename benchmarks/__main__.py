"""`make bench`: every system on the same photos, round by round, then the scenarios, then the report.

Everything is kept below var/bench: report.json, charts/. An interrupted run leaves the report of what was measured, and
`--add` goes on with more rounds or scenarios.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import Any

from benchmarks import charts, places, prepare, processes, report
from benchmarks.photos import PhotoSet
from benchmarks.prepare import Models
from benchmarks.protocol import Result
from benchmarks.scenarios import SCENARIOS, Setting
from benchmarks.systems import ENTRIES, Entry

BATCH_SIZE = 16
TURNS = {"fp32": 3, "bf16": 12, "int8": 16}
"""With our engine so many times the photos of eager torch, so that a long execution takes about as long for all."""


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the system that is running, too
    options = _options()
    if options.redraw:
        found = json.loads(places.REPORT.read_text())
        _finish(report.build(found["results"], found["scenarios"], found), options.docs)
        return 0
    last: dict[str, Any] = json.loads(places.REPORT.read_text()) if options.add else {}
    results = report.results(last.get("results", []))
    if options.add:
        options.images, entries = last["images"], tuple(results)
    else:
        entries = tuple(entry for entry in ENTRIES if not options.only or entry.system in options.only)
    if not options.rounds:  # the scenarios are about ours
        entries = tuple(entry for entry in entries if entry.system == "ours")
    facts: dict[str, Any] = {"machine": report.machine(options.cores), "quick": options.quick}
    weights = _weights(options.weights)
    main_set = PhotoSet("0.2", options.images)
    facts |= {
        "weights": weights,
        "random_weights": weights.startswith("random:"),
        "images": options.images,
        "rounds": options.rounds,
        "passes": options.passes,
        "batch_size": BATCH_SIZE,
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    begin = time.monotonic()
    places.BENCH.mkdir(parents=True, exist_ok=True)
    prepare.stage(main_set, say)
    models = prepare.models(weights, main_set, entries, say)
    setting = Setting(main_set, models, options.cores, BATCH_SIZE, options.days, options.quick, say)
    measured = Measured(entries, models, results)
    scenarios: dict[str, Any] = {}
    try:
        measured.rounds(setting, options.rounds, options.passes)
        for name in options.scenarios:
            scenarios[name] = _scenario(name, setting)
    except KeyboardInterrupt:
        say("interrupted: the report holds what was measured")
    facts["seconds"] = round(time.monotonic() - begin)
    scenarios = {name: found for name, found in scenarios.items() if found is not None}
    if options.add:
        added = {name: last[name] + facts[name] for name in ("rounds", "seconds")}
        facts, scenarios = {name: last[name] for name in facts} | added, last["scenarios"] | scenarios
    lines = last["results"] if options.add and not options.rounds else measured.lines()
    _finish(report.build(lines, scenarios, facts), options.docs)
    return 1 if measured.failures else 0


@dataclass
class Measured:
    """The results so far, and what is still to come."""

    entries: tuple[Entry, ...]
    models: Models
    results: dict[Entry, list[Result]] = field(default_factory=dict)
    failures: dict[Entry, str] = field(default_factory=dict)
    _seconds: dict[Entry, float] = field(default_factory=dict)

    def rounds(self, setting: Setting, rounds: int, passes: int) -> None:
        """All systems once, then all again: what slows the machine for a while slows all of them."""
        todo = [entry for entry in self.entries if not self.models.reason(entry)]
        left = [entry for _ in range(rounds) for entry in todo]
        for number, entry in enumerate(list(left)):
            left.pop(0)
            if entry in self.failures:
                continue
            turns = passes if entry.engine == "eager" else passes * TURNS[entry.precision]
            begin = time.monotonic()
            try:
                result = _measure(entry, setting, turns)
            except processes.Failed as failed:
                self.failures[entry] = str(failed)
                say(f"{entry}: failed, {failed}")
                continue
            self._seconds[entry] = time.monotonic() - begin
            self.results.setdefault(entry, []).append(result)
            rate = f"{max(result.rates):.1f} images/s" if result.rates else result.reason
            where = f"round {number // len(todo) + 1} of {rounds}, {number % len(todo) + 1} of {len(todo)}"
            say(f"{where}: {entry}: {rate} ({self._seconds[entry]:.0f} s); {self._left(left)} left")

    def _left(self, left: list[Entry]) -> str:
        """How long these will take, from what the same or the others took."""
        usual = sum(self._seconds.values()) / max(len(self._seconds), 1)
        return f"about {sum(self._seconds.get(entry, usual) for entry in left) / 60:.0f} min"

    def lines(self) -> list[report.Line]:
        """`results` of the report."""
        return [
            report.line(entry, self.results.get(entry, []), self.models.reason(entry) or self.failures.get(entry, ""))
            for entry in self.entries
        ]


def _measure(entry: Entry, setting: Setting, turns: int) -> Result:
    """One system in a process of its own: first the main set, then `turns` times as many photos, the long execution of
    Ray Data and Daft one turn more. Raises processes.Failed, CommandFailed."""
    if entry.system == "ours":  # computes a photo once, so its long execution is over a larger set
        long = PhotoSet(setting.main.megapixels, setting.main.count * (turns + 1))
        prepare.stage(long, setting.say, parquet=False)
        prepare.reference_vectors(setting.models.weights, long)
        return setting.ours(long, entry.precision, engine=entry.engine)
    job = prepare.job(entry, setting.main, setting.models, setting.cores, setting.batch_size, turns)
    return processes.run(entry.system, job)


def say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {message}", file=sys.stderr, flush=True)


def _scenario(name: str, setting: Setting) -> Any:
    """A scenario that fails is left out, with its trace in the log; the others still count."""
    try:
        return SCENARIOS[name](setting)
    except Exception:
        traceback.print_exc()
        say(f"{name}: failed, and left out")
        return None


def _weights(name: str) -> str:
    """The weights asked for, or the best that can be had here."""
    if name != "auto":
        return name
    from demo import weights

    chosen, missing = weights.choose()
    for sentence in missing:
        say(sentence)
    if chosen == weights.RANDOM:
        say("WARNING: RANDOM WEIGHTS. Speed is much the same, cosines mean little.")
    return chosen


def _finish(found: dict[str, Any], docs: bool) -> None:
    places.REPORT.write_text(json.dumps(found, indent=1))
    charts.draw(found, places.CHARTS)
    print("\n" + report.table(report.RESULT_HEAD, report.result_rows(found)))
    print("\n" + report.table(report.MEASURE_HEAD, report.measure_rows(found)) + "\n")
    if found["first_variant"]:
        print(f"A UDF that holds the SparkSession: {found['first_variant']}")
    for name, head, rows in report.scenario_tables(found):
        print(f"\n{name}\n{report.table(head, rows)}")
    if docs:
        charts.draw(found, places.DOCS_IMAGES)
        _write_docs(found)
    print(
        f"\n{places.REPORT.relative_to(places.ROOT)}, {places.CHARTS.relative_to(places.ROOT)}/; {found['seconds']} s"
    )


def _write_docs(found: dict[str, Any]) -> None:
    """Puts the tables where docs/benchmarks.md has those of such a processor."""
    facts = found["machine"]
    about = (
        f"{facts['processor']}, {facts['cores_used']} of {facts['cores']} cores ({', '.join(facts['flags'])}), "
        f"weights {found['weights']}, {found['images']} photos, {found['rounds']} rounds, "
        f"{found['started_at'][:10]}; load of the machine before the start {facts['load_at_start']}.\n"
        f"Versions: {', '.join(f'{name} {version}' for name, version in facts['versions'].items())}."
    )
    parts = [
        about,
        f"A UDF that holds the SparkSession, by Spark: *{found['first_variant'] or 'not tried'}*",
        report.markdown(report.MEASURE_HEAD, report.measure_rows(found)),
        report.markdown(report.RESULT_HEAD, report.result_rows(found)),
        *(f"{name}:\n\n{report.markdown(head, rows)}" for name, head, rows in report.scenario_tables(found)),
    ]
    report.put(places.DOCS, f"make bench, {report.arithmetic(facts['flags'])}", "\n\n".join(parts))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round, fewer photos, smaller scenarios")
    parser.add_argument("--only", nargs="+", choices=sorted({entry.system for entry in ENTRIES}), help="these systems")
    parser.add_argument("--scenarios", nargs="*", choices=sorted(SCENARIOS), help="these; none after the bare word")
    parser.add_argument("--images", type=int, help="photos of the main set")
    parser.add_argument("--rounds", type=int, help="turns over all systems")
    parser.add_argument(
        "--passes",
        type=int,
        help="how often eager torch sees the photos again in a round; our faster engine, 3 to 16 times as often",
    )
    parser.add_argument("--days", nargs="+", type=int, help="photos of each day of the scenario growth")
    parser.add_argument("--cores", type=int, default=min(2, os.cpu_count() or 1), help="cores that each system may use")
    parser.add_argument("--weights", default="auto", help="as in extract --weights; auto: the best that can be had")
    parser.add_argument("--docs", action="store_true", help="put charts and tables into docs/, too")
    parser.add_argument(
        "--add", action="store_true", help="add scenarios to the last report, and rounds where --rounds asks for some"
    )
    parser.add_argument("--redraw", action="store_true", help="measure nothing: show and draw the last report again")
    options = parser.parse_args()
    if (options.add or options.redraw) and not places.REPORT.exists():
        parser.error("there is no report yet: run make bench without --add and --redraw first")
    if options.add and (options.only or options.images):
        parser.error("--add takes systems and photos of the last report: leave out --only and --images")
    choices: tuple[tuple[str, Any, Any], ...] = (
        ("images", 128, 512),
        ("rounds", 0 if options.add else 1, 0 if options.add else 3),
        ("passes", 1, 1),
        ("days", [200, 1_000], [1_000, 10_000, 50_000]),
    )
    for name, quick, full in choices:
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    if options.scenarios is None:
        options.scenarios = ["growth", "megapixels"] if options.quick else list(SCENARIOS)
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted before anything was measured")
        sys.exit(130)
