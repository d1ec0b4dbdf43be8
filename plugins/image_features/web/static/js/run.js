// The page of one run, a tab of Airflow's Dag run and task instance. The verdict comes first.

import { about } from "./about.js";
import { airflowLink, duplicatesAddress, exploreAddress, inRunTab, overviewAddress } from "./airflow.js";
import * as api from "./api.js";
import { checkTable } from "./checks.js";
import { countsPanel } from "./counts.js";
import { daysCharts } from "./days.js";
import { element, fill } from "./dom.js";
import { driftPanel } from "./drift.js";
import { clock, zone } from "./format.js";
import { notice, refusal, storeNotice } from "./notice.js";
import { partsPanel } from "./parts.js";
import { poll } from "./polling.js";
import { poorPanel } from "./poor.js";
import { progressPanel } from "./progress.js";
import { quarantinePanel } from "./quarantine.js";
import { samplePanel } from "./sample.js";
import { timesPanel } from "./times.js";
import { verdictNotice } from "./verdict.js";

const address = new URLSearchParams(location.search);
const dag = address.get("dag_id");
const run = address.get("run_id");
const asked = { dag, run, part: address.get("part") };
const page = document.getElementById("page");
const announcer = document.getElementById("announcer");

/** The parts of the page, top to bottom: what of the report they show, and how; null shows nothing. */
const PARTS = [
  [(report) => report.store, storeNotice],
  [({ verdict, published, published_run_id }) => ({ verdict, published, published_run_id }), verdictNotice],
  [({ search }) => warning(search), ({ tone, message, hint }) => notice(tone, message, hint)],
  [({ duplicates }) => warning(duplicates), ({ tone, message, hint }) => notice(tone, message, hint)],
  [({ parts, part }) => (parts.length > 1 ? { parts, part } : null), (told) => partsPanel(told, asked)],
  [({ live, verdict, progress, stages }) => (live && !verdict.question ? { progress, stages } : null), progressPanel()],
  [({ checks }) => checks, checkTable],
  [({ counts, live, duplicates }) => ({ counts, live, duplicates }), countsPanel],
  [({ stages }) => stages, timesPanel],
  [({ norms, drift, partition }) => ({ norms, drift, partition }), daysCharts],
  [
    ({ drift, published, partition, model, chosen_store, part }) => ({
      ...{ drift, published, partition, model, chosen_store, part },
    }),
    (shown) => driftPanel(shown, at(shown)),
  ],
  [
    ({ quarantine, part, chosen_store }) => ({ quarantine, part, chosen_store }),
    (shown) => quarantinePanel(shown.quarantine, at(shown)),
  ],
  [
    ({ published, partition, model, chosen_store, part }) => published && { partition, model, chosen_store, part },
    (shown) => samplePanel(shown, at(shown)),
  ],
  [
    ({ published, partition, model, chosen_store, part }) => published && { partition, model, chosen_store, part },
    (shown) => poorPanel(shown, at(shown)),
  ],
  [
    ({ model, versions, source, table_versions, dag_run, chosen_store }) => ({
      ...{ model, versions, source, table_versions, dag_run, chosen_store },
    }),
    about,
  ],
];
const hosts = PARTS.map(() => element("div"));
const shown = PARTS.map(() => undefined);
let announced = "";
let seen = "";

function warning(said) {
  return said?.tone === "warning" ? said : null;
}

/** Where more can be asked of the part of the run that an answer was about. */
function at({ part, chosen_store: store }) {
  return { dag, run, part, store: store.key };
}

async function look(signal) {
  const report = await api.runReport(dag, run, asked.part, signal);
  const text = JSON.stringify(report);
  const news = text !== seen;
  seen = text;
  if (!page.contains(hosts[0])) fill(page, element("div", { class: "stack" }, hosts));
  draw(report);
  page.setAttribute("aria-busy", "false");
  return { again: report.live, news };
}

function draw(report) {
  drawTitle(report);
  PARTS.forEach(([select, render], place) => {
    const part = select(report);
    const text = JSON.stringify(part ?? null);
    if (text === shown[place]) return;
    shown[place] = text;
    const content = part ? render(part) : null;
    hosts[place].hidden = !content;
    if (hosts[place].firstChild !== content) fill(hosts[place], content);
  });
  const words = `${report.verdict.status}. ${report.verdict.message}`;
  if (announced && words !== announced) announcer.textContent = words;
  announced = words;
}

function drawTitle(report) {
  const { partition, model, dag_run, chosen_store: store } = report;
  const name = partition ?? dag_run.dag_run_id;
  document.title = `${name} – Image features`;
  const ended = dag_run.ended_at ? `, ended ${clock(dag_run.ended_at)} (${zone})` : "";
  fill(
    document.getElementById("title"),
    element("span", {}, name),
    element(
      "span",
      { class: "subtitle" },
      model && element("span", {}, model.key),
      element("span", {}, inRunTab ? dag_run.dag_run_id : airflowLink(runPath(dag_run), dag_run.dag_run_id), ended),
    ),
  );
  document.getElementById("partitions").href = overviewAddress({ dag });
  const there = { dag, store: store.key, partition: report.published && partition, model: model?.key };
  document.getElementById("explore").href = exploreAddress(there);
  document.getElementById("duplicates").href = duplicatesAddress(there);
}

function runPath(dag_run) {
  return `dags/${encodeURIComponent(dag)}/runs/${encodeURIComponent(dag_run.dag_run_id)}`;
}

function failed(error) {
  if (page.contains(hosts[0]) && !error.status) return; // what is shown stays while the server is away
  fill(page, element("div", { class: "stack" }, refusal(error)));
  page.setAttribute("aria-busy", "false");
}

if (dag && run) poll(look, failed);
else
  failed(
    new api.Refusal(
      { code: "bad_request", message: "The address names no run.", hint: "Pick one of the partitions." },
      400,
    ),
  );
