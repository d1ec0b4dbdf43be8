// The page of the navigation: what ran, what came out, what was refused, and whether it is good.

import * as api from "./api.js";
import { element, fill } from "./dom.js";
import { counted } from "./format.js";
import { headline } from "./headline.js";
import { howToStart } from "./how_to_start.js";
import { measureCharts } from "./measure_charts.js";
import { refusal, storeNotice } from "./notice.js";
import { partitionTable } from "./partition_table.js";
import { poll } from "./polling.js";
import { isUnderWay } from "./status.js";

const NOTHING_THERE = ["empty", "missing", "not_configured"];
const SPANS = [30, 90];

const page = document.getElementById("page");
const address = new URLSearchParams(location.search);
const choice = { model: address.get("model"), span: Number(address.get("span")) || SPANS[0] };
let dag = null;
let shown = "";

async function look() {
  dag ??= await api.chosenDag();
  if (dag === null) {
    show(noDag());
    return { again: false };
  }
  const overview = await api.overview(dag, choice.model);
  const text = JSON.stringify(overview);
  const news = text !== shown;
  if (news) draw(overview);
  shown = text;
  const waiting = overview.partitions.length === 0 && overview.store.code === "empty";
  return { again: waiting || overview.partitions.some(({ status }) => isUnderWay(status)), news };
}

function draw(overview) {
  const { store, partitions } = overview;
  if (partitions.length === 0 && NOTHING_THERE.includes(store.code)) {
    show(howToStart(store, dag));
    return;
  }
  const rows = choice.span ? partitions.slice(0, choice.span) : partitions;
  show(
    storeNotice(store),
    toolbar(overview, rows.length),
    headline(rows, dag),
    rows.length > 0 && measureCharts(rows),
    rows.length > 0 && partitionTable(rows, dag),
    rows.length === 0 &&
      store.code === "ok" &&
      element("p", { class: "muted" }, "Nothing was published by this model."),
  );
}

function toolbar(overview, count) {
  const total = overview.partitions.length;
  const models = element(
    "select",
    { "data-key": "model", onchange: (event) => choose({ model: event.target.value || null }) },
    option("", "All models", overview.model === null),
    overview.models.map((model) => option(model, model, model === overview.model)),
  );
  const spans = element(
    "select",
    { "data-key": "span", onchange: (event) => choose({ span: event.target.value }, overview) },
    SPANS.map((span) => option(span, `Newest ${span}`, choice.span === span)),
    option("all", "All", !choice.span),
  );
  const words = count < total ? `${counted(count, "partition")} of ${total}` : counted(total, "partition");
  return element(
    "div",
    { class: "toolbar" },
    element("label", { class: "field" }, "Model", models),
    element("label", { class: "field" }, "Partitions", spans),
    element("p", { class: "muted push" }, `${words}, newest first`),
  );
}

function option(value, text, selected) {
  return element("option", { value, selected }, text);
}

function choose({ model, span }, overview) {
  if (span !== undefined) choice.span = Number(span) || 0;
  if (model !== undefined) choice.model = model;
  const query = new URLSearchParams(location.search);
  query.set("span", choice.span || "all");
  if (choice.model) query.set("model", choice.model);
  else query.delete("model");
  history.replaceState(null, "", `?${query}`);
  if (overview) draw(overview);
  else look().catch((error) => show(refusal(error)));
}

function noDag() {
  return refusal({
    message: "You may not read the runs of any Dag that computes image features.",
    hint: "Ask an administrator for the right to read the Dag image_features.",
  });
}

function show(...content) {
  fill(page, element("div", { class: "stack" }, content));
  page.setAttribute("aria-busy", "false");
}

poll(look, (error) => shown === "" && show(refusal(error)));
