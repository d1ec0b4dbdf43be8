// How far a run is, while it runs.

import { element } from "./dom.js";
import { count, counted, duration, rate } from "./format.js";
import { badge } from "./status.js";

const STATES = {
  done: ["good", "done"],
  failed: ["bad", "failed"],
  running: ["neutral", "running"],
  missing: ["neutral", "to come"],
  unreadable: ["warning", "unreadable"],
};
const ANNOUNCE_EVERY = 10;

/** Draws the stages and a bar; the same nodes are kept, so that the bar moves and the words are read now and then. */
export function progressPanel() {
  const stages = element("ol", { class: "stages" });
  const bar = element("progress", { max: "1", "aria-label": "Files done" });
  const words = element("p", { class: "number" });
  const spoken = element("p", { class: "hidden-visually", role: "status" });
  const panel = element("section", { class: "panel progress", "aria-label": "Progress" }, stages, bar, words, spoken);
  let told = -1;

  return ({ progress, stages: all }) => {
    stages.replaceChildren(...all.map(stage));
    const inExtract = progress && all.some(({ name, state }) => name === progress.stage && state === "running");
    if (!inExtract) {
      bar.removeAttribute("value");
      words.textContent = waiting(all);
      return panel;
    }
    const finished = progress.done + progress.failed;
    const share = progress.total > 0 ? finished / progress.total : 0;
    bar.value = share;
    const left = progress.eta_s === null ? "" : `, about ${duration(progress.eta_s)} left`;
    const aside = progress.failed > 0 ? `, ${count(progress.failed)} quarantined` : "";
    const resumed = progress.resumed > 0 ? `, ${count(progress.resumed)} resumed` : "";
    const done = `${count(finished)} of ${counted(progress.total, "file")}`;
    words.textContent = `${done}${resumed}, ${rate(progress.images_per_second)}${aside}${left}`;
    const step = Math.floor((share * 100) / ANNOUNCE_EVERY);
    if (step !== told) spoken.textContent = words.textContent;
    told = step;
    return panel;
  };
}

function stage({ name, state, total_seconds }) {
  const [tone, text] = STATES[state];
  const took = total_seconds === null ? null : element("span", { class: "muted number" }, duration(total_seconds));
  return element(
    "li",
    {},
    element("strong", {}, name),
    badge(tone, text, state === "running" ? "running" : undefined),
    took,
  );
}

function waiting(stages) {
  const current = stages.find(({ state }) => state === "running");
  return current
    ? `${current.name} is at work; it says how far it is once files are computed.`
    : "Waiting for its turn.";
}
