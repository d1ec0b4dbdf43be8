// Groups of photos that show the same picture, the one to keep first. A photo leads on to its neighbours.

import * as api from "./api.js";
import { duplicatesAddress, exploreAddress, overviewAddress } from "./airflow.js";
import { element, fill, named, pager, selectField } from "./dom.js";
import { count, counted } from "./format.js";
import { notice, refusal } from "./notice.js";
import { picture } from "./photo.js";

const KINDS = [
  ["", "exact and near"],
  ["exact", "with exact copies"],
  ["near", "with near copies"],
];
const SIMILARITIES = [
  ["", "any"],
  ["0.85", "0.85 or more"],
  ["0.9", "0.90 or more"],
  ["0.95", "0.95 or more"],
  ["0.99", "0.99 or more"],
];
const IN_ADDRESS = ["store", "partition", "model", "kind", "similarity"];

const page = document.getElementById("page");
const announcer = document.getElementById("announcer");

/** What is shown: {dag, store, partition, model, kind, similarity, number}; the address has it too. */
let place = {};
let known = null;

const bar = element("div");
const list = element("section", { "aria-labelledby": "groups" });

async function start() {
  known = await api.dags();
  arrive();
  if (place.dag === null)
    throw new api.Refusal({ message: "You may not read the runs of any Dag that computes image features." });
  fill(page, element("div", { class: "stack" }, bar, list));
  await show();
}

function arrive() {
  const query = new URLSearchParams(location.search);
  const asked = Object.fromEntries(IN_ADDRESS.map((name) => [name, query.get(name)]));
  const dag = query.get("dag_id") ?? known.dag_ids[0] ?? null;
  place = { ...asked, dag, store: asked.store ?? storesOf(dag)[0]?.key, number: 1 };
  document.getElementById("partitions").href = overviewAddress({ dag: query.get("dag_id"), store: asked.store });
  document.getElementById("explore").href = exploreAddress({ dag, store: asked.store });
}

function storesOf(dag) {
  return known.dags.find(({ dag_id }) => dag_id === dag)?.stores ?? [];
}

async function show() {
  try {
    const answer = await api.duplicates(place);
    drawBar(answer);
    draw(answer);
    announcer.textContent = `${counted(answer.groups_total, "group")} found.`;
  } catch (error) {
    fill(list, refusal(error));
  }
}

function drawBar({ partitions, models, model }) {
  const stores = storesOf(place.dag);
  const days = place.partition ? [place.partition, ...partitions] : partitions;
  const go = (change) => location.assign(duplicatesAddress({ ...pick(), ...change }));
  fill(
    bar,
    element(
      "div",
      { class: "toolbar" },
      known.dag_ids.length > 1 &&
        selectField("Dag", named(known.dag_ids), place.dag, (dag) => location.assign(duplicatesAddress({ dag }))),
      stores.length > 1 &&
        selectField("Store", stores.map(({ key, name }) => [key, name]), place.store, (store) =>
          location.assign(duplicatesAddress({ dag: place.dag, store })),
        ),
      selectField("Partition", [["", "all"], ...named(days)], place.partition, (partition) => go({ partition })),
      models.length > 1 && selectField("Model", named(models), model, (chosen) => go({ model: chosen })),
      selectField("Groups", KINDS, place.kind, (kind) => go({ kind })),
      selectField("Similarity", SIMILARITIES, place.similarity, (similarity) => go({ similarity })),
    ),
  );
}

function pick() {
  const { number, ...others } = place;
  return others;
}

function draw(answer) {
  const { looked, groups, groups_total, files_total } = answer;
  if (!looked) {
    const hint = "python -m spark_apps.duplicates, or a DuplicatesOperator in a Dag, does so.";
    fill(list, notice("neutral", "Nobody has looked for duplicates in this store yet.", hint));
    return;
  }
  const words = `${counted(files_total, "file")}, of which ${count(files_total - groups_total)} could be spared`;
  fill(
    list,
    element(
      "div",
      { class: "section-head" },
      element("h2", { id: "groups" }, counted(groups_total, "group")),
      element("p", { class: "muted" }, groups_total ? words : "No files show the same picture."),
    ),
    element("div", { class: "groups" }, groups.map(groupPanel)),
    pager("groups", answer, turnTo),
  );
}

async function turnTo(number) {
  place.number = number;
  await show();
  list.scrollIntoView({ block: "start" });
}

function groupPanel({ group_id, size, files }) {
  const days = new Set(files.map(({ partition }) => partition));
  const more = size - files.length;
  return element(
    "article",
    { class: "group", "aria-label": `Group ${group_id}` },
    element(
      "div",
      { class: "section-head" },
      element("h3", {}, `${counted(size, "file")} of ${[...days].slice(0, 3).join(", ")}${days.size > 3 ? " …" : ""}`),
      element("p", { class: "muted" }, `group ${group_id}`),
    ),
    element("ul", { class: "photos" }, files.map(fileCard)),
    more > 0 && element("p", { class: "muted" }, `and ${count(more)} more`),
  );
}

function fileCard(file) {
  const { partition, image_id, name, keeper, kind, similarity, width, height } = file;
  const at = { dag: place.dag, store: place.store, partition };
  const href = exploreAddress({ ...at, model: place.model, image: image_id });
  const alike = kind === "exact" ? "same bytes" : `similarity ${similarity.toFixed(3)}`;
  return element(
    "li",
    { class: "photo" },
    element(
      "a",
      { href },
      picture(api.thumbnail(at, image_id)),
      element("span", { class: "photo-name", title: name }, name),
    ),
    keeper ? element("span", { class: "kept" }, `keep · ${alike}`) : element("span", {}, alike),
    element("span", { class: "muted" }, [width && `${width} × ${height}`, partition].filter(Boolean).join(" · ")),
  );
}

addEventListener("popstate", () => {
  arrive();
  show();
});
start()
  .catch((error) => fill(page, element("div", { class: "stack" }, refusal(error))))
  .finally(() => page.setAttribute("aria-busy", "false"));
