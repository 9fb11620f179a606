// The overlay as a graph: what moves when, and what pointer and keyboard do.

import { make, show } from "./dom.js";
import { Drawing, readColours } from "./drawing.js";
import { Layout } from "./layout.js";
import { isShare, metric, several } from "./words.js";

const MOST_SPARKS = 160;
const FLIGHT_MS = 900;
const CLICK_PX = 5;

export class Graph {
  /** `frame` holds the two canvases; `open(id)` is called for who is chosen, `say` for screen readers. */
  constructor(frame, { open, say, isStill }) {
    Object.assign(this, { frame, open, say, isStill });
    this.canvas = frame.querySelector("canvas");
    this.layout = new Layout();
    this.drawing = new Drawing(this.canvas, frame.querySelector("canvas.sparks"), this.layout);
    this.tip = frame.querySelector(".tip");
    this.sparks = [];
    this.counts = null;
    this.hovered = null;
    this.selected = null;
    this.isFitted = true;
    this.isDue = false;
    this.frames = 0;
    new ResizeObserver(() => this.resize()).observe(frame);
    this.resize();
    this.listen();
  }

  update(state, task) {
    this.state = state;
    this.task = task && { ...task, isShare: isShare(task) };
    this.arrange();
    this.send(state.links);
    for (const key of ["hovered", "selected"]) if (this[key] && !this.layout.nodes.has(this[key])) this[key] = null;
    this.redraw();
  }

  arrange() {
    if (this.layout.update(this.state) && this.isStill()) this.layout.settle();
  }

  /** Every message that was sent since we looked last becomes a spark. */
  send(links) {
    const counts = new Map();
    const now = performance.now();
    for (const link of links) {
      const key = `${link.from} ${link.to} ${link.task}`;
      counts.set(key, link.num);
      if (!this.counts || document.hidden || this.isStill()) continue;
      const news = Math.min(3, link.num - (this.counts.get(key) ?? 0));
      const [from, to] = [this.layout.nodes.get(link.from), this.layout.nodes.get(link.to)];
      for (let one = 0; one < news && from && to && this.sparks.length < MOST_SPARKS; one += 1) {
        this.sparks.push({ from, to, begin: now + Math.random() * 260, lasts: FLIGHT_MS * (0.85 + Math.random() * 0.3) });
      }
    }
    this.counts = counts;
  }

  resize() {
    const { width, height } = this.frame.getBoundingClientRect();
    if (!width || !height) return;
    this.drawing.resize(width, height);
    if (this.layout.reshape(width / height) && this.state) this.arrange();
    this.redraw();
  }

  recolour() {
    this.drawing.colours = readColours();
    this.redraw();
  }

  select(id) {
    this.selected = id;
    this.redraw();
  }

  redraw() {
    this.isStale = true;
    this.wake();
  }

  wake() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame((now) => this.step(now));
  }

  /** One frame; asks for another only while something moves. */
  step(now) {
    this.isDue = false;
    this.frames += 1;
    if (!this.state || !this.drawing.width) return;
    if (this.layout.isMoving) {
      this.layout.tick();
      this.isStale = true;
    }
    if (this.isStale) {
      if (this.isFitted && !this.dragged) this.drawing.fit();
      this.drawing.draw(this.state, this);
      this.isStale = false;
    }
    const flying = this.sparks.length;
    this.sparks = this.sparks.filter((spark) => now < spark.begin + spark.lasts * 1.35);
    if (flying) this.drawing.drawSparks(this.sparks, now);
    if (this.sparks.length || this.layout.isMoving) this.wake();
  }

  // Pointer and keyboard

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", () => (this.dragged = null));
    canvas.addEventListener("pointerleave", () => this.hover(null));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("dblclick", () => this.fit());
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.hover(null));
  }

  at(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  press(event) {
    const [x, y] = this.at(event);
    const node = this.drawing.nearest(x, y);
    this.dragged = { node, x, y, far: 0, view: { ...this.drawing.view } };
    this.canvas.setPointerCapture(event.pointerId);
  }

  move(event) {
    const [x, y] = this.at(event);
    const drag = this.dragged;
    if (!drag) {
      this.hover(this.drawing.nearest(x, y)?.id ?? null);
      return;
    }
    drag.far = Math.max(drag.far, Math.hypot(x - drag.x, y - drag.y));
    if (drag.far < CLICK_PX) return;
    if (drag.node) {
      [drag.node.fx, drag.node.fy] = this.drawing.toWorld(x, y);
      this.layout.warm();
    } else {
      this.isFitted = false;
      this.drawing.view = { ...drag.view, x: drag.view.x + x - drag.x, y: drag.view.y + y - drag.y };
    }
    this.redraw();
  }

  release() {
    const drag = this.dragged;
    this.dragged = null;
    if (!drag) return;
    if (drag.far >= CLICK_PX) {
      if (drag.node?.kind === "broker") drag.node.isPinned = true;
      else if (drag.node) drag.node.fx = drag.node.fy = null;
      if (drag.node) this.isFitted = false;
      this.redraw();
    } else if (drag.node?.kind === "peer") {
      this.open(drag.node.id);
    }
  }

  /** The page scrolls over the graph; only with Ctrl, or two fingers on a touchpad, does the wheel zoom. */
  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY * 0.01), this.at(event));
  }

  zoom(factor, place) {
    this.isFitted = false;
    this.drawing.zoom(factor, place);
    this.redraw();
  }

  fit() {
    this.isFitted = true;
    this.redraw();
  }

  key(event) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (ways[event.key]) this.walk(...ways[event.key]);
    else if (event.key === "Enter" || event.key === " ") this.openHovered();
    else if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-") this.zoom(0.8);
    else if (event.key === "0") this.fit();
    else return;
    event.preventDefault();
  }

  openHovered() {
    if (this.layout.nodes.get(this.hovered)?.kind === "peer") this.open(this.hovered);
  }

  /** To the next node in a direction: near, and rather straight ahead than aside. */
  walk(right, down) {
    const here = this.layout.nodes.get(this.hovered ?? this.selected) ?? null;
    let [best, least] = [null, Infinity];
    for (const node of this.layout.nodes.values()) {
      if (node === here) continue;
      const [x, y] = here ? [node.x - here.x, node.y - here.y] : [node.x, node.y];
      const ahead = x * right + y * down;
      const aside = Math.abs(x * down - y * right);
      const cost = here ? ahead + 2.5 * aside : Math.hypot(x, y);
      if ((!here || ahead > 0.5) && cost < least) [best, least] = [node, cost];
    }
    if (!best) return;
    this.hover(best.id);
    this.say(this.words(best).join(", "));
  }

  hover(id) {
    if (id === this.hovered) return;
    this.hovered = id;
    const node = this.layout.nodes.get(id);
    this.canvas.classList.toggle("over", node?.kind === "peer");
    show(this.tip, Boolean(node));
    if (node) this.showTip(node);
    this.redraw();
  }

  showTip(node) {
    const [x, y] = this.drawing.toScreen(node.x, node.y);
    const [title, ...rest] = this.words(node);
    this.tip.replaceChildren(make("strong", { textContent: title }), make("span", { textContent: rest.join(" · ") }));
    const isRight = x > this.drawing.width / 2;
    const aside = isRight ? "translate(calc(-100% - 14px), 14px)" : "translate(14px, 14px)";
    this.tip.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px) ${aside}`;
  }

  /** What is said of a node: its name first. */
  words({ kind, record }) {
    if (kind === "broker") {
      return [record.name, "broker", several(record.peers ?? 0, "peer"), record.connected ? "connected" : "not connected"];
    }
    if (kind === "group") {
      const states = Object.entries(record.state).map(([state, num]) => `${num} ${state}`);
      return [record.name, several(record.num, "peer"), ...states];
    }
    const words = [record.name || record.id, record.role === "member" ? null : record.role, record.state];
    if (record.round) words.push(`round ${record.round}`);
    if (record.metric != null) words.push(metric(this.task, record.metric));
    return words.filter(Boolean);
  }
}
