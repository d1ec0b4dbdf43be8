// The table of partitions, newest first.

import { runAddress } from "./airflow.js";
import { element, spoken } from "./dom.js";
import { UNKNOWN, clock, count, decimal, duration, fraction, percent, zone } from "./format.js";
import { reason } from "./headline.js";
import { badge, isFailure, statusBadge } from "./status.js";

/**
 * One row for each partition and model; what failed says why in a row of its own. `withDags`: each says whose it is.
 * `names`: of the stores, by key, where each row says in which it is; empty where they are in one.
 */
export function partitionTable(rows, { withDags, names }) {
  const head = (text, number) =>
    element("th", { scope: "col", role: "columnheader", class: number ? "number" : null }, text);
  return element(
    "section",
    { "aria-label": "Partitions" },
    element(
      "div",
      { class: "table-frame" },
      element(
        "table",
        { class: "cards three partitions", role: "table" },
        element("caption", { class: "hidden-visually" }, "Partitions, newest first"),
        element(
          "thead",
          { role: "rowgroup" },
          element(
            "tr",
            { role: "row" },
            ...[
              head("Partition"),
              withDags && head("Dag"),
              names.size > 0 && head("Store"),
              head("Status"),
              head("Featured", true),
              head("Quarantined", true),
              head("Reused", true),
            ],
            ...[
              head("Images/s", true),
              head("Drift", true),
              head("Checks"),
              head("Took", true),
              head(`Finished (${zone})`),
            ],
          ),
        ),
        element(
          "tbody",
          { role: "rowgroup" },
          rows.map((row) => partitionRows(row, { withDags, names })),
        ),
      ),
    ),
  );
}

function partitionRows(row, { withDags, names }) {
  const failed = isFailure(row.status);
  const cell = (label, content, kind) => element("td", { role: "cell", "data-label": label, class: kind }, content);
  const main = element(
    "tr",
    { role: "row", class: failed ? "flagged followed bad" : null },
    element("th", { scope: "row", role: "rowheader" }, element("span", {}, key(row), model(row))),
    withDags && cell("Dag", row.dag_id ?? UNKNOWN),
    names.size > 0 && cell("Store", names.get(row.store) ?? UNKNOWN),
    cell("Status", statusBadge(row.status), "corner"),
    cell("Featured", count(row.featured), "number"),
    cell("Quarantined", quarantined(row), "number"),
    cell("Reused", count(row.reused), "number"),
    cell("Images/s", decimal(row.images_per_second), "number"),
    cell("Drift", drift(row), "number"),
    cell("Checks", checks(row)),
    cell("Took", duration(row.seconds), "number"),
    cell(
      "Finished",
      row.finished_at
        ? element("time", { datetime: row.finished_at, class: "number" }, clock(row.finished_at))
        : UNKNOWN,
    ),
  );
  if (!failed) return main;
  const words = element(
    "td",
    { role: "cell", colspan: 10 + (withDags ? 1 : 0) + (names.size > 0 ? 1 : 0), class: "wide failure-text" },
    `Not published: ${reason(row)}`,
  );
  return [main, element("tr", { role: "row", class: "flagged follows bad" }, words)];
}

function key(row) {
  if (!row.dag_run_id) return element("span", { class: "partition-key" }, row.partition);
  const address = runAddress(row.dag_id, row.dag_run_id, row.part);
  return element(
    "a",
    { href: address, class: "partition-key", "data-key": [row.dag_id, row.store, row.partition, row.model].join(" ") },
    row.partition,
  );
}

function model(row) {
  return row.model && element("span", { class: "below" }, row.model);
}

function quarantined({ quarantined, listed }) {
  if (!quarantined || !listed) return count(quarantined);
  return element(
    "span",
    {},
    count(quarantined),
    element("span", { class: "below" }, ` ${percent(quarantined / listed)}`),
  );
}

function drift(row) {
  if (row.drift === null || row.max_drift === null || row.drift <= row.max_drift) return fraction(row.drift);
  return element("strong", { class: "bad toned" }, fraction(row.drift), spoken(` is above ${fraction(row.max_drift)}`));
}

function checks({ checks_passed, checks_warned, checks_failed, checks_off }) {
  const total = checks_passed.length + checks_warned.length + checks_failed.length;
  if (total === 0) return UNKNOWN;
  if (checks_failed.length > 0) return badge("bad", `${checks_failed.length} failed`);
  if (checks_warned.length > 0) return badge("warning", `${checks_warned.length} warned`);
  const off = checks_off.length > 0 && element("span", { class: "below" }, ` ${checks_off.length} off`);
  return element("span", { class: "number" }, `${total} passed`, off);
}
