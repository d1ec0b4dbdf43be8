// How a run or a check ended: icon, word and tone, never colour alone.

import { element, icon } from "./dom.js";

const ICONS = {
  check: "M20 6 9 17l-5-5",
  cross: "M18 6 6 18M6 6l12 12",
  warning: "M12 9v4M12 17h.01M10.3 3.9 1.8 18a2 2 0 0 0 1.7 3h17a2 2 0 0 0 1.7-3L13.7 3.9a2 2 0 0 0-3.4 0z",
  running: "M21 12a9 9 0 1 1-6.2-8.6",
  waiting: "M12 7v5l3 2M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0z",
  skipped: "M5 4v16M19 12 8 5v14z",
  question: "M9.1 9a3 3 0 0 1 5.8 1c0 2-3 3-3 3M12 17h.01M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0z",
};

const STATUS = {
  published: ["good", "check", "published"],
  published_with_warnings: ["warning", "warning", "published with warnings"],
  checked: ["good", "check", "checked, not published"],
  superseded: ["neutral", "skipped", "superseded"],
  rejected: ["bad", "cross", "rejected"],
  failed: ["bad", "cross", "failed"],
  running: ["neutral", "running", "running"],
  queued: ["neutral", "waiting", "queued"],
  skipped: ["neutral", "skipped", "skipped"],
  unknown: ["warning", "question", "unknown"],
};
const TONE_ICONS = { good: "check", warning: "warning", bad: "cross", neutral: "waiting" };

export const isFailure = (status) => status === "rejected" || status === "failed";
export const isUnderWay = (status) => status === "running" || status === "queued";

/** The word for a status. */
export const word = (status) => (STATUS[status] ?? STATUS.unknown)[2];

/** A badge for a status of the API. */
export function statusBadge(status) {
  const [tone, shape, text] = STATUS[status] ?? STATUS.unknown;
  return badge(tone, text, shape);
}

/** A badge of a tone: good, warning, bad or neutral. */
export function badge(tone, text, shape = TONE_ICONS[tone]) {
  return element("span", { class: `badge ${tone}` }, icon(ICONS[shape]), text);
}

/** The same without a frame, for what is as it should be. */
export function quiet(tone, text) {
  return element("span", { class: `quiet toned ${tone}` }, toneIcon(tone), ` ${text}`);
}

/** The icon of a tone, or of a status when one is given. */
export function toneIcon(tone, status) {
  return icon(ICONS[STATUS[status]?.[1] ?? TONE_ICONS[tone]]);
}
