// Airflow's own pages around ours.

import { element } from "./dom.js";

/** Airflow's window when this page is shown inside it, else null. */
function surrounding() {
  try {
    return window.parent !== window && window.parent.document ? window.parent : null;
  } catch {
    return null;
  }
}

/** Whether the page is shown in a tab of a Dag's run, so that Airflow says around it what the run is. */
export const inRunTab = /\/dags\//.test(surrounding()?.location.pathname ?? "");

/**
 * A link to a page of Airflow. Its frame may not lead the window around it elsewhere, but Airflow's router listens to
 * the history of that window.
 */
export function airflowLink(path, text) {
  const target = new URL(`../${path}`, new URL(".", location.href));
  const follow = (event) => {
    const airflow = surrounding();
    if (!airflow || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const index = airflow.history.state?.idx ?? 0;
    airflow.history.pushState({ idx: index + 1, key: "image-features", usr: null }, "", target.pathname);
    airflow.dispatchEvent(new PopStateEvent("popstate", { state: airflow.history.state }));
  };
  return element("a", { href: target.pathname, onclick: follow }, text);
}

/** The address of our page about a run, or about one part of it, as seen from our other pages. */
export function runAddress(dag, run, part) {
  return `runs?${query({ dag_id: dag, run_id: run, part })}`;
}

/** The address of the partitions of a Dag or a store; of all without them. */
export function overviewAddress({ dag, store }) {
  return `./?${query({ dag_id: dag, store })}`;
}

/** The address of the photos of a partition, or of one photo's neighbours. */
export function exploreAddress({ dag, ...parameters }) {
  return `explore?${query({ dag_id: dag, ...parameters })}`;
}

/** The address of the groups of duplicates, of a partition or of all. */
export function duplicatesAddress({ dag, ...parameters }) {
  return `duplicates?${query({ dag_id: dag, ...parameters })}`;
}

function query(parameters) {
  return new URLSearchParams(Object.entries(parameters).filter(([, value]) => value));
}
