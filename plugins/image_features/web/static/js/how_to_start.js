// What to do while there is nothing to show.

import { airflowLink } from "./airflow.js";
import { element } from "./dom.js";
import { toneIcon } from "./status.js";

/** The steps to the first vectors, with what the store says of itself. */
export function howToStart(store, dag) {
  const setting = (name, example) => element("code", {}, `${name} = ${example}`);
  return element(
    "section",
    { class: "panel how-to-start" },
    element("h2", {}, "No photos have been turned into vectors yet"),
    element(
      "p",
      {},
      element("span", { class: "neutral toned" }, toneIcon("neutral")),
      " ",
      store.message,
      " ",
      store.hint,
    ),
    element(
      "ol",
      {},
      element(
        "li",
        {},
        "Say where photos and results live, in the section ",
        element("code", {}, "[image_features]"),
        " of Airflow's configuration: ",
        setting("source", "/data/landing/{partition}"),
        " and ",
        setting("store", "/data/features"),
        ".",
      ),
      element(
        "li",
        {},
        "Put photos into a folder of the source, named for its day: ",
        element("code", {}, "2026-11-22"),
        ".",
      ),
      element(
        "li",
        {},
        "Open the Dag ",
        airflowLink(`dags/${encodeURIComponent(dag)}`, dag),
        " and trigger it; its form explains every choice.",
      ),
      element("li", {}, "Come back: this page shows the run as soon as it has begun."),
    ),
  );
}
