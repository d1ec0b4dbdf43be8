// Builds nodes, and the controls that several pages have. Data becomes text, never markup.

import { count } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * A new element. `attributes`: `on…` are listeners, true is an attribute without value, null and false are left out.
 * `children`: nodes, or text; null and false are left out, lists are taken apart.
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** An icon of one stroked path on a grid of 24; decoration, so words have to stand beside it. */
export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  const attributes = {
    ...{ class: "icon", viewBox: "0 0 24 24", fill: "none", stroke: "currentColor", "stroke-width": "2" },
    ...{ "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true" },
  };
  for (const [name, value] of Object.entries(attributes)) svg.setAttribute(name, value);
  const drawn = document.createElementNS(SVG, "path");
  drawn.setAttribute("d", path);
  svg.append(drawn);
  return svg;
}

/** Replaces what is in `host`, and puts the focus back on the element with the same `data-key`. */
export function fill(host, ...children) {
  const key = host.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  host.replaceChildren(...children.flat(Infinity).filter(Boolean));
  if (key) host.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

/** Text for screen readers only. */
export function spoken(text) {
  return element("span", { class: "hidden-visually" }, text);
}

/** A labelled choice among `options` [[value, text], …]; `change` gets the value that is chosen. */
export function selectField(label, options, chosen, change) {
  const choices = options.map(([value, text]) => element("option", { value, selected: value === (chosen ?? "") }, text));
  const select = element("select", { "data-key": label, onchange: (event) => change(event.target.value) }, choices);
  return element("label", { class: "field" }, label, select);
}

/** Values as options that are named by themselves. */
export function named(values) {
  return [...new Set(values)].map((value) => [value, value]);
}

/** Leads through the pages of `things`, `turn` to one of them; nothing where there is one page. `pages`: how many there
 * are, where that is known; else `more`: whether there is another. */
export function pager(things, { page, pages, more = page < pages, back = "Previous", forth = "Next" }, turn) {
  const button = (text, target, possible) =>
    element("button", { type: "button", "data-key": text, disabled: !possible, onclick: () => turn(target) }, text);
  const place = `Page ${count(page)}${pages ? ` of ${count(pages)}` : ""}`;
  return (
    (page > 1 || more) &&
    element(
      "nav",
      { class: "pager", "aria-label": `Pages of ${things}` },
      button(back, page - 1, page > 1),
      element("span", { class: "number", role: "status" }, place),
      button(forth, page + 1, more),
    )
  );
}
