// The parts of a run that works on several partitions, stores or models: which there are, and which is shown.

import { runAddress } from "./airflow.js";
import { element } from "./dom.js";
import { UNKNOWN, counted } from "./format.js";
import { isFailure, statusBadge } from "./status.js";

/** The panel; `part` is the key of the one that the rest of the page is about. */
export function partsPanel({ parts, part }, { dag, run }) {
  const stores = new Set(parts.map(({ store }) => store.key));
  const mapped = parts.some(({ map_index }) => map_index !== null);
  const branched = parts.some(({ branch }) => branch);
  const columns = [
    ["Partition", ({ partition }) => partition],
    mapped && ["Map index", ({ map_index }) => map_index ?? UNKNOWN, "number"],
    branched && ["Tasks", ({ branch }) => branch || UNKNOWN],
    stores.size > 1 && ["Store", ({ store }) => store.name],
    ["Model", ({ model }) => model ?? UNKNOWN],
    ["Status", ({ status }) => (status ? statusBadge(status) : UNKNOWN), "corner"],
  ].filter(Boolean);
  const failed = parts.filter(({ status }) => isFailure(status)).length;
  const head = ([name, , kind]) =>
    element("th", { scope: "col", role: "columnheader", class: kind === "number" ? kind : null }, name);
  const row = (one) => {
    const [, ...others] = columns;
    const shown = one.key === part;
    const name = shown
      ? element("strong", { "aria-current": "true" }, one.partition)
      : element("a", { href: runAddress(dag, run, one.key), "data-key": one.key }, one.partition);
    return element(
      "tr",
      { role: "row", class: shown ? "chosen" : null },
      element("th", { scope: "row", role: "rowheader" }, name),
      others.map(([label, of, kind]) =>
        element("td", { role: "cell", "data-label": label, class: kind ?? null }, of(one)),
      ),
    );
  };
  return element(
    "section",
    { "aria-labelledby": "parts" },
    element(
      "div",
      { class: "section-head" },
      element("h2", { id: "parts" }, "Parts of this run"),
      element(
        "p",
        { class: "muted" },
        `${counted(parts.length, "part")}${failed > 0 ? `, ${failed} failed` : ""}; the one in bold is shown here`,
      ),
    ),
    element(
      "div",
      { class: "table-frame parts" },
      element(
        "table",
        { class: "cards", role: "table" },
        element("caption", { class: "hidden-visually" }, "Parts of this run"),
        element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, columns.map(head))),
        element("tbody", { role: "rowgroup" }, parts.map(row)),
      ),
    ),
  );
}
