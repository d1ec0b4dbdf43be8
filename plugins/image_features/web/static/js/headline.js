// Above everything else: whether the newest vectors can be trusted, and what failed.

import { runAddress } from "./airflow.js";
import { element } from "./dom.js";
import { counted } from "./format.js";
import { notice } from "./notice.js";
import { isFailure, isUnderWay, word } from "./status.js";

const AT_MOST = 5;

/**
 * Notices about the newest partition that has ended, of each Dag and store, and about those that failed. `rows` are
 * newest first; `names` has the names of the stores where they are to be told.
 */
export function headline(rows, names) {
  const ended = rows.filter(({ status }) => !isUnderWay(status));
  const failed = ended.filter(({ status }) => isFailure(status));
  const newest = new Map();
  for (const row of ended) {
    const place = `${row.dag_id} ${row.store}`;
    if (row.status !== "skipped" && !newest.has(place)) newest.set(place, row);
  }
  const good = [...newest.values()].filter((row) => !isFailure(row.status) && row.published_run_id !== null);
  return [
    good.length > 0 && trusted(good, newest.size, names),
    failed.length > 0 && failures(failed, rows.length, names, newest.size > 1),
  ];
}

/** Why a run failed, in a few words. */
export function reason(row) {
  if (row.checks_failed.length > 0) {
    const stands = row.published_run_id ? "; readers still see the run before" : "";
    return `${row.checks_failed.join(", ")} did not pass${stands}`;
  }
  return row.error ? row.error.message : "it left no report";
}

function trusted(rows, total, names) {
  const warned = rows.some((row) => row.checks_warned.length > 0);
  const several = total > 1;
  const said = rows.map((row) => {
    const count = row.checks_warned.length;
    const checks =
      count > 0 ? `${counted(count, "check")} warned (${row.checks_warned.join(", ")})` : "every check passed";
    const off = row.checks_off.length > 0 ? `; turned off: ${row.checks_off.join(", ")}` : "";
    return [several && whose(row, names), link(row), ` has ${counted(row.rows, "vector")}; ${checks}${off}.`];
  });
  if (!several) {
    const headline = `The newest partition is published${warned ? " with warnings" : ""}.`;
    return notice(warned ? "warning" : "good", headline, "", element("p", {}, said[0]));
  }
  const list = element(
    "ul",
    {},
    said.slice(0, AT_MOST).map((parts) => element("li", {}, parts)),
    said.length > AT_MOST && element("li", { class: "muted" }, `and ${said.length - AT_MOST} more`),
  );
  const where = rows.length === total ? `In all ${total} places` : `In ${rows.length} of ${total} places`;
  return notice(warned ? "warning" : "good", `${where} the newest partition is published.`, "", list);
}

function failures(failed, total, names, several) {
  const list = failed
    .slice(0, AT_MOST)
    .map((row) =>
      element("li", {}, several && whose(row, names), link(row), ` ${word(row.status)}: ${reason(row)}`),
    );
  const more = failed.length - AT_MOST;
  return notice(
    "bad",
    `${failed.length} of ${counted(total, "partition")} not published.`,
    "",
    element("ul", {}, list, more > 0 && element("li", { class: "muted" }, `and ${more} more, marked below`)),
  );
}

/** The Dag, and its store where it has several. */
function whose({ dag_id, store }, names) {
  const parts = [dag_id, names.get(store)].filter(Boolean);
  return parts.length > 0 && `${parts.join(", ")}: `;
}

function link(row) {
  if (!row.dag_run_id) return element("strong", {}, row.partition);
  return element("a", { href: runAddress(row.dag_id, row.dag_run_id, row.part) }, row.partition);
}
