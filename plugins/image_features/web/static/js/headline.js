// Above everything else: whether the newest vectors can be trusted, and what failed.

import { runAddress } from "./airflow.js";
import { element } from "./dom.js";
import { counted } from "./format.js";
import { notice } from "./notice.js";
import { isFailure, isUnderWay, word } from "./status.js";

const AT_MOST = 5;

/** Notices about the newest partition that has ended, and about those that failed. `rows` are newest first. */
export function headline(rows, dag) {
  const ended = rows.filter(({ status }) => !isUnderWay(status));
  const failed = ended.filter(({ status }) => isFailure(status));
  const newest = ended.find(({ status }) => status !== "skipped");
  const good = newest && !isFailure(newest.status) && newest.published_run_id !== null;
  return [good ? trusted(newest, dag) : null, failed.length > 0 ? failures(failed, rows.length, dag) : null];
}

/** Why a run failed, in a few words. */
export function reason(row) {
  if (row.checks_failed.length > 0) {
    const stands = row.published_run_id ? "; readers still see the run before" : "";
    return `${row.checks_failed.join(", ")} did not pass${stands}`;
  }
  return row.error ? row.error.message : "it left no report";
}

function trusted(row, dag) {
  const warned = row.checks_warned.length;
  const checks =
    warned > 0 ? `${counted(warned, "check")} warned (${row.checks_warned.join(", ")})` : "every check passed";
  const off = row.checks_off.length > 0 ? `; turned off: ${row.checks_off.join(", ")}` : "";
  const said = element("p", {}, link(row, dag), ` has ${counted(row.rows, "vector")}; ${checks}${off}.`);
  return notice(warned > 0 ? "warning" : "good", "The newest partition is published.", "", said);
}

function failures(failed, total, dag) {
  const list = failed
    .slice(0, AT_MOST)
    .map((row) => element("li", {}, link(row, dag), ` ${word(row.status)}: ${reason(row)}`));
  const more = failed.length - AT_MOST;
  return notice(
    "bad",
    `${failed.length} of ${counted(total, "partition")} not published.`,
    "",
    element("ul", {}, list, more > 0 && element("li", { class: "muted" }, `and ${more} more, marked below`)),
  );
}

function link(row, dag) {
  if (!row.dag_run_id) return element("strong", {}, row.partition);
  return element("a", { href: runAddress(dag, row.dag_run_id) }, row.partition);
}
