// Elements are made here, and their text is only ever text.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: classes after dots in its name, properties, and children (nodes or text). */
export function make(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (value == null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && !key.includes("-")) element[key] = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child != null && child !== false));
  return element;
}

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

export function $(id) {
  return document.getElementById(id);
}

/** Write text where it differs, so that nothing is laid out again for nothing. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function show(element, isShown) {
  if (element.hidden === isShown) element.hidden = !isShown;
}

/** Keep a list of rows in step with records: made once for each key, changed in place, and in order. */
export function keepRows(parent, records, keyOf, makeRow, changeRow) {
  const rows = (parent.keptRows ??= new Map());
  const seen = new Set();
  let place = parent.firstElementChild;
  for (const record of records) {
    const key = keyOf(record);
    seen.add(key);
    let row = rows.get(key);
    if (!row) rows.set(key, (row = makeRow(record)));
    changeRow(row, record);
    if (row === place) place = place.nextElementSibling;
    else parent.insertBefore(row, place);
  }
  for (const [key, row] of rows) {
    if (seen.has(key)) continue;
    row.remove();
    rows.delete(key);
  }
}
