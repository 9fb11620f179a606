// Before anything is drawn. A classic script, so that it runs first.
"use strict";
{
  const root = document.documentElement;

  /** What the browser keeps for us, where it may. */
  const kept = (storage, key) => {
    try {
      return globalThis[storage].getItem(key);
    } catch {
      return null;
    }
  };

  // Light or dark, where somebody has chosen: so nothing flashes.
  const chosen = kept("localStorage", "grapevine-theme");
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  // A browser drops what it is loading when a network interface comes or goes, as they do while a lab starts. So we ask again.
  const AGAIN_MS = 1000;
  const MOST = 8;
  const tried = Number(kept("sessionStorage", "grapevine-tried") ?? 0);
  let isDue = false;
  const again = (event) => {
    const { target } = event;
    if (isDue || tried >= MOST || !(target instanceof HTMLScriptElement || target instanceof HTMLLinkElement)) return;
    isDue = true;
    try {
      sessionStorage.setItem("grapevine-tried", String(tried + 1));
    } catch {
      return; // it could not be counted, and might never end
    }
    setTimeout(() => location.reload(), AGAIN_MS);
  };
  addEventListener("error", again, true);
}
