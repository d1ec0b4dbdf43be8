// Which partitions a search goes through: all, the one that is shown, or those from one to another.

import { named, selectField } from "./dom.js";

/** The fields for `place` {partition, first, last}, of `partitions`, newest first; `change` gets {first, last}. */
export function scopeFields({ partition, first, last }, partitions, change) {
  const scope = !first && !last ? "all" : first === partition && last === partition ? "one" : "span";
  const oldest = partitions.at(-1);
  const spans = { all: {}, one: { first: partition, last: partition }, span: { first: oldest, last: partition } };
  const keys = named([first, last, ...partitions].filter(Boolean));
  const given = ({ first = null, last = null }) => change({ first, last });
  const scopes = [
    ["all", "All partitions"],
    ["one", "This partition"],
    ["span", "From … to …"],
  ];
  return [
    selectField("Search in", scopes, scope, (value) => given(spans[value])),
    scope === "span" && selectField("From", keys, first, (value) => given({ first: value, last })),
    scope === "span" && selectField("To", keys, last, (value) => given({ first, last: value })),
  ];
}
