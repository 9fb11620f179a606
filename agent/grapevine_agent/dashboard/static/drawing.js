// How the overlay is drawn: one canvas for what stands, one above it for what flies.

import { hexagon, paths, shapeOf } from "./shapes.js";

const KEPT_MS = 10000;
const COLOURS = [
  "ink", "ink-2", "ink-3", "card", "line", "accent", "broker",
  "alive", "suspect", "silent", "asleep", "paused", "offline", "killed",
];

/** The page's colours, of the theme that holds now. */
export function readColours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

export class Drawing {
  constructor(canvas, sparks, layout) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.sparkCanvas = sparks;
    this.sparkContext = sparks.getContext("2d");
    this.layout = layout;
    this.view = { k: 1, x: 0, y: 0 };
    this.colours = readColours();
    this.font = "";
  }

  resize(width, height) {
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    for (const canvas of [this.canvas, this.sparkCanvas]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    Object.assign(this, { width, height, ratio });
    this.font = getComputedStyle(this.canvas).fontFamily;
  }

  /** Show everything, with some room around it. */
  fit() {
    const { left, top, right, bottom } = this.layout.box();
    const room = Math.min(44, this.width * 0.06);
    const k = Math.min((this.width - 2 * room) / (right - left), (this.height - 2 * room) / (bottom - top), 1.9);
    this.view = { k, x: this.width / 2 - ((left + right) / 2) * k, y: this.height / 2 - ((top + bottom) / 2) * k };
  }

  zoom(factor, [x, y] = [this.width / 2, this.height / 2]) {
    const k = Math.min(8, Math.max(0.15, this.view.k * factor));
    const grown = k / this.view.k;
    this.view = { k, x: x - (x - this.view.x) * grown, y: y - (y - this.view.y) * grown };
  }

  toScreen(x, y) {
    return [x * this.view.k + this.view.x, y * this.view.k + this.view.y];
  }

  toWorld(x, y) {
    return [(x - this.view.x) / this.view.k, (y - this.view.y) / this.view.k];
  }

  /** On the screen, nodes neither vanish nor grow without end. */
  size(node) {
    return node.r * Math.min(1.6, Math.max(0.42, this.view.k));
  }

  nearest(x, y, reach = 14) {
    let best = null;
    for (const node of this.layout.nodes.values()) {
      const [left, top] = this.toScreen(node.x, node.y);
      const distance = Math.hypot(left - x, top - y) - this.size(node);
      if (distance < reach) [best, reach] = [node, distance];
    }
    return best;
  }

  draw(state, { hovered, selected, task }) {
    const { context, ratio } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const marked = selected ?? hovered;
    this.drawLines();
    this.drawLinks(state, marked);
    const near = marked ? this.neighbours(state, marked) : null;
    for (const node of this.layout.nodes.values()) {
      context.globalAlpha = near && !near.has(node.id) ? 0.28 : 1;
      if (node.kind === "broker") this.drawBroker(node);
      else if (node.kind === "group") this.drawGroup(node);
      else this.drawPeer(node, task);
    }
    context.globalAlpha = 1;
    for (const id of new Set([hovered, selected])) this.drawMark(this.layout.nodes.get(id), id === selected);
    this.drawNames(hovered, selected, near);
  }

  neighbours(state, id) {
    const near = new Set([id]);
    for (const { from, to } of state.links) {
      if (from === id) near.add(to);
      if (to === id) near.add(from);
    }
    for (const { source, target } of this.layout.lines) {
      if (source.id === id) near.add(target.id);
      if (target.id === id) near.add(source.id);
    }
    return near;
  }

  drawLines() {
    const { context } = this;
    context.strokeStyle = this.colours.line;
    context.lineWidth = 1;
    context.beginPath();
    for (const { source, target } of this.layout.lines) {
      context.moveTo(...this.toScreen(source.x, source.y));
      context.lineTo(...this.toScreen(target.x, target.y));
    }
    context.stroke();
  }

  drawLinks(state, marked) {
    const { context } = this;
    context.strokeStyle = this.colours.accent;
    const crowd = Math.min(1, Math.max(0.22, 70 / (1 + state.links.length)));
    for (const link of state.links) {
      const from = this.layout.nodes.get(link.from);
      const to = this.layout.nodes.get(link.to);
      if (!from || !to) continue;
      const fresh = Math.max(0, 1 - (state.now_ms - link.last_ms) / KEPT_MS);
      const isMine = link.from === marked || link.to === marked;
      context.globalAlpha = marked && !isMine ? 0.03 : isMine ? 0.45 + 0.34 * fresh : (0.06 + 0.32 * fresh) * crowd;
      context.lineWidth = Math.min(3, 0.7 + Math.log2(1 + link.num) * 0.25);
      context.beginPath();
      context.moveTo(...this.toScreen(from.x, from.y));
      context.quadraticCurveTo(...this.toScreen(...this.layout.way(from, to)), ...this.toScreen(to.x, to.y));
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  drawBroker(node) {
    const { context, colours } = this;
    const [x, y] = this.toScreen(node.x, node.y);
    const size = Math.max(9, this.size(node));
    context.beginPath();
    context.roundRect(x - size, y - size, 2 * size, 2 * size, size * 0.42);
    context.fillStyle = node.record.connected ? colours.broker : colours.card;
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = node.record.connected ? colours.broker : colours.silent;
    context.stroke();
    // Three bars, as on a box that passes things on; crossed out where there is no connection.
    context.strokeStyle = node.record.connected ? colours.card : colours.silent;
    context.lineWidth = Math.max(1.2, size * 0.13);
    context.lineCap = "round";
    context.beginPath();
    for (const line of [-0.4, 0, 0.4]) {
      context.moveTo(x - size * 0.5, y + size * line);
      context.lineTo(x + size * 0.5, y + size * line);
    }
    context.stroke();
  }

  drawGroup(node) {
    const { context, colours } = this;
    const [x, y] = this.toScreen(node.x, node.y);
    const size = this.size(node);
    let angle = -Math.PI / 2;
    context.lineWidth = Math.max(3, size * 0.18);
    for (const [state, num] of Object.entries(node.record.state)) {
      const end = angle + (num / Math.max(1, node.record.num)) * 2 * Math.PI;
      context.beginPath();
      context.arc(x, y, size, angle, end);
      context.strokeStyle = colours[shapeOf(state)];
      context.stroke();
      angle = end;
    }
    context.beginPath();
    context.arc(x, y, size - context.lineWidth / 2, 0, 2 * Math.PI);
    context.fillStyle = colours.card;
    context.fill();
    this.write(String(node.record.num), x, y + 4, colours.ink, `600 ${Math.max(10, Math.min(15, size * 0.5))}px`);
  }

  drawPeer(node, task) {
    const { context, colours } = this;
    const peer = node.record;
    const [x, y] = this.toScreen(node.x, node.y);
    const size = this.size(node);
    const state = shapeOf(peer.state);
    context.save();
    context.translate(x, y);
    context.fillStyle = colours.card;
    context.beginPath();
    context.arc(0, 0, size + 1, 0, 2 * Math.PI);
    context.fill();
    if (peer.role === "server") {
      context.save();
      context.scale(size * 1.18, size * 1.18);
      context.lineWidth = 0.14;
      context.strokeStyle = colours[state];
      context.fill(hexagon);
      context.stroke(hexagon);
      context.restore();
    } else if (size > 5) {
      this.drawRing(peer, size, task);
    }
    const inner = peer.role === "server" || size <= 5 ? size * 0.62 : size * 0.58;
    context.scale(inner, inner);
    context.fillStyle = colours[state];
    context.fill(paths[state]);
    context.restore();
  }

  /** The ring around a peer is closed as far as its metric has come. */
  drawRing(peer, size, task) {
    const { context, colours } = this;
    context.lineWidth = Math.max(1.4, size * 0.2);
    context.beginPath();
    context.arc(0, 0, size, 0, 2 * Math.PI);
    context.strokeStyle = colours.line;
    context.stroke();
    const share = task?.isShare ? peer.metric : null;
    if (share == null || !(share > 0)) return;
    context.beginPath();
    context.arc(0, 0, size, -Math.PI / 2, -Math.PI / 2 + Math.min(1, share) * 2 * Math.PI);
    context.strokeStyle = colours.accent;
    context.stroke();
  }

  drawMark(node, isSelected) {
    if (!node) return;
    const { context, colours } = this;
    context.beginPath();
    context.arc(...this.toScreen(node.x, node.y), this.size(node) + 7, 0, 2 * Math.PI);
    context.lineWidth = isSelected ? 2.5 : 1.5;
    context.strokeStyle = isSelected ? colours.ink : colours["ink-3"];
    context.stroke();
  }

  drawNames(hovered, selected, near) {
    const few = this.layout.nodes.size <= 44 && this.view.k > 0.62;
    for (const node of this.layout.nodes.values()) {
      const isMarked = node.id === hovered || node.id === selected;
      const isNear = near?.has(node.id) && near.size < 26;
      const isSpecial = node.kind !== "peer" || node.record.role !== "member";
      if (!(isMarked || isNear || isSpecial || few || this.view.k > 1.7)) continue;
      const [x, y] = this.toScreen(node.x, node.y);
      const name = node.record.name || node.id.slice(0, 8);
      const colour = near && !near.has(node.id) ? this.colours.line : node.kind === "broker" ? this.colours.ink : this.colours["ink-2"];
      const weight = node.kind === "broker" || isMarked ? "600 12px" : "11px";
      this.write(name.length > 22 ? `${name.slice(0, 21)}…` : name, x, y + this.size(node) + 15, colour, weight);
    }
  }

  write(text, x, y, colour, font) {
    const { context } = this;
    context.font = `${font} ${this.font}`;
    context.textAlign = "center";
    context.lineJoin = "round";
    context.lineWidth = 3;
    context.strokeStyle = this.colours.card;
    context.strokeText(text, x, y);
    context.fillStyle = colour;
    context.fillText(text, x, y);
  }

  /** What flies: each spark with a tail, and a ring where it arrives. */
  drawSparks(sparks, now) {
    const { sparkContext: context, ratio } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    context.strokeStyle = context.fillStyle = this.colours.accent;
    context.lineCap = "round";
    for (const spark of sparks) this.drawSpark(context, spark, (now - spark.begin) / spark.lasts);
    context.globalAlpha = 1;
  }

  drawSpark(context, { from, to }, time) {
    if (time < 0) return;
    if (time > 1) {
      const fade = (time - 1) / 0.35;
      context.globalAlpha = Math.max(0, 0.7 * (1 - fade));
      context.lineWidth = 1.6;
      context.beginPath();
      context.arc(...this.toScreen(to.x, to.y), this.size(to) + 2 + 7 * fade, 0, 2 * Math.PI);
      context.stroke();
      return;
    }
    const bend = this.layout.way(from, to);
    const head = time * time * (3 - 2 * time);
    context.lineWidth = 2.2;
    for (let part = 0; part < 4; part += 1) {
      context.globalAlpha = 0.15 + 0.25 * part;
      context.beginPath();
      context.moveTo(...this.along(from, bend, to, Math.max(0, head - 0.1 + part * 0.025)));
      context.lineTo(...this.along(from, bend, to, Math.max(0, head - 0.075 + part * 0.025)));
      context.stroke();
    }
    context.globalAlpha = 1;
    context.beginPath();
    context.arc(...this.along(from, bend, to, head), 2.2, 0, 2 * Math.PI);
    context.fill();
  }

  along(from, [x, y], to, time) {
    const rest = 1 - time;
    return this.toScreen(
      rest * rest * from.x + 2 * rest * time * x + time * time * to.x,
      rest * rest * from.y + 2 * rest * time * y + time * time * to.y,
    );
  }
}
