// The page of the navigation: what ran, what came out, what was refused, and whether it is good.

import { duplicatesAddress, exploreAddress } from "./airflow.js";
import * as api from "./api.js";
import { element, fill, named, selectField } from "./dom.js";
import { counted } from "./format.js";
import { headline } from "./headline.js";
import { howToStart } from "./how_to_start.js";
import { measureCharts } from "./measure_charts.js";
import { notice, refusal, storeNotice } from "./notice.js";
import { partitionTable } from "./partition_table.js";
import { poll } from "./polling.js";
import { isUnderWay } from "./status.js";

const NOTHING_THERE = ["empty", "missing", "not_configured"];
const SPANS = [30, 90];

const page = document.getElementById("page");
const address = new URLSearchParams(location.search);
const choice = {
  dag: address.get("dag_id"),
  store: address.get("store"),
  model: address.get("model"),
  span: Number(address.get("span")) || SPANS[0],
};
let known = null;
let shown = "";

async function look() {
  known ??= await api.dags();
  if (known.dag_ids.length === 0) {
    show(noDag());
    return { again: false };
  }
  if (known.dag_ids.length === 1) choice.dag ??= known.dag_ids[0];
  const overview = await api.overview(choice.dag, choice);
  const text = JSON.stringify([overview, choice]);
  const news = text !== shown;
  if (news) draw(overview);
  shown = text;
  const waiting = overview.partitions.length === 0 && overview.store.code === "empty";
  return { again: waiting || overview.partitions.some(({ status }) => isUnderWay(status)), news };
}

function draw(overview) {
  const { store, stores, partitions } = overview;
  document.getElementById("explore").href = exploreAddress(choice);
  document.getElementById("duplicates").href = duplicatesAddress(choice);
  if (partitions.length === 0 && NOTHING_THERE.includes(store.code)) {
    show(known.dag_ids.length > 1 && toolbar(overview, 0), howToStart(store, choice.dag ?? known.dag_ids[0]));
    return;
  }
  const rows = choice.span ? partitions.slice(0, choice.span) : partitions;
  const names = new Map(stores.length > 1 ? stores.map(({ key, name }) => [key, name]) : []);
  const series = new Set(rows.map((row) => (choice.dag === null ? `${row.dag_id} ${row.store}` : row.store)));
  show(
    stores.length === 1 ? storeNotice(store) : stores.map(storeTrouble),
    overview.search.map(({ tone, message, hint }) => notice(tone, message, hint)),
    toolbar(overview, rows.length),
    headline(rows, names),
    series.size === 1 && measureCharts(rows),
    series.size > 1 &&
      element("p", { class: "muted" }, "Choose one Dag and store to see its measures over time as charts."),
    rows.length > 0 && partitionTable(rows, { withDags: choice.dag === null, names }),
    rows.length === 0 &&
      store.code === "ok" &&
      element("p", { class: "muted" }, "Nothing was published by this model."),
  );
}

/** What is wrong with one of several stores; one in which nothing is published yet is well. */
function storeTrouble({ name, state }) {
  if (["ok", "empty", "missing"].includes(state.code)) return null;
  return storeNotice({ ...state, message: `${name}: ${state.message}` });
}

function toolbar(overview, count) {
  const total = overview.partitions.length;
  const words = count < total ? `${counted(count, "partition")} of ${total}` : counted(total, "partition");
  const stores = storesOf(choice.dag);
  const spans = [...SPANS.map((span) => [String(span), `Newest ${span}`]), ["all", "All"]];
  const field = (label, options, chosen, change) =>
    selectField(label, options, chosen, (value) => change(value || null));
  return element(
    "div",
    { class: "toolbar" },
    known.dag_ids.length > 1 &&
      field("Dag", [["", "All Dags"], ...named(known.dag_ids)], choice.dag, (dag) =>
        choose({ dag, store: null, model: null }),
      ),
    stores.size > 1 &&
      field("Store", [["", "All stores"], ...stores], choice.store, (store) => choose({ store, model: null })),
    field("Model", [["", "All models"], ...named(overview.models)], overview.model, (model) => choose({ model })),
    field("Partitions", spans, choice.span ? String(choice.span) : "all", (span) =>
      choose({ span: Number(span) || 0 }, overview),
    ),
    element("p", { class: "muted push" }, `${words}, newest first`),
  );
}

/** Key → name of the stores of a Dag, of all Dags without one. */
function storesOf(dag) {
  const dags = known.dags.filter(({ dag_id }) => dag === null || dag === dag_id);
  return new Map(dags.flatMap(({ stores }) => stores.map(({ key, name }) => [key, name])));
}

/** Shows something else; with an `overview` the same answer in another way. */
function choose(change, overview) {
  Object.assign(choice, change);
  const query = new URLSearchParams(location.search);
  const said = { dag_id: choice.dag, store: choice.store, model: choice.model, span: choice.span || "all" };
  for (const [name, value] of Object.entries(said)) {
    if (value === null) query.delete(name);
    else query.set(name, value);
  }
  history.replaceState(null, "", `?${query}`);
  if (overview) draw(overview);
  else look().catch((error) => show(refusal(error)));
}

function noDag() {
  return refusal({
    message: "You may not read the runs of any Dag that computes image features.",
    hint: "Ask an administrator for the right to read one of these Dags.",
  });
}

function show(...content) {
  fill(page, element("div", { class: "stack" }, content));
  page.setAttribute("aria-busy", "false");
}

poll(look, (error) => shown === "" && show(refusal(error)));
