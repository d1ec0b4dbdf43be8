// The first thing to read: did it work, and may the vectors be trusted.

import { airflowLink } from "./airflow.js";
import { element } from "./dom.js";
import { toneIcon, word } from "./status.js";

/** The verdict as a notice, and whose vectors readers see when they are not this run's. */
export function verdictNotice({ verdict, published, published_run_id }) {
  const { status, tone, message, hint, question } = verdict;
  const other = !published && published_run_id;
  return element(
    "div",
    { class: `notice verdict ${tone}` },
    toneIcon(tone, status),
    element("p", { class: "headline" }, capital(word(status))),
    element("p", { class: "message" }, message),
    hint && element("p", {}, hint),
    question && element("p", {}, airflowLink(question, "Answer under Required Actions")),
    other &&
      element("p", { class: "muted" }, "Readers see the vectors of ", element("code", {}, published_run_id), "."),
  );
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}
