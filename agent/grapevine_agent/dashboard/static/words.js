// How numbers, times and names are written. Everything here returns plain text.

export const NONE = "–";
const SHARES = /accura|f1|auc|precision|recall|iou|r2|share/i;

export function count(value) {
  if (value == null || !Number.isFinite(value)) return NONE;
  if (value >= 100000) return `${(value / 1000).toFixed(0)} k`;
  return Math.round(value).toLocaleString("en");
}

export function rate(value) {
  if (value == null || !Number.isFinite(value)) return NONE;
  return value < 10 ? value.toFixed(1) : count(value);
}

export function bytes(value) {
  return scaled(value, ["B", "kB", "MB", "GB", "TB"], 1000);
}

export function joules(value) {
  return scaled(value, ["J", "kJ", "MJ"], 1000);
}

function scaled(value, units, base) {
  if (value == null || !Number.isFinite(value)) return NONE;
  let place = 0;
  while (value >= base && place < units.length - 1) {
    value /= base;
    place += 1;
  }
  const digits = place === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits).replace(/\.0+$/, "")} ${units[place]}`;
}

/** Is this metric a share of one, to be shown in per cent? */
export function isShare(task) {
  return Boolean(task) && SHARES.test(task.metric_name ?? "");
}

export function metric(task, value, digits = 1) {
  if (value == null || !Number.isFinite(value)) return NONE;
  return isShare(task) ? `${(value * 100).toFixed(digits)} %` : shortNumber(value);
}

export function shortNumber(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(1);
  return Number(value.toPrecision(3)).toString();
}

export function clock(ms) {
  const time = new Date(ms);
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(":");
}

/** A length of time, as short as it is still read at once. */
export function span(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return whole % 60 ? `${Math.floor(whole / 60)}:${two(whole % 60)} min` : `${whole / 60} min`;
  if (whole < 86400) {
    const minutes = Math.floor((whole % 3600) / 60);
    return minutes ? `${Math.floor(whole / 3600)}:${two(minutes)} h` : `${Math.floor(whole / 3600)} h`;
  }
  return `${Number((whole / 86400).toPrecision(3))} d`;
}

export function several(num, one, many = `${one}s`) {
  return `${count(num)} ${num === 1 ? one : many}`;
}

function two(value) {
  return String(value).padStart(2, "0");
}
