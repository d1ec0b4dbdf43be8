// Norms and drift of this run against the days before.

import { chart } from "./chart.js";
import { element } from "./dom.js";
import { count, counted, fraction, significant } from "./format.js";

const norm = (value) => significant(value, 4);

/** Four charts; null without vectors. */
export function daysCharts({ norms, drift, partition }) {
  if (norms.counts.length === 0) return null;
  const charts = [histogram(norms), normsByDay(drift.days), driftByDay(drift, partition), distances(drift)];
  return element(
    "section",
    { "aria-labelledby": "days" },
    element(
      "div",
      { class: "section-head" },
      element("h2", { id: "days" }, "Against the days before"),
      element("p", { class: "muted" }, "Files of the same kind give vectors of the same lengths and directions."),
    ),
    element("div", { class: "columns" }, charts),
  );
}

function histogram({ edges, counts, quantiles }) {
  const bins = counts.map((_, place) => `${norm(edges[place])} to ${norm(edges[place + 1])}`);
  const text = (value) => counted(value, "vector");
  const figure = chart({
    title: "Norms of this run",
    summary: `Euclidean norms ${span([quantiles["0"], quantiles["1"]], norm)}, median ${norm(quantiles["0.5"])}.`,
    keys: bins,
    label: (key, place) => (place === undefined ? key : norm((edges[place] + edges[place + 1]) / 2)),
    series: [{ name: "Vectors", values: counts, colour: "accent", kind: "bars" }],
    ...{ text, axis: count, whole: true, tall: true, reading: counts.indexOf(Math.max(...counts)) },
  });
  return withTable(
    figure,
    ["Norm", "Vectors"],
    bins.map((bin, place) => [bin, count(counts[place])]),
  );
}

function normsByDay(days) {
  const keys = days.map(({ partition }) => partition);
  const column = (name) => days.map((day) => day[name]);
  const medians = column("norm_median").filter((value) => value !== null);
  if (medians.length === 0) return null;
  const figure = chart({
    title: "Norms by partition",
    summary: `Medians ${span(medians, norm)} over ${counted(medians.length, "partition")}.`,
    keys,
    series: [
      { name: "95 %", values: column("norm_high"), colour: "accent-soft", kind: "edge" },
      { name: "median", values: column("norm_median"), colour: "accent", kind: "line" },
      { name: "5 %", values: column("norm_low"), colour: "accent-soft", kind: "edge" },
    ],
    ...{ text: norm, axis: norm, fromZero: false, tall: true },
  });
  const rows = days.map((day) => [
    day.partition,
    norm(day.norm_low),
    norm(day.norm_median),
    norm(day.norm_high),
    count(day.rows),
  ]);
  return withTable(figure, ["Partition", "5 %", "Median", "95 %", "Vectors"], rows.reverse());
}

function driftByDay({ value, limit, days }) {
  const flagged = days.flatMap((day, place) =>
    day.drift !== null && limit !== null && day.drift > limit ? [place] : [],
  );
  const against = limit === null ? "" : `, limit ${significant(limit)}`;
  const figure = chart({
    title: "Drift by partition",
    summary: value === null ? "No earlier partition to compare with." : `This run ${fraction(value)}${against}.`,
    keys: days.map(({ partition }) => partition),
    series: [{ name: "Drift", values: days.map((day) => day.drift), colour: "accent", kind: "line" }],
    limit: limit === null ? null : { value: limit, name: `limit ${significant(limit)}` },
    ...{ flagged, text: fraction, axis: significant, tall: true },
  });
  return withTable(figure, ["Partition", "Drift"], days.map((day) => [day.partition, fraction(day.drift)]).reverse());
}

function distances({ days }) {
  const compared = days.filter(({ distance }) => distance !== null);
  if (compared.length === 0) return null;
  const values = compared.map(({ distance }) => distance);
  const figure = chart({
    title: "This run against each partition alone",
    summary: `Drift ${span(values, fraction)}.`,
    keys: compared.map(({ partition }) => partition),
    series: [{ name: "Drift", values, colour: "accent", kind: "bars" }],
    ...{ text: fraction, axis: significant, ceiling: 0.1, tall: true },
  });
  return withTable(
    figure,
    ["Partition", "Drift"],
    compared.map((day) => [day.partition, fraction(day.distance)]).reverse(),
  );
}

function span(values, text) {
  return `from ${text(Math.min(...values))} to ${text(Math.max(...values))}`;
}

/** The values behind a chart, for those who want or need to read them. */
function withTable(figure, heads, rows) {
  figure.append(
    element(
      "details",
      {},
      element("summary", {}, "Values"),
      element(
        "div",
        { class: "table-frame", tabindex: 0, role: "region", "aria-label": "Values of the chart" },
        element(
          "table",
          {},
          element(
            "thead",
            {},
            element(
              "tr",
              {},
              heads.map((text, place) => element("th", { scope: "col", class: place ? "number" : null }, text)),
            ),
          ),
          element(
            "tbody",
            {},
            rows.map(([first, ...rest]) =>
              element(
                "tr",
                {},
                element("th", { scope: "row" }, first),
                rest.map((text) => element("td", { class: "number" }, text)),
              ),
            ),
          ),
        ),
      ),
    ),
  );
  return figure;
}
