// Pick a photo, or bring one, and see which photos are nearest to it. A neighbour leads on to its own neighbours.

import * as api from "./api.js";
import { duplicatesAddress, exploreAddress, overviewAddress } from "./airflow.js";
import { element, fill, named, pager, selectField } from "./dom.js";
import { count, counted } from "./format.js";
import { neighboursPanel } from "./neighbours.js";
import { notice, refusal } from "./notice.js";
import { photoCard } from "./photo.js";
import { scopeFields } from "./scope.js";
import { uploadField } from "./upload.js";
import { wordsField } from "./words.js";

const NEIGHBOURS = 24;
/** What the built-in extractors read: its name, and the files a viewer may bring. */
const KINDS = {
  image: { noun: "photo", accept: "image/*" },
  text: { noun: "text", accept: "text/*" },
  audio: { noun: "sound", accept: "audio/*" },
};

const IN_ADDRESS = ["store", "partition", "model", "image", "words", "first", "last"];

const page = document.getElementById("page");
const announcer = document.getElementById("announcer");

/**
 * What is shown: {dag, store, partition, model, image, words, first, last, number} with the key of the store, the
 * photo or the words that are asked about, the partitions that are searched (all without them) and the page number of
 * the photos; the address has it too.
 */
let place = {};
let known = null;
let listed = null;
let asked = null;
/** How to ask the last question again: for another page, or elsewhere. */
let again = null;

const bar = element("div");
const result = element("div", { class: "result" });
const list = element("section", { "aria-labelledby": "photos" });

async function start() {
  known = await api.dags();
  const asked = fromAddress();
  const dag = asked.dag ?? known.dag_ids[0] ?? null;
  if (dag === null)
    throw new api.Refusal({ message: "You may not read the runs of any Dag that computes image features." });
  place = { ...asked, dag, store: asked.store ?? storesOf(dag)[0]?.key, number: 1 };
  document.getElementById("partitions").href = overviewAddress({ dag: asked.dag, store: asked.store });
  if (!place.partition) Object.assign(place, await newest(asked));
  document.getElementById("duplicates").href = duplicatesAddress({ dag: place.dag, store: place.store });
  drawBar();
  if (!place.partition) {
    const words = notice("neutral", "There is nothing to explore yet.", "Come back once a partition is published.");
    fill(page, element("div", { class: "stack" }, bar, words));
    return;
  }
  fill(page, element("div", { class: "stack" }, bar, result, list));
  if (place.image) ask();
  else if (place.words) askOfWords();
  await showPhotos();
}

function fromAddress() {
  const query = new URLSearchParams(location.search);
  return { dag: query.get("dag_id"), ...Object.fromEntries(IN_ADDRESS.map((name) => [name, query.get(name)])) };
}

/** Where the newest published partition is, of the Dag, store and model that are asked for. */
async function newest({ dag, store, model }) {
  const { store: state, partitions } = await api.overview(dag, { store, model });
  const published = partitions.find(({ published_run_id, rows }) => published_run_id !== null && rows);
  if (!published && !["ok", "empty", "missing"].includes(state.code)) throw new api.Refusal(state);
  if (!published) return {};
  return {
    dag: published.dag_id ?? place.dag,
    store: published.store,
    partition: published.partition,
    model: model ?? published.model,
  };
}

function storesOf(dag) {
  return known.dags.find(({ dag_id }) => dag_id === dag)?.stores ?? [];
}

async function showPhotos() {
  try {
    listed = await api.photos(place);
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
  const days = named([place.partition, ...partitions.keys()]);
  const stores = storesOf(place.dag);
  fill(
    bar,
    element(
      "div",
      { class: "toolbar" },
      known.dag_ids.length > 1 &&
        selectField("Dag", named([place.dag, ...known.dag_ids]), place.dag, (dag) => leave({ dag })),
      stores.length > 1 &&
        selectField("Store", stores.map(({ key, name }) => [key, name]), place.store, (store) =>
          leave({ dag: place.dag, store }),
        ),
      place.partition &&
        selectField("Partition", days, place.partition, (partition) =>
          go({ partition, model: partitions.get(partition).find((model) => model === place.model), image: null }),
        ),
      place.partition &&
        selectField("Model", named([place.model ?? "", ...models]), place.model, (model) => go({ model, image: null })),
      place.partition && scopeFields(place, days.map(([key]) => key), lookIn),
      listed?.words && wordsField(kind, place.words, (words) => go({ words, image: null })),
      kind && uploadField(kind, askOf),
    ),
  );
}

/** Searches other partitions from now on, also for what is shown. */
function lookIn({ first, last }) {
  Object.assign(place, { first, last });
  history.replaceState(null, "", exploreAddress(pick(place)));
  drawBar();
  again?.(1);
}

/** Goes to another Dag or store, of which nothing is known here yet. */
function leave(parameters) {
  location.assign(exploreAddress(parameters));
}

function drawPhotos() {
  const { photos, total, truncated } = listed;
  const kind = KINDS[listed.extractor] ?? { noun: "file" };
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
    pager(`${kind.noun}s`, listed, turnTo),
  );
}

async function turnTo(number) {
  place.number = number;
  await showPhotos();
  list.scrollIntoView({ block: "start" });
}

/** A link to a photo's neighbours that needs no new page. */
function linkTo({ image_id, partition = place.partition }) {
  const follow = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go({ image: image_id, partition });
  };
  return { href: exploreAddress(moved({ image: image_id, partition })), onclick: follow };
}

/** Shows another photo, partition or model; the browser's back button comes back here. */
function go(change) {
  history.pushState(null, "", exploreAddress(moved(change)));
  arrive();
}

/** What is shown after a change; who searches one partition goes on to search the one that is gone to. */
function moved(change) {
  const next = { ...pick(place), words: null, ...change };
  const one = place.first && place.first === place.partition && place.last === place.partition;
  return one ? { ...next, first: next.partition, last: next.partition } : next;
}

function pick({ dag, store, partition, model, image, words, first, last }) {
  return { dag, store, partition, model, image, words, first, last };
}

async function arrive() {
  const { partition, model, image, words, first, last } = fromAddress();
  const same = listed && partition === place.partition && model === place.model;
  Object.assign(place, { partition: partition ?? place.partition, model, image, words, first, last });
  if (image) ask();
  else if (words) askOfWords();
  else clear();
  if (!same) place.number = 1;
  drawBar();
  if (same) drawPhotos();
  else await showPhotos();
}

function ask(page = 1) {
  const now = pick(place);
  again = ask;
  search((signal) => api.neighbours(now, { k: NEIGHBOURS, page }, signal), "Looking for its neighbours …", null);
}

function askOfWords(page = 1) {
  const now = pick(place);
  again = askOfWords;
  search((signal) => api.neighboursOfWords(now, { k: NEIGHBOURS, page }, signal), `Looking for “${now.words}” …`, null);
}

function askOf(file, page = 1) {
  const now = pick(place);
  again = (number) => askOf(file, number);
  search((signal) => api.neighboursOf(file, now, { k: NEIGHBOURS, page }, signal), `Looking at ${file.name} …`, file);
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
    const panel = neighboursPanel(found, place, { linkTo, file, close: () => go({ image: null }), turn: again });
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
  again = null;
  fill(result);
  list.hidden = false;
  announcer.textContent = "";
}

addEventListener("popstate", arrive);
start()
  .catch((error) => fill(page, element("div", { class: "stack" }, refusal(error))))
  .finally(() => page.setAttribute("aria-busy", "false"));
