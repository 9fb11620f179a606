// Each state has a colour and a shape, on canvas and in legends alike: who does not see colours sees shapes.

import { make, svg } from "./dom.js";

// In a box from -1 to 1.
const OUTLINES = {
  alive: "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1 -1 0Z",
  suspect: "M0 -1.2L1.15 .85H-1.15Z",
  silent: "M0 -1.25L1.25 0L0 1.25L-1.25 0Z",
  asleep: "M.2 -1.05A1.05 1.05 0 1 0 1.05 .35A.82 .82 0 0 1 .2 -1.05Z",
  paused: "M-.95 -1H-.2V1H-.95ZM.2 -1H.95V1H.2Z",
  offline: "M-1 -1H1V1H-1ZM-.5 -.5V.5H.5V-.5Z",
  killed: "M-1.05 -.6L-.6 -1.05L0 -.45L.6 -1.05L1.05 -.6L.45 0L1.05 .6L.6 1.05L0 .45L-.6 1.05L-1.05 .6L-.45 0Z",
};
const HEXAGON = "M0 -1L.866 -.5V.5L0 1L-.866 .5V-.5Z";

export const paths = Object.fromEntries(Object.entries(OUTLINES).map(([name, outline]) => [name, new Path2D(outline)]));
export const hexagon = new Path2D(HEXAGON);

/** What a state means, for who wonders. */
export const MEANINGS = {
  alive: "heard lately",
  suspect: "late, and being asked",
  silent: "did not answer",
  asleep: "said until when it sleeps",
  paused: "trains nothing now",
  offline: "said goodbye",
  killed: "was killed here",
};

// A task's server is in states of its own.
const SERVERS = { reachable: "alive", present: "alive", lost: "silent" };

export function shapeOf(state) {
  return paths[state] ? state : (SERVERS[state] ?? "offline");
}

/** The sign of a state, as a small picture beside its word. */
export function stateSign(state) {
  const name = shapeOf(state);
  return svg(
    "svg",
    { viewBox: "-1.4 -1.4 2.8 2.8", class: `sign state-${name}`, "aria-hidden": "true" },
    svg("path", { d: OUTLINES[name] }),
  );
}

export function stateWord(state) {
  return make("span.state", {}, stateSign(state), make("span", { textContent: state }));
}
