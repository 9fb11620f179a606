// What is told as a list: the peers as a table, the log with its filter, what was rejected, and the brokers.

import { keepRows, make, setText, show } from "./dom.js";
import { stateWord } from "./shapes.js";
import { bytes, clock, count, metric, NONE, several } from "./words.js";

const MOST_ROWS = 300;
const MOST_SHOWN = 150;

/** The graph's other form: the same peers, for who reads rather than looks. */
export class PeerTable {
  constructor(place, open) {
    Object.assign(this, { place, open });
  }

  update(state, task) {
    const peers = [...state.peers.values()].sort(byRoleAndName).slice(0, MOST_ROWS);
    keepRows(this.place, peers, (peer) => peer.id, (peer) => this.row(peer), (row, peer) => this.change(row, peer, task));
  }

  row(peer) {
    const name = make("button.link", { type: "button", onclick: () => this.open(peer.id) });
    const fields = Array.from({ length: 6 }, () => make("td"));
    const row = make("tr", {}, make("th", { scope: "row" }, name), ...fields);
    return Object.assign(row, { name, fields });
  }

  change(row, peer, task) {
    setText(row.name, peer.name || peer.id);
    if (row.told !== peer.state) row.fields[0].replaceChildren(stateWord(peer.state));
    row.told = peer.state;
    const words = [
      peer.role, peer.round ? count(peer.round) : NONE, metric(task, peer.metric),
      peer.staleness == null ? NONE : peer.staleness.toFixed(2), bytes(peer.bytes_today),
    ];
    words.forEach((word, place) => setText(row.fields[place + 1], word));
  }
}

function byRoleAndName(one, other) {
  const order = ["server", "member"];
  const place = ({ role }) => (order.includes(role) ? order.indexOf(role) : 2);
  return place(one) - place(other) || (one.name < other.name ? -1 : 1);
}

/** What happened, newest first, and only what is asked for. */
export class Log {
  constructor(place, { words, level, empty }) {
    Object.assign(this, { place, words, level, empty });
    for (const control of [words, level]) control.addEventListener("input", () => this.state && this.update(this.state));
  }

  update(state) {
    this.state = state;
    const wanted = this.words.value.trim().toLowerCase();
    const isImportant = this.level.value === "warning";
    const lines = [];
    for (let place = state.log.length - 1; place >= 0 && lines.length < MOST_SHOWN; place -= 1) {
      const line = state.log[place];
      if (isImportant && line.level !== "warning") continue;
      if (wanted && !`${line.name} ${line.event} ${line.text}`.toLowerCase().includes(wanted)) continue;
      lines.push(line);
    }
    setText(this.empty, state.log.length ? "No events that fit." : "Nothing has happened yet.");
    show(this.empty, lines.length === 0);
    keepRows(this.place, lines, keyOf, logRow, () => {});
  }
}

const keys = new WeakMap();
let numKeys = 0;

function keyOf(line) {
  if (!keys.has(line)) keys.set(line, (numKeys += 1));
  return keys.get(line);
}

export function logRow(line) {
  return make(
    `li.line.level-${line.level === "warning" ? "warning" : "info"}`, {},
    make("time", { textContent: clock(line.at_ms) }),
    make("span.kind", { textContent: line.event }),
    make("span.who", { textContent: line.name || line.peer }),
    make("span.text", { textContent: line.text }),
  );
}

/** Rejected messages by reason, the most frequent first. */
export function listRejected(place, empty, rejected) {
  const rows = Object.entries(rejected).filter(([, num]) => num > 0).sort(([, one], [, other]) => other - one);
  const most = rows.length ? rows[0][1] : 1;
  show(empty, rows.length === 0);
  keepRows(place, rows, ([reason]) => reason, barRow, (row, [reason, num]) => {
    changeBar(row, reason, Math.max(2, (num / most) * 100), count(num));
  });
}

/** A row with a bar: a name, how much of a hundred, and the number. */
export function barRow() {
  return make("li", {}, make("span.reason"), make("span.track", {}, make("span.fill")), make("span.num"));
}

export function changeBar(row, word, percent, number) {
  const [name, track, place] = row.children;
  setText(name, word);
  track.firstElementChild.style.width = `${percent}%`;
  setText(place, number);
}

/** What is made of tasks: by each peer of one, or by one peer of each. */
export function listVerdicts(place, verdicts, keyOf, wordOf) {
  keepRows(place, verdicts, keyOf, () => make("li", {}, make("span.who"), make("span.why")), (row, verdict) => {
    setText(row.firstElementChild, wordOf(verdict));
    setText(row.lastElementChild, `${verdict.standing}${verdict.joined ? ", joined" : ""}: ${verdict.why}`);
  });
}

export function listBrokers(place, empty, state) {
  const brokers = [...state.brokers.values()];
  show(empty, brokers.length === 0);
  keepRows(place, brokers, (broker) => broker.id, () => make("li", {}, make("span.dot"), make("span.who"), make("span.url"), make("span.num")), (row, broker) => {
    const [dot, name, url, number] = row.children;
    dot.classList.toggle("lost", !broker.connected);
    setText(name, broker.name || broker.id);
    setText(url, broker.connected ? broker.url : `not connected: ${broker.url}`);
    setText(number, several(broker.peers ?? 0, "peer"));
  });
}
