// Follows Airflow's theme, before anything is drawn: `data-theme` of the page is `light` or `dark`.
// A plain script, because a module would run only after the first paint.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  // The page around us, when it is Airflow's own.
  function surrounding() {
    try {
      return window.parent === window ? null : window.parent.document.documentElement;
    } catch {
      return null;
    }
  }

  function chosen() {
    const classes = surrounding()?.classList;
    if (classes?.contains("dark")) return "dark";
    if (classes?.contains("light")) return "light";
    try {
      const stored = localStorage.getItem("theme");
      if (stored === "light" || stored === "dark") return stored;
    } catch {
      // no storage, no choice
    }
    return system.matches ? "dark" : "light";
  }

  function follow() {
    root.dataset.theme = chosen();
  }

  follow();
  const outside = surrounding();
  if (outside) new MutationObserver(follow).observe(outside, { attributes: true, attributeFilter: ["class"] });
  addEventListener("storage", follow);
  system.addEventListener("change", follow);
})();
