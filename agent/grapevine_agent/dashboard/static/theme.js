// Before anything is drawn: light or dark, where somebody has chosen. A classic script, so that nothing flashes.
"use strict";
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("grapevine-theme");
  } catch {
    // Storage may be forbidden; then the system's choice is good.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
