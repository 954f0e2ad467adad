// The data of the page: arrays decoded from their exact bytes when they are first looked at, and numbers as text.

const data = JSON.parse(document.getElementById("data").textContent);

function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * fraction / 1024);
}

function decoded(stored) {
  const text = atob(stored.data), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const view = new DataView(bytes.buffer), size = {float16: 2, float32: 4, float64: 8}[stored.dtype];
  const values = new Float64Array(bytes.length / size);
  for (let i = 0; i < values.length; i++) {
    values[i] = size === 2 ? halfToNumber(view.getUint16(2 * i, true))
      : size === 4 ? view.getFloat32(4 * i, true) : view.getFloat64(8 * i, true);
  }
  return values;
}

// A named array of one to three axes, seen as heads of rows and columns. `ids`: of the axis `axis` only these are here.
class Tensor {
  constructor(name, stored, weight) {
    const shape = stored.shape;
    Object.assign(this, {name, stored, weight, shape});
    this.heads = shape.length === 3 ? shape[0] : 1;
    this.rows = shape.length === 1 ? 1 : shape[shape.length - 2];
    this.columns = shape[shape.length - 1];
    const axis = stored.ids ? (shape.length === 1 ? "column" : stored.axis ? "column" : "row") : null;
    this.rowIds = axis === "row" ? stored.ids : null;
    this.columnIds = axis === "column" ? stored.ids : null;
    this.places = stored.ids ? new Map(stored.ids.map((id, place) => [id, place])) : null;
    this.single = stored.true_dtype === "float32";
  }

  get values() {
    if (!this.kept) this.kept = this.stored.values || decoded(this.stored);
    return this.kept;
  }

  has(i, j) {
    return !this.places || this.places.has(this.rowIds ? i : j);
  }

  // The number, or undefined where the page does not hold it.
  at(h, i, j) {
    if (!this.has(i, j)) return undefined;
    if (this.rowIds) i = this.places.get(i);
    if (this.columnIds) j = this.places.get(j);
    const rows = this.rowIds ? this.rowIds.length : this.rows;
    const columns = this.columnIds ? this.columnIds.length : this.columns;
    return this.values[(h * rows + i) * columns + j];
  }

  // The rows and columns that a table shows.
  get shownRows() { return this.rowIds || range(this.rows); }
  get shownColumns() { return this.columnIds || range(this.columns); }

  // The largest finite absolute value, for colours.
  get peak() {
    if (this.keptPeak === undefined) {
      this.keptPeak = 0;
      for (const x of this.values.map(Math.abs)) if (x > this.keptPeak && x < Infinity) this.keptPeak = x;
    }
    return this.keptPeak;
  }
}

function range(n) { return Array.from({length: n}, (_, i) => i); }

const tensors = new Map();
for (const [name, stored] of Object.entries(data.arrays)) tensors.set(name, new Tensor(name, stored, false));
for (const [name, stored] of Object.entries(data.weights)) tensors.set(name, new Tensor(name, stored, true));

// A cell is {name, h, i, j}. Its number, or undefined.
function valueOf(cell) {
  const tensor = tensors.get(cell.name);
  return tensor && tensor.at(cell.h, cell.i, cell.j);
}

// What stands for a row or column: a word of a sentence or of the vocabulary, or its number.
function wordOf(kind, i) {
  if (kind === "source" || kind === "target") return data[kind][i] ? data[kind][i].word : String(i);
  if (kind === "words") return data.words[i] === undefined ? String(i) : data.words[i];
  return null;
}

// Whose words the rows and columns of an array are.
function labelsOf(name) {
  const origin = data.origins[name];
  if (origin) return origin;
  const embeds = name.endsWith("embedding.weight");
  const target = name === targetEmbedding();
  return {rows: embeds && (target || data.config.target_vocab_size === null) ? "words" : null,
          columns: name === "output.weight" || name === "output.bias" ? "words" : null};
}

function targetEmbedding() {
  return data.config.target_vocab_size === null ? "embedding.weight" : "decoder.embedding.weight";
}

// The word of an embedding's row: the vocabulary's, or one of the source sentence.
function rowWord(name, i) {
  const kind = labelsOf(name).rows;
  if (kind === "words" && data.words[i] !== undefined) return data.words[i];
  if (name.endsWith("embedding.weight")) {
    const found = data.source.find((word) => word.id === i);
    return found ? found.word : String(i);
  }
  return kind ? wordOf(kind, i) : null;
}

// Numbers as text -----------------------------------------------------------------------------------------------------

function unusual(x) {
  return Number.isNaN(x) ? "NaN" : x > 0 ? "∞" : "-∞";
}

// To four decimals, or scientific where these would hide the number or run away.
function shortNumber(x) {
  if (x === undefined) return "–";
  if (!Number.isFinite(x)) return unusual(x);
  if (x !== 0 && (Math.abs(x) < 5e-5 || Math.abs(x) >= 1e5)) return x.toExponential(2).replace("e+", "e");
  const text = x.toFixed(4);
  return Number(text) === 0 ? "0.0000" : text;
}

// Every digit that tells the number from its neighbours of the same type.
function fullNumber(x, single) {
  if (x === undefined) return "not on this page";
  if (!Number.isFinite(x)) return unusual(x);
  if (!single) return Object.is(x, -0) ? "-0" : String(x);
  for (let digits = 6; digits <= 9; digits++) {
    const text = x.toPrecision(digits);
    if (Math.fround(Number(text)) === x) return String(Number(text));
  }
  return String(x);
}

// Elements ------------------------------------------------------------------------------------------------------------

// An element with attributes (a function is a listener) and children, which are text or elements.
function el(tag, attributes, ...children) {
  const [, name, classes] = /^([\w-]+)\.?(.*)$/.exec(tag);
  return filled(document.createElement(name), classes, attributes, children);
}

// A long name that may be broken after its dots.
function breakable(name) {
  return name.split(/(?<=[._])/).flatMap((part, n) => n ? [el("wbr"), part] : [part]);
}

function svg(tag, attributes, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), "", attributes, children);
}

function filled(element, classes, attributes, children) {
  if (classes) element.setAttribute("class", classes.replaceAll(".", " "));
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// A colour of a signed number: orange above zero, blue below, stronger the larger; of a share: one hue.
function tint(x, peak, share) {
  if (!Number.isFinite(x) || !x || !peak) return "transparent";
  const strength = Math.min(1, Math.abs(x) / peak);
  const hue = share ? "--share" : x < 0 ? "--negative" : "--positive";
  return `rgb(var(${hue}) / ${(0.04 + 0.56 * strength).toFixed(3)})`;
}
