// Which partitions a search goes through: all, the one that is shown, or those from one to another.

import { element } from "./dom.js";

/** The fields for `place` {partition, first, last}, of `partitions`, newest first; `change` gets {first, last}. */
export function scopeFields({ partition, first, last }, partitions, change) {
  const scope = !first && !last ? "all" : first === partition && last === partition ? "one" : "span";
  const oldest = partitions.at(-1);
  const spans = { all: {}, one: { first: partition, last: partition }, span: { first: oldest, last: partition } };
  const field = (label, key, options, chosen, choose) =>
    element(
      "label",
      { class: "field" },
      label,
      element(
        "select",
        { "data-key": key, onchange: (event) => choose(event.target.value) },
        options.map(([value, text]) => element("option", { value, selected: value === chosen }, text)),
      ),
    );
  const keys = [...new Set([first, last, ...partitions].filter(Boolean))].map((value) => [value, value]);
  const given = ({ first = null, last = null }) => change({ first, last });
  const scopes = [
    ["all", "All partitions"],
    ["one", "This partition"],
    ["span", "From … to …"],
  ];
  return [
    field("Search in", "scope", scopes, scope, (value) => given(spans[value])),
    scope === "span" && field("From", "first", keys, first, (value) => given({ first: value, last })),
    scope === "span" && field("To", "last", keys, last, (value) => given({ first, last: value })),
  ];
}
