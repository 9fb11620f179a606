// The header's figures: the swarm in six numbers, two of them with their last minutes as a line.

import { make, setText, svg } from "./dom.js";
import { countStates, lastOf, numPeers } from "./state.js";
import { bytes, count, joules, metric, rate } from "./words.js";

const TILES = ["peers", "rounds", "metric", "messages", "bytes", "energy"];
const NAMES = { peers: "Peers alive", rounds: "Rounds", metric: "Metric", messages: "Messages/s", bytes: "Sent", energy: "Energy" };

export class Figures {
  constructor(place) {
    this.tiles = {};
    for (const name of TILES) {
      const line = svg("polyline", { points: "", class: "spark-line", "vector-effect": "non-scaling-stroke" });
      const picture = svg("svg", { viewBox: "0 0 100 24", preserveAspectRatio: "none", class: "spark", "aria-hidden": "true" }, line);
      const tile = { name: make("dt", { textContent: NAMES[name] }), value: make("span.value"), note: make("span.note"), line };
      const hasLine = name === "metric" || name === "messages";
      place.append(make("div.figure", {}, tile.name, make("dd", {}, tile.value, tile.note, hasLine && picture)));
      this.tiles[name] = tile;
    }
  }

  update(state, task) {
    const counts = countStates(state);
    const rounds = [...state.peers.values()].map((peer) => peer.round).filter((round) => round > 0).sort((a, b) => a - b);
    const all = state.series[task?.id]?.all ?? [];
    const last = lastOf(all);
    const now = lastOf(state.rates);
    const totals = state.totals;
    this.write("peers", count(counts.alive), `of ${count(numPeers(state))}`);
    this.write("rounds", rounds.length ? count(rounds[rounds.length >> 1]) : "–", rounds.length ? `up to ${count(rounds[rounds.length - 1])}` : "");
    setText(this.tiles.metric.name, task ? `Mean ${task.metric_name || "metric"}` : "Metric");
    this.write("metric", metric(task, last?.[1]), task?.baseline == null ? "" : `${metric(task, task.baseline, 0)} ${task.baseline_name || "baseline"}`);
    this.write("messages", rate(now?.[1]), `${count(totals.sent ?? 0)} sent`);
    this.write("bytes", bytes(totals.bytes), now ? `${bytes(now[2])}/s` : "");
    this.write("energy", totals.joules ? joules(totals.joules) : "–", totals.merged ? `${count(totals.merged)} merges` : "");
    this.draw("metric", all.slice(-240).map((row) => row[1]));
    this.draw("messages", state.rates.slice(-90).map((row) => row[1]));
  }

  write(name, value, note) {
    setText(this.tiles[name].value, value);
    setText(this.tiles[name].note, note);
    if (this.tiles[name].note.title !== note) this.tiles[name].note.title = note;
  }

  draw(name, values) {
    if (values.length < 2) return;
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const points = values.map((value, place) => {
      const x = (place / (values.length - 1)) * 100;
      const y = 22 - ((value - low) / (high - low || 1)) * 20;
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    });
    this.tiles[name].line.setAttribute("points", points.join(" "));
  }
}
