// What is known of the swarm: a snapshot, and the patches that follow it.

const MOST_POINTS = 1200;
const MOST_LINES = 400;
const MOST_RATES = 900;

export const STATES = ["alive", "suspect", "silent", "asleep", "paused", "offline", "killed"];

/** The state that a snapshot begins. */
export function begin(snapshot) {
  const state = {
    title: "", now_ms: 0, source: { kind: "agent", name: "", actions: [] },
    brokers: new Map(), peers: new Map(), tasks: new Map(), series: bare(), links: [], rejected: {}, totals: {},
    rates: [], log: [], shown: { peers: 0, of: 0, groups: [] },
  };
  fold(state, snapshot);
  return state;
}

/** Add a patch to the state. */
export function fold(state, patch) {
  for (const key of ["title", "now_ms", "source", "links", "rejected", "totals", "shown"]) {
    if (key in patch) state[key] = patch[key];
  }
  for (const id of patch.gone ?? []) {
    for (const key of ["brokers", "peers", "tasks"]) state[key].delete(id);
    delete state.series[id];
  }
  for (const key of ["brokers", "peers", "tasks"]) {
    for (const record of patch[key] ?? []) state[key].set(record.id, record);
  }
  // Curves that the server has thinned out are told anew, before what is new of them.
  for (const [task, curves] of Object.entries(patch.resampled ?? {})) {
    const { peers, ...rest } = curves;
    const series = Object.assign(seriesOf(state, task), rest);
    for (const [peer, told] of Object.entries(peers ?? {})) {
      if (told.length) series.peers[peer] = told;
      else delete series.peers[peer];
    }
  }
  for (const [task, points] of Object.entries(patch.series ?? {})) addPoints(state, task, points);
  state.rates.push(...(patch.rates ?? []));
  if (state.rates.length > MOST_RATES) state.rates.splice(0, state.rates.length - MOST_RATES);
  state.log.push(...(patch.log ?? []));
  if (state.log.length > MOST_LINES) state.log.splice(0, state.log.length - MOST_LINES);
}

/** An object by whose keys nothing is meant but themselves, whatever they are called. */
function bare() {
  return Object.create(null);
}

function seriesOf(state, task) {
  return (state.series[task] ??= { peers: bare(), all: [], staleness: [] });
}

function addPoints(state, task, points) {
  const series = seriesOf(state, task);
  for (const [peer, told] of Object.entries(points.peers ?? {})) {
    series.peers[peer] = thinned(series.peers[peer] ?? [], told);
  }
  series.all = thinned(series.all, points.all ?? []);
  series.staleness = thinned(series.staleness, points.staleness ?? []);
}

/** Points with new ones after them; when there are too many, of the older half every second one goes. */
function thinned(points, told) {
  points.push(...told);
  if (points.length <= MOST_POINTS) return points;
  const half = points.length >> 1;
  return points.filter((_, place) => place >= half || place % 2 === 0);
}

/** How many peers there are in each state, those in groups included. */
export function countStates(state) {
  const counts = Object.fromEntries(STATES.map((name) => [name, 0]));
  for (const peer of state.peers.values()) counts[peer.state] = (counts[peer.state] ?? 0) + 1;
  for (const group of state.shown.groups ?? []) {
    for (const [name, num] of Object.entries(group.state)) counts[name] = (counts[name] ?? 0) + num;
  }
  return counts;
}

export function numPeers(state) {
  return Math.max(state.shown.of ?? 0, state.peers.size);
}

/** The task that most learn, or the first. */
export function mainTask(state) {
  const tasks = [...state.tasks.values()];
  return tasks.sort((one, other) => (other.num_members ?? 0) - (one.num_members ?? 0))[0] ?? null;
}

export function lastOf(points) {
  return points && points.length ? points[points.length - 1] : null;
}

export function nameOf(state, id) {
  return state.peers.get(id)?.name || state.brokers.get(id)?.name || (id.length > 12 ? `${id.slice(0, 12)}…` : id);
}
