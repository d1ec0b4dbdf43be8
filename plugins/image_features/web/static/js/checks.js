// The checks, the failed ones first, each with its value against its limit.

import { element } from "./dom.js";
import { UNKNOWN, count, fraction, percent, significant } from "./format.js";
import { badge, quiet } from "./status.js";

const SHARES = ["failed_fraction", "identical_vectors", "photo_quality", "duplicates"];
const TITLES = {
  reconciliation: "Every file accounted for",
  some_features: "Some vectors",
  failed_fraction: "Share of quarantined files",
  dimension: "Length of the vectors",
  finite: "Finite values",
  constant: "More than one value",
  identical_vectors: "Photos sharing a vector",
  fingerprint: "One model",
  recomputation: "Recomputed vectors",
  drift: "Drift against recent days",
  row_count: "Vectors against recent days",
  photo_quality: "Poor photos against recent days",
  duplicates: "Duplicates against recent days",
};

const SIGNS = { at_most: ["≤", "at most"], at_least: ["≥", "at least"], equals: ["=", "exactly"] };

const isOff = ({ severity }) => severity === "off";

/** The table of checks; null while there are none. */
export function checkTable(checks) {
  if (checks.length === 0) return null;
  const run = checks.filter(({ severity }) => severity !== "off");
  const failed = run.filter(({ passed }) => !passed).length;
  const off = checks.length - run.length;
  const order = (check) => (isOff(check) ? 3 : check.passed ? 2 : check.severity === "error" ? 0 : 1);
  const sorted = [...checks].sort((one, other) => order(one) - order(other));
  const head = (text, number) =>
    element("th", { scope: "col", role: "columnheader", class: number ? "number" : null }, text);
  return element(
    "section",
    { "aria-labelledby": "checks" },
    element(
      "div",
      { class: "section-head" },
      element("h2", { id: "checks" }, "Checks"),
      element(
        "p",
        { class: "muted" },
        failed ? `${failed} of ${run.length} did not pass` : `all ${run.length} passed`,
        off > 0 && `, ${off} turned off`,
      ),
    ),
    element(
      "div",
      { class: "table-frame" },
      element(
        "table",
        { class: "cards three", role: "table", "aria-labelledby": "checks" },
        element(
          "thead",
          { role: "rowgroup" },
          element(
            "tr",
            { role: "row" },
            head("Check"),
            head("Result"),
            head("Level"),
            head("Value", true),
            head("Limit", true),
            head("What it says"),
          ),
        ),
        element("tbody", { role: "rowgroup" }, sorted.map(checkRow)),
      ),
    ),
  );
}

function checkRow(check) {
  const { name, passed, severity, value, limit, warn_limit, relation, message, offenders } = check;
  const tone = isOff(check) ? "neutral" : passed ? "good" : severity === "error" ? "bad" : "warning";
  const cell = (label, kind, ...content) =>
    element("td", { role: "cell", "data-label": label, class: kind }, ...content);
  return element(
    "tr",
    { role: "row", class: passed || isOff(check) ? null : `flagged ${tone}` },
    element(
      "th",
      { scope: "row", role: "rowheader" },
      TITLES[name] ?? name,
      " ",
      element("code", { class: "muted" }, name),
    ),
    cell(
      "Result",
      "corner",
      isOff(check)
        ? badge(tone, "not run", "skipped")
        : passed
          ? quiet("good", "passed")
          : badge(tone, severity === "error" ? "failed" : "warning"),
    ),
    cell("Level", "", severity),
    cell("Value", "number", element("strong", {}, written(name, value))),
    cell(
      "Limit",
      "number",
      limit === null ? UNKNOWN : limitOf(name, relation, limit),
      warn_limit !== null &&
        element("span", { class: "below" }, " without a warning ", limitOf(name, relation, warn_limit)),
    ),
    element("td", { role: "cell", class: "wide says" }, message, offenders.length > 0 && offendersList(offenders)),
  );
}

/** A limit with the relation that the check says a value must have to it. */
function limitOf(name, relation, limit) {
  if (relation === "within") return `${written(name, limit, true)} to ${written(name, 1 / limit, true)}`;
  const [sign, spoken] = SIGNS[relation] ?? ["", ""];
  return element(
    "span",
    {},
    element("span", { "aria-hidden": "true" }, `${sign} `),
    element("span", { class: "hidden-visually" }, `${spoken} `),
    written(name, limit, true),
  );
}

function offendersList(offenders) {
  const words =
    offenders.length === 10 ? "The first 10 files" : `${offenders.length} ${offenders.length === 1 ? "file" : "files"}`;
  return element(
    "details",
    {},
    element("summary", {}, words),
    element(
      "ul",
      {},
      offenders.map((name) => element("li", {}, element("code", {}, name))),
    ),
  );
}

/** A value or limit in the unit of its check. */
function written(name, value, isLimit = false) {
  if (value === null) return UNKNOWN;
  if (SHARES.includes(name)) return percent(value);
  if (name === "recomputation") return significant(value, 8);
  if (name === "drift") return isLimit ? significant(value) : fraction(value);
  if (name === "row_count") return `${significant(value)} ×`;
  return count(value);
}
