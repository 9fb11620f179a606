// One peer, looked at closely: its figures, its curve, what it merged, with whom it speaks, and what it said.

import { PeerChart } from "./charts.js";
import { $, keepRows, make, setText, show } from "./dom.js";
import { barRow, changeBar, listVerdicts, logRow } from "./lists.js";
import { stateWord } from "./shapes.js";
import { nameOf } from "./state.js";
import { ask } from "./stream.js";
import { bytes, count, joules, metric, several, shortNumber } from "./words.js";

const AGAIN_MS = 2000;

export class Drawer {
  constructor({ actions, closed }) {
    Object.assign(this, { actions, closed });
    this.place = $("drawer");
    this.peer = null;
    $("drawer-close").addEventListener("click", () => this.close());
    this.place.addEventListener("keydown", (event) => event.key === "Escape" && this.close());
    for (const name of ["pause", "resume", "restart", "kill"]) {
      $(`peer-${name}`).addEventListener("click", () => this.act(name));
    }
  }

  get charts() {
    return this.chart ? [this.chart] : [];
  }

  open(id, state, task) {
    this.before = document.activeElement;
    this.peer = id;
    this.detail = null;
    this.asked = -Infinity;
    this.drawn = null;
    show(this.place, true);
    for (const list of ["drawer-shares", "drawer-traffic", "drawer-verdicts", "drawer-log"].map($)) {
      list.replaceChildren();
      list.keptRows = undefined;
    }
    this.update(state, task);
    $("drawer-name").focus();
  }

  close() {
    if (!this.peer) return;
    this.peer = null;
    show(this.place, false);
    this.before?.focus?.();
    this.closed();
  }

  update(state, task) {
    Object.assign(this, { state, task });
    if (!this.peer) return;
    const peer = state.peers.get(this.peer) ?? this.detail?.peer;
    if (!peer) {
      setText($("drawer-name"), "This peer is gone");
      return;
    }
    this.tell(peer);
    this.offer(peer);
    this.refresh();
  }

  tell(peer) {
    setText($("drawer-name"), peer.name || peer.id);
    setText($("drawer-id"), peer.id);
    const { task } = this;
    const facts = [
      ["Role", peer.role], ["Profile", peer.profile], ["Brokers", peer.brokers.map((id) => nameOf(this.state, id)).join(", ")],
      ["Site", peer.site], ["Rounds", peer.round ? count(peer.round) : null],
      [task ? task.metric_name || "Metric" : "Metric", peer.metric == null ? null : metric(task, peer.metric)],
      ["Staleness", peer.staleness == null ? null : shortNumber(peer.staleness)],
      ["Sent today", peer.bytes_today == null ? null : bytes(peer.bytes_today)],
      ["Energy today", peer.joules_today == null ? null : joules(peer.joules_today)],
      ["Memory", peer.memory_mb == null ? null : `${count(peer.memory_mb)} MB`],
      ["Temperature", peer.temperature_c == null ? null : `${count(peer.temperature_c)} °C`],
      ["Rejected", peer.rejected ? several(peer.rejected, "message") : null],
    ].filter(([, word]) => word != null && word !== "");
    const known = new Set(facts.map(([name]) => name.toLowerCase()));
    facts.push(...(this.detail?.facts ?? []).filter(([name]) => !known.has(name.toLowerCase())));
    if (this.drawn !== peer.state) $("drawer-state").replaceChildren(stateWord(peer.state));
    this.drawn = peer.state;
    keepRows($("drawer-facts"), facts, ([name]) => name, ([name]) => make("div", {}, make("dt", { textContent: name }), make("dd")), (row, [, word]) => {
      setText(row.lastElementChild, word);
    });
  }

  offer(peer) {
    const isPaused = peer.state === "paused";
    const offers = {
      pause: peer.own && !isPaused && peer.state !== "killed", resume: peer.own && isPaused,
      restart: true, kill: peer.state !== "killed",
    };
    let num = 0;
    for (const [name, isSensible] of Object.entries(offers)) {
      const isOffered = isSensible && this.actions.may(name);
      show($(`peer-${name}`), isOffered);
      num += Number(isOffered);
    }
    show($("drawer-actions"), num > 0);
  }

  act(name) {
    const peer = this.state.peers.get(this.peer);
    if (!peer) return;
    const body = name === "pause" || name === "resume" ? { peer: peer.id, task: null } : { peer: peer.id };
    this.actions.ask(name, body, { about: peer.name || peer.id });
  }

  async refresh() {
    const now = performance.now();
    if (now - this.asked < AGAIN_MS) return;
    this.asked = now;
    const id = this.peer;
    // The server may be away for a moment; what is shown stays, and the next patch asks again.
    const detail = await ask(`/api/peers/${encodeURIComponent(id)}`).catch(() => null);
    if (!detail || this.peer !== id) return;
    this.detail = detail;
    this.tell(this.state.peers.get(id) ?? detail.peer);
    this.tellMore(detail);
  }

  tellMore(detail) {
    this.drawCurve(detail);
    this.listShares(detail.shares ?? []);
    this.listTraffic(detail.traffic ?? []);
    const verdicts = detail.verdicts ?? [];
    show($("drawer-verdicts-box"), verdicts.length > 0);
    listVerdicts($("drawer-verdicts"), verdicts, ({ task }) => task, ({ label, task }) => label || task);
    const lines = (detail.log ?? []).slice(-40).reverse();
    show($("drawer-log-box"), lines.length > 0);
    keepRows($("drawer-log"), lines, (line) => `${line.at_ms} ${line.event} ${line.text}`, logRow, () => {});
  }

  drawCurve(detail) {
    const curves = Object.entries(detail.curves ?? {}).filter(([, points]) => points.length > 0);
    const [id, points] = curves.find(([task]) => task === this.task?.id) ?? curves[0] ?? [null, []];
    show($("drawer-curve-box"), points.length > 0);
    if (!points.length) return;
    const task = this.state.tasks.get(id) ?? this.task;
    if (this.charted !== id) {
      $("drawer-curve").replaceChildren();
      this.chart = new PeerChart($("drawer-curve"), task);
      this.charted = id;
    }
    this.chart.update(points, this.state.series[id]?.all ?? []);
  }

  listShares(merges) {
    const last = merges[0];
    show($("drawer-shares-box"), Boolean(last));
    if (!last) return;
    const task = this.state.tasks.get(last.task);
    setText($("drawer-merge"), `round ${last.round}${task ? ` of ${task.label || task.name}` : ""}, by ${last.by}`);
    const shares = Object.entries(last.shares).sort(([, one], [, other]) => other - one).slice(0, 12);
    keepRows($("drawer-shares"), shares, ([peer]) => peer, barRow, (row, [peer, share]) => {
      const name = peer === this.peer ? "its own" : nameOf(this.state, peer);
      changeBar(row, name, Math.max(1, Math.min(100, share * 100)), `${(share * 100).toFixed(1)} %`);
    });
  }

  listTraffic(rows) {
    show($("drawer-traffic-box"), rows.length > 0);
    keepRows($("drawer-traffic"), rows, ({ peer }) => peer, () => make("tr", {}, make("th", { scope: "row" }), make("td"), make("td")), (row, traffic) => {
      const [name, sent, received] = row.children;
      setText(name, traffic.name || nameOf(this.state, traffic.peer));
      setText(sent, `${count(traffic.sent)} (${bytes(traffic.sent_bytes)})`);
      setText(received, `${count(traffic.received)} (${bytes(traffic.received_bytes)})`);
    });
  }
}
