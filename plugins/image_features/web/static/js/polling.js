// Asks again while something is going on: slower and slower without news, and not at all while nobody looks.

const FIRST_SECONDS = 2;
const SLOWEST_SECONDS = 30;

/**
 * Calls `look` now and then again until it says that there is nothing to wait for. `look` gets an AbortSignal and
 * returns {again, news}; when it throws, `failed` is called with the error, and it is tried again later.
 */
export function poll(look, failed) {
  let seconds = FIRST_SECONDS;
  let timer = null;
  let busy = false;
  let done = false;
  const controller = new AbortController();

  async function turn() {
    timer = null;
    busy = true;
    try {
      const { again, news } = await look(controller.signal);
      seconds = news ? FIRST_SECONDS : Math.min(seconds * 1.5, SLOWEST_SECONDS);
      done = !again;
    } catch (error) {
      if (controller.signal.aborted) return;
      seconds = Math.min(seconds * 2, SLOWEST_SECONDS);
      // what was refused for good is not asked again
      done = error.status >= 400 && error.status < 500;
      failed(error);
    }
    busy = false;
    plan();
  }

  function plan() {
    if (!done && !busy && timer === null && !document.hidden) timer = setTimeout(turn, seconds * 1000);
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(timer);
      timer = null;
    } else if (!done && !busy) {
      seconds = FIRST_SECONDS;
      clearTimeout(timer);
      turn();
    }
  });
  addEventListener("pagehide", () => controller.abort());
  turn();
}
