// What the run was made with: model, source, versions. For those who compare.

import { element } from "./dom.js";
import { count, counted, percent } from "./format.js";

/** The facts, folded away; null when nothing is known. */
export function about({ model, versions, source, table_versions, dag_run, chosen_store }) {
  const facts = [
    ["Run", dag_run.dag_run_id],
    ["Source", source],
    ["Store", chosen_store.name],
    ["Model", model && `${model.backbone}, ${model.weights}, ${model.precision}, ${count(model.dim)} numbers a vector`],
    ["Fingerprint", model?.fingerprint],
    ["Weights (sha256)", model?.weights_sha256],
    ["Engine", model && [model.engine, model.device].filter(Boolean).join(" on ")],
    ["Calibrated", calibrated(model?.calibration)],
    ["Cosine to fp32", cosines(model?.calibration)],
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

/** What an int8 model was calibrated on. */
function calibrated(calibration) {
  if (!calibration?.photos) return null;
  const partition = calibration.partition ? ` of ${calibration.partition}` : "";
  return `on ${counted(calibration.photos, "photo")}${partition}`;
}

/** How far an int8 model is from fp32, from the worst photo to the median; older models noted less. */
function cosines(calibration) {
  if (!calibration?.held_out) return null;
  const { cosine_min, cosine_q01, cosine_q05, cosine_median, below } = calibration;
  const written = [
    ["smallest", cosine_min],
    ["1 %", cosine_q01],
    ["5 %", cosine_q05],
    ["median", cosine_median],
  ]
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name} ${value.toFixed(4)}`);
  if (below !== null) written.push(`${percent(below)} below 0.99`);
  return `${written.join(", ")}, over ${counted(calibration.held_out, "photo")} it has not seen`;
}

function listed(pairs, before = "") {
  return Object.entries(pairs)
    .map(([name, value]) => `${name} ${before}${value}`)
    .join(", ");
}
