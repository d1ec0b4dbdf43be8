// What the run was made with: model, source, versions. For those who compare.

import { element } from "./dom.js";
import { count } from "./format.js";

/** The facts, folded away; null when nothing is known. */
export function about({ model, versions, source, table_versions, dag_run }) {
  const facts = [
    ["Run", dag_run.dag_run_id],
    ["Source", source],
    ["Model", model && `${model.backbone}, ${model.weights}, ${model.precision}, ${count(model.dim)} numbers a vector`],
    ["Fingerprint", model?.fingerprint],
    ["Weights (sha256)", model?.weights_sha256],
    ["Engine", model && [model.engine, model.device].filter(Boolean).join(" on ")],
    ["Tables", listed(table_versions, "version ")],
    ["Versions", listed(versions)],
  ].filter(([, value]) => value);
  if (facts.length === 0) return null;
  return element(
    "details",
    { class: "panel" },
    element("summary", {}, "Model, source and versions"),
    element(
      "dl",
      { class: "facts" },
      facts.map(([name, value]) => [element("dt", {}, name), element("dd", {}, element("code", {}, value))]),
    ),
  );
}

function listed(pairs, before = "") {
  return Object.entries(pairs)
    .map(([name, value]) => `${name} ${before}${value}`)
    .join(", ");
}
