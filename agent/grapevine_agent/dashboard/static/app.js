// The page: one state, listened to, and each part drawn as often as it is worth.

import { Actions } from "./actions.js";
import { LearningChart, recolour, StalenessChart, TrafficChart } from "./charts.js";
import { $, keepRows, make, setText, show } from "./dom.js";
import { Drawer } from "./drawer.js";
import { Figures } from "./figures.js";
import { Graph } from "./graph.js";
import { listBrokers, listRejected, Log, PeerTable } from "./lists.js";
import { News } from "./news.js";
import { MEANINGS, stateSign } from "./shapes.js";
import { begin, countStates, fold, lastOf, mainTask, numPeers, STATES } from "./state.js";
import { listen } from "./stream.js";
import { Tasks } from "./tasks.js";
import { count, isShare, several, shortNumber } from "./words.js";

const CHARTS_MS = 1000;
const LISTS_MS = 400;
const motion = matchMedia("(prefers-reduced-motion: reduce)");
const isStill = () => motion.matches;

class Page {
  constructor() {
    this.state = null;
    this.task = null;
    this.chosen = null;
    this.drawn = { charts: -Infinity, lists: -Infinity };
    this.news = new News($("news"));
    this.actions = new Actions((text) => this.toast(text));
    this.actions.changed = () => this.state && this.draw(true);
    this.figures = new Figures($("figures"));
    this.graph = new Graph($("graph"), { open: (id) => this.open(id), say: (text) => this.news.say(text), isStill });
    this.drawer = new Drawer({ actions: this.actions, closed: () => this.select(null) });
    this.tasks = new Tasks($("tasks"), {
      choose: (id) => this.choose(id), act: (name, task) => this.review(name, task), may: (name) => this.actions.may(name),
    });
    this.table = new PeerTable($("peer-rows"), (id) => this.open(id));
    this.log = new Log($("log"), { words: $("log-words"), level: $("log-level"), empty: $("no-log") });
    this.learning = new LearningChart($("learning"));
    this.staleness = new StalenessChart($("staleness"));
    this.traffic = new TrafficChart($("traffic"));
    this.listenToControls();
    listen((kind, content) => this.told(kind, content), (line) => this.tellLine(line));
  }

  get charts() {
    return [this.learning, this.staleness, this.traffic, ...this.drawer.charts];
  }

  told(kind, content) {
    if (kind === "state") this.state = begin(content);
    else if (this.state) fold(this.state, content);
    else return;
    this.news.watch(this.state);
    if (kind === "state") this.begun();
    this.draw(kind === "state");
  }

  begun() {
    document.body.classList.add("begun");
    try {
      sessionStorage.removeItem("grapevine-tried");
    } catch {
      // Then nothing was counted, either.
    }
  }

  tellLine(line) {
    if (this.line === line) return;
    if (this.line) this.news.say(line === "lost" ? "The connection to the dashboard's server is lost" : "Connected again");
    this.line = line;
    $("line").className = `pill ${line}`;
    setText($("line-word"), line === "lost" ? "connection lost, trying again" : "live");
    document.body.classList.toggle("lost", line === "lost");
  }

  /** Draw what changed, once a frame at most; charts and lists less often. */
  draw(isAll = false) {
    this.isAll ||= isAll;
    this.due ??= requestAnimationFrame((now) => {
      this.due = null;
      this.drawNow(now);
    });
  }

  drawNow(now) {
    const { state, drawn } = this;
    this.task = state.tasks.get(this.chosen) ?? mainTask(state);
    this.drawHead();
    this.figures.update(state, this.task);
    this.graph.update(state, this.task);
    this.drawer.update(state, this.task);
    if (this.isAll || now - drawn.lists > LISTS_MS) {
      drawn.lists = now;
      this.drawLists();
    }
    if (this.isAll || now - drawn.charts > CHARTS_MS) {
      drawn.charts = now;
      this.drawCharts();
    }
    this.isAll = false;
    // The last patch of a burst is drawn, too.
    clearTimeout(this.later);
    this.later = setTimeout(() => this.drawRest(), CHARTS_MS);
  }

  drawRest() {
    if (!this.state) return;
    this.drawLists();
    this.drawCharts();
  }

  drawHead() {
    const { source, title } = this.state;
    setText($("title"), title || source.name);
    document.title = `${title || source.name} · Grapevine`;
    const more = [source.kind, source.name].filter((word) => word && word !== title);
    setText($("source"), more.join(" "));
    setText($("rights"), this.actions.isAllowed ? "actions allowed" : "read only");
    this.actions.offer(source.actions);
    for (const name of ["partition", "heal"]) show($(name), this.actions.may(name));
  }

  drawLists() {
    const { state, task } = this;
    this.tasks.update(state, task);
    if (!$("table").hidden) this.table.update(state, task);
    this.log.update(state);
    listRejected($("rejected"), $("no-rejected"), state.rejected);
    listBrokers($("brokers"), $("no-brokers"), state);
    this.drawLegend();
    const num = Object.values(state.rejected).reduce((sum, one) => sum + one, 0);
    setText($("num-rejected"), num ? several(num, "message") : "");
  }

  drawLegend() {
    const counts = countStates(this.state);
    const present = STATES.filter((name) => counts[name] > 0);
    keepRows($("legend"), present, (name) => name, (name) => make("li", { title: MEANINGS[name] }, stateSign(name), make("span")), (row, name) => {
      setText(row.lastElementChild, `${count(counts[name])} ${name}`);
    });
    const ring = isShare(this.task) ? `Ring: ${this.task.metric_name}. ` : "";
    setText($("ring-note"), `${ring}Hexagon: server`);
    const { peers, of, groups } = this.state.shown;
    const rest = of > peers && groups.length ? `; ${count(peers)} of ${count(of)} peers one by one, the rest in groups` : "";
    setText($("graph-note"), rest ? `The most active ${count(peers)} one by one, the rest in groups` : "");
    const alive = `${count(counts.alive)} of ${several(numPeers(this.state), "peer")} alive`;
    this.graph.canvas.setAttribute("aria-label", `The overlay: ${alive}, ${several(this.state.brokers.size, "broker")}${rest}`);
  }

  drawCharts() {
    const { state, task } = this;
    const series = state.series[task?.id];
    tellEmpty("learning", "no-curve", !series?.all.length);
    this.learning.update(task, series, this.drawer.peer);
    setText($("learning-title"), task ? task.label || task.name : "");
    this.staleness.update(series?.staleness ?? []);
    const last = lastOf(series?.staleness);
    setText($("staleness-now"), last ? `${last[1].toFixed(2)} of ${last[2] == null ? "–" : shortNumber(last[2])}` : "");
    tellEmpty("staleness", "no-staleness", !last);
    this.traffic.update(state.rates);
    tellEmpty("traffic", "no-traffic", state.rates.length === 0);
  }

  choose(id) {
    this.chosen = id;
    this.draw(true);
  }

  open(id) {
    this.select(id);
    this.drawer.open(id, this.state, this.task);
  }

  select(id) {
    this.graph.select(id);
    this.draw(true);
  }

  review(name, task) {
    const owners = [...this.state.peers.values()].filter((peer) => peer.own);
    const reviewer = owners.find((peer) => peer.role === "reviewer") ?? owners[0];
    // A name proves nothing: another's task may be called the same.
    const text = `Task ${task.id}, published by ${task.publisher || "nobody that is known"}`;
    const about = task.label || task.name;
    this.actions.ask(name, { task: task.id, peer: null }, { about, text, owners, owner: reviewer?.id });
  }

  partition() {
    const brokers = [...this.state.brokers.values()];
    const choices = brokers.length > 1 ? brokers : [...this.state.peers.values()];
    this.actions.ask("partition", {}, { choices });
  }

  toast(text) {
    setText($("toast"), text);
    $("toast").classList.add("shown");
    clearTimeout(this.toasted);
    this.toasted = setTimeout(() => $("toast").classList.remove("shown"), 5000);
  }

  listenToControls() {
    $("theme").addEventListener("click", () => this.turnTheme());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    $("zoom-in").addEventListener("click", () => this.graph.zoom(1.3));
    $("zoom-out").addEventListener("click", () => this.graph.zoom(1 / 1.3));
    $("zoom-fit").addEventListener("click", () => this.graph.fit());
    $("as-graph").addEventListener("click", () => this.showTable(false));
    $("as-table").addEventListener("click", () => this.showTable(true));
    $("partition").addEventListener("click", () => this.partition());
    $("heal").addEventListener("click", () => this.actions.ask("heal", {}));
    document.addEventListener("visibilitychange", () => !document.hidden && this.state && this.draw(true));
  }

  showTable(isTable) {
    show($("table"), isTable);
    show($("graph"), !isTable);
    show($("zooms"), !isTable);
    $("as-graph").setAttribute("aria-pressed", String(!isTable));
    $("as-table").setAttribute("aria-pressed", String(isTable));
    if (this.state) this.draw(true);
  }

  turnTheme() {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
    try {
      localStorage.setItem("grapevine-theme", root.dataset.theme);
    } catch {
      // Where nothing may be stored, the choice holds as long as the page.
    }
    this.recolour();
  }

  recolour() {
    this.graph.recolour();
    recolour(this.charts);
  }
}

/** In place of a chart without a point stands why there is none. */
function tellEmpty(chart, words, isEmpty) {
  $(chart).classList.toggle("void", isEmpty);
  show($(words), isEmpty);
}

// Tests and benches look at it here; nothing else does.
globalThis.grapevinePage = new Page();
