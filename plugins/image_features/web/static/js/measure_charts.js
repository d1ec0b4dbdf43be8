// A small chart over the partitions for each measure of the overview.

import { chart } from "./chart.js";
import { element } from "./dom.js";
import { count, counted, fraction, rate, significant } from "./format.js";
import { isFailure } from "./status.js";

const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });

const files = (value) => counted(value, "file");

const MEASURES = [
  { title: "Featured", of: (row) => row.featured, text: files, whole: true },
  { title: "Quarantined", of: (row) => row.quarantined, text: files, whole: true, colour: "warning-line" },
  { title: "Reused", of: (row) => row.reused, text: (value) => counted(value, "vector"), whole: true },
  { title: "Speed", of: (row) => row.images_per_second, text: rate, kind: "line", nothing: "Every vector was reused" },
  { title: "Drift", of: (row) => row.drift, text: fraction, kind: "line", axis: significant, limited: true },
];

/** The charts, oldest partition on the left; `rows` are newest first. */
export function measureCharts(rows) {
  const oldestFirst = [...rows].reverse();
  const shared = {
    keys: oldestFirst.map(({ partition }) => partition),
    flagged: oldestFirst.flatMap(({ status }, place) => (isFailure(status) ? [place] : [])),
    together: "partitions",
  };
  return element(
    "section",
    { class: "charts", "aria-label": "Measures over time" },
    MEASURES.map((measure) => measureChart(measure, oldestFirst, shared)),
    checksChart(oldestFirst, shared),
  );
}

function measureChart(
  { title, of, text, kind = "bars", colour = "accent", axis, whole, limited, nothing },
  rows,
  shared,
) {
  const values = rows.map(of);
  const limit = limited ? rows.findLast((row) => row.max_drift !== null)?.max_drift : undefined;
  return chart({
    ...shared,
    ...{ title, text, whole, nothing, axis: axis ?? compact.format },
    series: [{ name: title, values, colour, kind }],
    summary: inWords(values, rows, text),
    limit: limit === undefined ? null : { value: limit, name: `limit ${significant(limit)}` },
    reading: newest(values),
  });
}

function checksChart(rows, shared) {
  const series = [
    { name: "failed", values: sizes(rows, "checks_failed"), colour: "bad-line", kind: "bars" },
    { name: "warnings", values: sizes(rows, "checks_warned"), colour: "warning-line", kind: "bars" },
    { name: "passed", values: sizes(rows, "checks_passed"), colour: "accent-soft", kind: "bars" },
  ];
  const failing = rows.filter(({ checks_failed }) => checks_failed.length > 0).length;
  return chart({
    ...shared,
    ...{ title: "Checks", text: count, axis: count, whole: true, series, reading: newest(series[2].values) },
    summary: `${failing} of ${rows.length} partitions with a failed check. The table below has the numbers.`,
  });
}

/** How many checks; null where none were made. */
function sizes(rows, name) {
  return rows.map((row) => {
    const made = row.checks_passed.length + row.checks_warned.length + row.checks_failed.length;
    return made > 0 ? row[name].length : null;
  });
}

function newest(values) {
  const place = values.findLastIndex((value) => value !== null);
  return place < 0 ? values.length - 1 : place;
}

function inWords(values, rows, text) {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return "No values.";
  const place = newest(values);
  return (
    `From ${text(Math.min(...known))} to ${text(Math.max(...known))} over ${known.length} partitions, ` +
    `${text(values[place])} in ${rows[place].partition}. The table below has the numbers.`
  );
}
