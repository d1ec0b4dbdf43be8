// Asks the server. Addresses are relative, so that the pages work below any path.

/** A request that was refused, in the server's words. */
export class Refusal extends Error {
  constructor({ code, message, hint = "" }, status = 0) {
    super(message);
    Object.assign(this, { code, hint, status });
  }
}

async function ask(address, options = {}) {
  let response;
  try {
    response = await fetch(address, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const hint = "This page tries again by itself while a run is going on; otherwise load it again.";
    throw new Refusal({ code: "no_answer", message: "Airflow's api-server does not answer.", hint });
  }
  let answer;
  try {
    answer = await response.json();
  } catch {
    answer = null;
  }
  if (response.ok && answer !== null) return answer;
  const unreadable = {
    code: "unexpected",
    message: `The api-server answered with status ${response.status}.`,
    hint: "The log of Airflow's api-server says why.",
  };
  throw new Refusal(answer?.message ? answer : unreadable, response.status);
}

/** `a/b c` → `api/a/b%20c?…`; parameters that are null or empty are left out. */
function address(parts, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(given).toString();
  return `api/${parts.map(encodeURIComponent).join("/")}${query ? `?${query}` : ""}`;
}

export const dags = () => ask(address(["dags"]));

/** The partitions of one Dag; of all that the viewer may read when `dag` is null. */
export const overview = (dag, { model, store } = {}) =>
  ask(address(dag === null ? ["overview"] : [dag, "overview"], { store, model }));
export const runReport = (dag, run, part, signal) => ask(address([dag, "runs", run], { part }), { signal });
export const quarantine = (dag, run, part, page) => ask(address([dag, "runs", run, "quarantine"], { part, page }));
export const sample = (dag, run, part, count) => ask(address([dag, "runs", run, "photos"], { part, count }));
export const poorPhotos = (dag, run, part) => ask(address([dag, "runs", run, "poor"], { part }));
export const photos = ({ dag, store, partition, model, number }) =>
  ask(address([dag, "partitions", partition, "photos"], { store, model, page: number }));
export const duplicates = ({ dag, store, partition, model, kind, similarity, number }) =>
  ask(address([dag, "duplicates"], { store, partition, model, kind, similarity, page: number }));

/** The photos nearest to one, from the partition `first` to `last`, or of all partitions without them. */
export const neighbours = ({ dag, store, partition, model, image, first, last }, { k, page }, signal) =>
  ask(address([dag, "partitions", partition, "neighbours"], { store, model, image, first, last, k, page }), { signal });

/** The neighbours of a photo of the viewer's own; the server does not keep it. */
export const neighboursOf = (file, { dag, store, partition, model, first, last }, { k, page }, signal) =>
  ask(address([dag, "partitions", partition, "neighbours"], { store, model, first, last, k, page }), {
    method: "POST",
    headers: { "Content-Type": "application/octet-stream", "X-Image-Features": "1" },
    body: file,
    signal,
  });

/** The photos nearest to what words say. */
export const neighboursOfWords = ({ dag, store, partition, model, words, first, last }, { k, page }, signal) =>
  ask(
    address([dag, "partitions", partition, "neighbours", "words"], { store, model, words, first, last, k, page }),
    { signal },
  );

/** The address of a thumbnail. */
export const thumbnail = ({ dag, store, partition }, image) =>
  address([dag, "thumbnails", partition, image], { store });
