// Curves over time (uPlot): learning, staleness, traffic, and the small one of a peer.

import { readColours } from "./drawing.js";
import { isShare, bytes, metric, rate, shortNumber, span } from "./words.js";

const { uPlot } = globalThis;
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 172800, 604800];
const BAND = "26";
let colours = readColours();

/** Colours follow the theme; each chart draws itself again. */
export function recolour(charts) {
  colours = readColours();
  for (const chart of charts) chart.plot.redraw(false);
}

function axis(more) {
  return {
    stroke: () => colours["ink-2"],
    grid: { stroke: () => colours.line, width: 1 },
    ticks: { show: false },
    font: `11px ${getComputedStyle(document.body).fontFamily}`,
    gap: 6,
    ...more,
  };
}

const timeAxis = () =>
  axis({ incrs: STEPS, space: 64, size: 30, grid: { show: false }, values: (_, marks) => marks.map((mark) => span(mark)) });

function line(name, colour, more = {}) {
  return { label: name, stroke: () => colours[colour], width: 1.5, points: { show: false }, spanGaps: true, ...more };
}

/** A chart that fills its place, with its legend in our words below it. */
class Chart {
  constructor(place, { series, scales, axes, bands = [], draw = [] }) {
    this.place = place;
    this.begin = null;
    const options = {
      width: Math.max(120, place.clientWidth), height: Math.max(90, place.clientHeight),
      series: [{ label: "after", value: (_, value) => (value == null ? "" : span(value)) }, ...series],
      scales: { x: { time: false }, ...scales }, axes: [timeAxis(), ...axes], bands,
      legend: { show: false }, cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      padding: [10, 22, 0, 0], hooks: { draw, setCursor: [(plot) => this.tell(plot)] },
    };
    this.plot = new uPlot(options, [[], ...series.map(() => [])], place);
    this.tip = document.createElement("div");
    this.tip.className = "chart-tip";
    this.tip.hidden = true;
    place.append(this.tip);
    new ResizeObserver(() => this.fit()).observe(place);
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.place;
    if (width && height) this.plot.setSize({ width, height });
  }

  /** Columns with times in ms; shown as what has passed since the first. */
  set(times, ...columns) {
    this.begin = times[0] ?? this.begin ?? 0;
    this.plot.setData([times.map((time) => (time - this.begin) / 1000), ...columns]);
  }

  /** Under the pointer: when, and what each line is there. */
  tell(plot) {
    const place = plot.cursor.idx;
    this.tip.hidden = place == null || plot.cursor.left < 0;
    if (this.tip.hidden) return;
    const words = plot.series.slice(1).filter((one) => one.told).map((one) => {
      const value = plot.data[plot.series.indexOf(one)][place];
      return value == null ? null : `${one.label} ${one.told(value)}`;
    });
    this.tip.textContent = [span(plot.data[0][place]), ...words.filter(Boolean)].join(" · ");
    this.tip.classList.toggle("left", plot.cursor.left > plot.over.clientWidth / 2);
  }
}

/** Each peer's thin line, their mean, what lies between the 10th and 90th of a hundred, and the baseline. */
export class LearningChart extends Chart {
  constructor(place) {
    const told = (value) => metric(this.task, value);
    const inBounds = (_, low, high) => this.range(low, high);
    super(place, {
      series: [
        line("90 of 100 below", "accent", { width: 0, told }), line("10 of 100 below", "accent", { width: 0, told }),
        line("mean", "accent", { width: 3, told }), line("baseline", "ink-3", { dash: [6, 5], told }),
      ],
      scales: { y: { range: inBounds } },
      axes: [axis({ size: 48, space: 44, values: (_, marks) => marks.map((mark) => metric(this.task, mark, 0)) })],
      bands: [{ series: [1, 2], fill: () => colours.accent + BAND }],
    });
    this.plot.hooks.drawAxes = [(plot) => this.drawPeers(plot)];
    this.peers = {};
  }

  range(low, high) {
    const baseline = this.task?.baseline;
    if (low == null || high == null) return [0, 1];
    low = Math.min(low, this.low ?? low, baseline ?? low);
    high = Math.max(high, this.high ?? high, baseline ?? high);
    const room = (high - low || 0.1) * 0.06;
    return isShare(this.task) ? [Math.max(0, low - room), Math.min(1, high + room)] : [low - room, high + room];
  }

  update(task, series, marked) {
    Object.assign(this, { task, peers: series?.peers ?? {}, marked });
    const all = series?.all ?? [];
    const values = Object.values(this.peers).flatMap((points) => points.map(([, value]) => value));
    [this.low, this.high] = values.length ? [smallest(values), largest(values)] : [null, null];
    const [times, mean, low, high] = [0, 1, 2, 3].map((column) => all.map((row) => row[column]));
    this.set(times, high, low, mean, times.map(() => task?.baseline ?? null));
  }

  drawPeers(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.lineJoin = "round";
    for (const [peer, points] of Object.entries(this.peers)) {
      const isMarked = peer === this.marked;
      ctx.globalAlpha = isMarked ? 1 : 0.3;
      ctx.strokeStyle = isMarked ? colours.ink : colours["ink-3"];
      ctx.lineWidth = (isMarked ? 2 : 0.8) * devicePixelRatio;
      ctx.beginPath();
      for (const [time, value] of points) {
        ctx.lineTo(plot.valToPos((time - this.begin) / 1000, "x", true), plot.valToPos(value, "y", true));
      }
      ctx.stroke();
    }
    ctx.restore();
  }
}

export class StalenessChart extends Chart {
  constructor(place) {
    super(place, {
      series: [
        line("mean", "accent", { width: 2, told: shortNumber }),
        line("bound", "suspect", { dash: [6, 5], told: shortNumber }),
      ],
      scales: { y: { range: (_, low, high) => [0, Math.max(1, high ?? 1) * 1.15] } },
      axes: [axis({ size: 34, space: 34, values: (_, marks) => marks.map(shortNumber) })],
    });
  }

  update(points) {
    this.set(...[0, 1, 2].map((column) => points.map((row) => row[column])));
  }
}

export class TrafficChart extends Chart {
  constructor(place) {
    super(place, {
      series: [
        line("messages a second", "accent", { width: 2, told: rate }),
        line("bytes a second", "alive", { width: 1.5, scale: "bytes", told: (value) => `${bytes(value)}/s` }),
      ],
      scales: {
        y: { range: (_, low, high) => [0, Math.max(1, high ?? 1) * 1.15] },
        bytes: { range: (_, low, high) => [0, Math.max(1, high ?? 1) * 1.4] },
      },
      axes: [
        axis({ size: 34, space: 34, values: (_, marks) => marks.map(shortNumber) }),
        axis({ scale: "bytes", side: 1, size: 56, space: 34, grid: { show: false }, values: (_, marks) => marks.map(bytes) }),
      ],
    });
  }

  update(rates) {
    this.set(...[0, 1, 2].map((column) => rates.map((row) => row[column])));
  }
}

/** One peer's curve beside the mean of all. */
export class PeerChart extends Chart {
  constructor(place, task) {
    const told = (value) => metric(task, value);
    super(place, {
      series: [line("this peer", "accent", { width: 2.5, told }), line("mean of all", "ink-3", { dash: [5, 4], told })],
      scales: {},
      axes: [axis({ size: 48, space: 24, values: (_, marks) => marks.map((mark) => metric(task, mark, 0)) })],
    });
  }

  update(points, all) {
    const tables = [points, all].map((rows) => [rows.map((row) => row[0]), rows.map((row) => row[1])]);
    const joined = points.length && all.length ? uPlot.join(tables) : [...tables[points.length ? 0 : 1], []];
    if (!all.length) joined[2] = joined[0].map(() => null);
    if (!points.length) [joined[1], joined[2]] = [joined[0].map(() => null), joined[1]];
    this.set(...joined);
  }
}

function smallest(values) {
  return values.reduce((one, other) => Math.min(one, other));
}

function largest(values) {
  return values.reduce((one, other) => Math.max(one, other));
}
