// A photo of the viewer's own: chosen, dropped anywhere on the page, or pasted.

import { element, spoken } from "./dom.js";
import { bytes } from "./format.js";

const LARGEST_BYTES = 20 * 2 ** 20;

/** The field; `chosen` gets the file. */
export function uploadField(chosen) {
  const problem = element("span", { class: "bad toned small", role: "alert" });
  const input = element("input", { type: "file", accept: "image/*", class: "hidden-visually", "data-key": "upload", onchange: () => take(input.files) });
  take.current = (files) => {
    const [file] = files;
    input.value = "";
    if (!file) return;
    const tooLarge = file.size > LARGEST_BYTES;
    problem.textContent = tooLarge ? `${file.name} has ${bytes(file.size)}; at most ${bytes(LARGEST_BYTES)} are taken.` : "";
    if (!tooLarge) chosen(file);
  };
  return element(
    "div",
    { class: "upload push" },
    element("label", { class: "button" }, input, "Find a photo of your own", spoken(" among them")),
    element("span", { class: "muted small" }, "or drop it on this page; it is not kept"),
    problem,
  );
}

function take(files) {
  const [...taken] = files;
  take.current?.(taken);
}

const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  document.body.classList.remove("dropping");
  take(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) take(event.clipboardData.files);
});
