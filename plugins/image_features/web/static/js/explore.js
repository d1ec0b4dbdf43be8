// Pick a photo, or bring one, and see which photos are nearest to it. A neighbour leads on to its own neighbours.

import * as api from "./api.js";
import { exploreAddress } from "./airflow.js";
import { element, fill } from "./dom.js";
import { count, counted } from "./format.js";
import { neighboursPanel } from "./neighbours.js";
import { notice, refusal } from "./notice.js";
import { photoCard } from "./photo.js";
import { uploadField } from "./upload.js";

const NEIGHBOURS = 24;
/** What the built-in extractors read: its name, and the files a viewer may bring. */
const KINDS = {
  image: { noun: "photo", accept: "image/*" },
  text: { noun: "text", accept: "text/*" },
  audio: { noun: "sound", accept: "audio/*" },
};

const page = document.getElementById("page");
const announcer = document.getElementById("announcer");

/** What is shown: {dag, partition, model, image, number} with the page number of the photos; the address has it too. */
let place = {};
let listed = null;
let asked = null;

const bar = element("div");
const result = element("div", { class: "result" });
const list = element("section", { "aria-labelledby": "photos" });

async function start() {
  const dag = await api.chosenDag();
  if (dag === null)
    throw new api.Refusal({ message: "You may not read the runs of any Dag that computes image features." });
  let { partition, model, image } = fromAddress();
  if (!partition) partition = await newestPartition(dag, model);
  if (partition === null) {
    fill(
      page,
      element(
        "div",
        { class: "stack" },
        notice("neutral", "There is nothing to explore yet.", "Come back once a partition is published."),
      ),
    );
    return;
  }
  place = { dag, partition, model, image, number: 1 };
  drawBar();
  fill(page, element("div", { class: "stack" }, bar, result, list));
  if (image) ask();
  await showPhotos();
}

function fromAddress() {
  const query = new URLSearchParams(location.search);
  return { partition: query.get("partition"), model: query.get("model"), image: query.get("image") };
}

async function newestPartition(dag, model) {
  const { store, partitions } = await api.overview(dag, model);
  const published = partitions.find(({ published_run_id, rows }) => published_run_id !== null && rows);
  if (!published && !["ok", "empty"].includes(store.code)) throw new api.Refusal(store);
  return published?.partition ?? null;
}

async function showPhotos() {
  try {
    listed = await api.photos(place.dag, place.partition, place.model, place.number);
    place.model = listed.model;
    drawBar();
    drawPhotos();
  } catch (error) {
    fill(list, refusal(error));
  }
}

function drawBar() {
  const partitions = new Map((listed?.partitions ?? []).map(({ partition, models }) => [partition, models]));
  const models = partitions.get(place.partition) ?? [];
  const kind = KINDS[listed?.extractor];
  const select = (label, options, chosen, key, change) =>
    element(
      "label",
      { class: "field" },
      label,
      element(
        "select",
        { "data-key": key, onchange: (event) => change(event.target.value) },
        [...new Set([chosen ?? "", ...options])].map((value) =>
          element("option", { value, selected: value === chosen }, value),
        ),
      ),
    );
  fill(
    bar,
    element(
      "div",
      { class: "toolbar" },
      select("Partition", partitions.keys(), place.partition, "partition", (partition) =>
        go({ partition, model: partitions.get(partition).find((model) => model === place.model), image: null }),
      ),
      select("Model", models, place.model, "model", (model) => go({ model, image: null })),
      kind && uploadField(kind, askOf),
    ),
  );
}

function drawPhotos() {
  const { photos, page: number, pages, total, truncated } = listed;
  const kind = KINDS[listed.extractor] ?? { noun: "file" };
  const turn = (text, target) =>
    element(
      "button",
      { type: "button", "data-key": text, disabled: target < 1 || target > pages, onclick: () => turnTo(target) },
      text,
    );
  const words = truncated
    ? `the first ${count(total)} of them; neighbours are found among all`
    : counted(total, kind.noun);
  fill(
    list,
    element(
      "div",
      { class: "section-head" },
      element("h2", { id: "photos" }, `${kind.noun[0].toUpperCase()}${kind.noun.slice(1)}s of ${place.partition}`),
      element("p", { class: "muted" }, words),
    ),
    element(
      "ul",
      { class: "photos" },
      photos.map((photo) => photoCard(photo, place, { link: linkTo(photo), current: photo.image_id === place.image })),
    ),
    pages > 1 &&
      element(
        "nav",
        { class: "pager", "aria-label": `Pages of ${kind.noun}s` },
        turn("Previous", number - 1),
        element("span", { class: "number", role: "status" }, `Page ${count(number)} of ${count(pages)}`),
        turn("Next", number + 1),
      ),
  );
}

async function turnTo(number) {
  place.number = number;
  await showPhotos();
  list.scrollIntoView({ block: "start" });
}

/** A link to a photo's neighbours that needs no new page. */
function linkTo({ image_id }) {
  const follow = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go({ image: image_id });
  };
  return { href: exploreAddress({ partition: place.partition, model: place.model, image: image_id }), onclick: follow };
}

/** Shows another photo, partition or model; the browser's back button comes back here. */
function go(change) {
  history.pushState(null, "", exploreAddress({ ...pick(place), ...change }));
  arrive();
}

function pick({ partition, model, image }) {
  return { partition, model, image };
}

async function arrive() {
  const { partition, model, image } = fromAddress();
  const same = listed && partition === place.partition && model === place.model;
  Object.assign(place, { partition: partition ?? place.partition, model, image });
  if (image) ask();
  else clear();
  if (same) drawPhotos();
  else {
    place.number = 1;
    drawBar();
    await showPhotos();
  }
}

function ask() {
  const { dag, partition, model, image } = place;
  const request = (signal) => api.neighbours(dag, partition, { model, image, k: NEIGHBOURS }, signal);
  search(request, "Looking for its neighbours …", null);
}

function askOf(file) {
  const words = `Looking at ${file.name} …`;
  search(
    (signal) => api.neighboursOf(file, place.dag, place.partition, { model: place.model, k: NEIGHBOURS }, signal),
    words,
    file,
  );
}

/** Shows an answer in the place of the list. */
async function search(request, words, file) {
  asked?.abort();
  asked = new AbortController();
  const { signal } = asked;
  announcer.textContent = words;
  list.hidden = true;
  fill(result, element("p", { class: "panel waiting" }, element("span", { class: "spinner" }), words));
  try {
    const found = await request(signal);
    const panel = neighboursPanel(found, place, { linkTo, file, close: () => go({ image: null }) });
    fill(result, panel);
    announcer.textContent = `${counted(found.neighbours.length, "neighbour")} found.`;
    panel.querySelector("h2").focus({ preventScroll: true });
  } catch (error) {
    if (signal.aborted) return;
    fill(result, refusal(error));
    list.hidden = false;
  }
}

function clear() {
  asked?.abort();
  fill(result);
  list.hidden = false;
  announcer.textContent = "";
}

addEventListener("popstate", arrive);
start()
  .catch((error) => fill(page, element("div", { class: "stack" }, refusal(error))))
  .finally(() => page.setAttribute("aria-busy", "false"));
