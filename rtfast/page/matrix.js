// A matrix as a table: a window of rows and columns that moves, and above a wide one a picture of all of it.

const CELL = 71, LABEL = 100, MOST_ROWS = 24, MOST_COLUMNS = 16;

const views = new Map();   // name -> the MatrixView that shows it, once it was opened
const places = new Map();  // name -> function that opens where the matrix is, so that its view exists

class MatrixView {
  // parent: where it goes; entry: {name, title, say}; group: views that show the same head.
  constructor(parent, entry, group) {
    this.entry = entry;
    this.parent = parent;
    this.group = group;
    this.tensor = tensors.get(entry.name);
    this.labels = labelsOf(entry.name);
    this.head = group ? group.head : 0;
    this.top = this.left = 0;
    this.active = {i: 0, j: 0};
    this.build();
    views.set(entry.name, this);
    parent.append(this.figure);
    this.render();
    sizes.observe(parent);
  }

  build() {
    const {tensor, entry} = this, origin = data.origins[entry.name];
    this.table = el("table", {role: "grid", "aria-rowcount": tensor.shownRows.length + 1,
      "aria-colcount": tensor.shownColumns.length + 1, click: (event) => this.clicked(event),
      keydown: (event) => this.pressed(event), mouseover: (event) => this.pointed(event),
      focusin: (event) => this.pointed(event)});
    this.readout = el("p.readout", {"aria-hidden": "true"});
    this.pager = el("div.pager", {role: "group", "aria-label": `Part of ${entry.name} that is shown`});
    this.overview = el("div.overview", {click: (event) => this.jump(event)});
    const shape = `(${tensor.shape.join(", ")}${tensor.shape.length === 1 ? "," : ""})`;
    this.figure = el("figure.matrix", {"data-name": entry.name},
      el("figcaption", {}, el("div.head", {}, el("strong", {}, entry.title), el("code.shape", {title: "shape"}, shape),
        origin ? el("code.formula", {title: "formula"}, origin.formula) : null),
        el("code.name", {}, breakable(entry.name)),
        tensor.stored.ids ? el("p.part", {}, `Only the ${tensor.stored.ids.length} that the page needs.`) : null,
        entry.say ? el("p", {}, entry.say) : null),
      this.overview, el("div.scroll", {}, this.table), el("div.foot", {}, this.pager, this.readout));
  }

  get rows() { return this.tensor.shownRows; }
  get columns() { return this.tensor.shownColumns; }
  get share() {
    const origin = data.origins[this.entry.name];
    return Boolean(origin) && (origin.kind === "softmax" || origin.kind === "mean");
  }

  // How many columns fit.
  get fitting() {
    const room = this.parent.clientWidth || 640, label = room < 480 ? 72 : LABEL;
    const columns = Math.floor((room - label - (room < 480 ? 14 : 34)) / CELL);
    return Math.max(1, Math.min(MOST_COLUMNS, this.columns.length, columns));
  }

  render() {
    this.width = this.fitting;
    this.height = Math.min(MOST_ROWS, this.rows.length);
    this.top = Math.max(0, Math.min(this.top, this.rows.length - this.height));
    this.left = Math.max(0, Math.min(this.left, this.columns.length - this.width));
    const wide = this.columns.length > this.width || this.rows.length > this.height;
    this.figure.classList.toggle("wide", this.width * CELL + LABEL > this.parent.clientWidth * 0.6);
    const rows = this.rows.slice(this.top, this.top + this.height);
    const columns = this.columns.slice(this.left, this.left + this.width);
    this.table.setAttribute("aria-label", `${this.entry.title}, ${this.entry.name}` +
      (this.tensor.heads > 1 ? `, head ${this.head + 1}` : ""));
    this.table.replaceChildren(
      el("thead", {}, el("tr", {"aria-rowindex": 1}, el("th", {scope: "col"}, el("span.unseen", {}, "row")),
        columns.map((j, n) => el("th", {scope: "col", "aria-colindex": this.left + n + 2, title: this.columnTitle(j)},
          this.columnName(j))))),
      el("tbody", {}, rows.map((i, n) => el("tr", {"aria-rowindex": this.top + n + 2},
        el("th", {scope: "row", title: this.rowName(i)}, this.rowName(i)), columns.map((j) => this.cell(i, j))))));
    this.drawPager(wide);
    this.drawOverview(wide);
    this.mark();
  }

  rowName(i) {
    const word = rowWord(this.entry.name, i);
    return word === null ? String(this.tensor.shape.length === 1 ? "" : i) : word;
  }

  columnName(j) {
    const word = wordOf(this.labels.columns, j);
    return word === null ? String(j) : word;
  }

  columnTitle(j) {
    const word = wordOf(this.labels.columns, j);
    return word === null ? `column ${j}` : `${word}, column ${j}`;
  }

  cell(i, j) {
    const x = this.tensor.at(this.head, i, j), masked = isMasked(this.entry.name, i, j);
    return el(masked ? "td.masked" : "td", {role: "gridcell", tabindex: -1, "data-i": i, "data-j": j,
      "aria-colindex": this.columns.indexOf(j) + 2,
      title: fullNumber(x, this.tensor.single) + (masked ? " (masked)" : ""),
      style: `background-color:${masked ? "transparent" : tint(x, this.share ? 1 : this.tensor.peak, this.share)}`},
    shortNumber(x));
  }

  // The cell that the keyboard is on, and the one that is being explained.
  mark() {
    let inside = null;
    for (const cell of this.table.querySelectorAll("td")) {
      const i = Number(cell.dataset.i), j = Number(cell.dataset.j);
      if (i === this.rows[this.active.i] && j === this.columns[this.active.j]) inside = cell;
      const shown = panel.cell;
      cell.classList.toggle("explained", Boolean(shown) && shown.name === this.entry.name && shown.h === this.head &&
        shown.i === i && shown.j === j);
    }
    inside = inside || this.table.querySelector("td");
    if (inside) inside.tabIndex = 0;
  }

  drawPager(wide) {
    this.pager.replaceChildren();
    if (!wide) return;
    const part = (first, count, all, what) => `${what} ${first} to ${first + count - 1} of ${all}`;
    const step = (text, label, down, right) => el("button", {type: "button", "aria-label": label,
      disabled: (down < 0 && this.top === 0) || (right < 0 && this.left === 0) ||
        (down > 0 && this.top + this.height >= this.rows.length) ||
        (right > 0 && this.left + this.width >= this.columns.length),
      click: () => this.page(down, right, label)}, text);
    if (this.columns.length > this.width) {
      this.pager.append(step("‹", "columns to the left", 0, -1),
        el("span", {}, part(this.left, this.width, this.columns.length, "columns")),
        step("›", "columns to the right", 0, 1));
    }
    if (this.rows.length > this.height) {
      this.pager.append(step("▴", "rows above", -1, 0),
        el("span", {}, part(this.top, this.height, this.rows.length, "rows")),
        step("▾", "rows below", 1, 0));
    }
  }

  page(down, right, label) {
    this.top += down * this.height;
    this.left += right * this.width;
    this.render();
    const again = this.pager.querySelector(`[aria-label="${label}"]:not(:disabled)`) ||
      this.pager.querySelector("button:not(:disabled)");
    if (again) again.focus();
  }

  drawOverview(wide) {
    this.overview.replaceChildren();
    this.overview.hidden = !wide;
    if (!wide) return;
    const columns = Math.min(this.columns.length, 1024), rows = Math.min(this.rows.length, 256);
    const canvas = el("canvas", {width: columns, height: rows, role: "img",
      "aria-label": `Picture of all ${this.rows.length} by ${this.columns.length} numbers of ${this.entry.name}: ` +
        "orange above zero, blue below, stronger the larger"});
    canvas.style.height = `${Math.max(14, Math.min(96, rows * 7))}px`;
    paint(canvas, this.tensor, this.head, this.rows, this.columns, this.share);
    const share = (part, whole) => `${(100 * part / whole).toFixed(2)}%`;
    const frame = el("span.frame");
    Object.assign(frame.style, {
      left: share(this.left, this.columns.length), width: share(this.width, this.columns.length),
      top: share(this.top, this.rows.length), height: share(this.height, this.rows.length)});
    this.overview.append(canvas, frame);
  }

  jump(event) {
    const box = this.overview.getBoundingClientRect();
    this.left = Math.round((event.clientX - box.left) / box.width * this.columns.length - this.width / 2);
    this.top = Math.round((event.clientY - box.top) / box.height * this.rows.length - this.height / 2);
    this.render();
  }

  setHead(head) {
    if (this.tensor.heads === 1) return;
    this.head = head;
    this.render();
  }

  // Bring a cell into the window and, if asked, into sight and focus. i, j are the array's own.
  show(h, i, j, focus) {
    if (this.tensor.heads > 1 && h !== this.head) this.group ? this.group.choose(h) : this.setHead(h);
    this.active = {i: Math.max(0, this.rows.indexOf(i)), j: Math.max(0, this.columns.indexOf(j))};
    this.scrollTo();
    this.render();
    const cell = this.table.querySelector(`td[data-i="${i}"][data-j="${j}"]`);
    if (cell && focus) cell.focus();
    return cell;
  }

  scrollTo() {
    const {i, j} = this.active;
    if (i < this.top) this.top = i;
    if (i >= this.top + this.height) this.top = i - this.height + 1;
    if (j < this.left) this.left = j;
    if (j >= this.left + this.width) this.left = j - this.width + 1;
  }

  clicked(event) {
    const cell = event.target.closest("td");
    if (cell) this.chosen(cell);
  }

  chosen(cell) {
    const i = Number(cell.dataset.i), j = Number(cell.dataset.j);
    this.active = {i: this.rows.indexOf(i), j: this.columns.indexOf(j)};
    panel.open({name: this.entry.name, h: this.head, i, j});
  }

  pressed(event) {
    const cell = event.target.closest("td");
    if (!cell || event.altKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.chosen(cell);
      return;
    }
    const i = this.rows.indexOf(Number(cell.dataset.i)), j = this.columns.indexOf(Number(cell.dataset.j));
    const lastRow = this.rows.length - 1, lastColumn = this.columns.length - 1, far = event.ctrlKey;
    const target = {
      ArrowRight: [i, j + 1], ArrowLeft: [i, j - 1], ArrowDown: [i + 1, j], ArrowUp: [i - 1, j],
      Home: [far ? 0 : i, 0], End: [far ? lastRow : i, lastColumn],
      PageDown: [i + this.height, j], PageUp: [i - this.height, j]}[event.key];
    if (!target) return;
    event.preventDefault();
    const clamp = (x, most) => Math.max(0, Math.min(most, x));
    this.show(this.head, this.rows[clamp(target[0], lastRow)], this.columns[clamp(target[1], lastColumn)], true);
  }

  pointed(event) {
    const cell = event.target.closest("td");
    if (!cell) return;
    const i = Number(cell.dataset.i), j = Number(cell.dataset.j), row = this.rowName(i);
    this.readout.textContent = `${row ? `${row}, ` : ""}${this.columnTitle(j)}: ${cell.title}`;
  }
}

// All numbers of a matrix as pixels; where there are more than pixels, the largest of each share of them.
function paint(canvas, tensor, head, rows, columns, share) {
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  const style = getComputedStyle(document.documentElement), colour = {};
  for (const name of ["share", "positive", "negative"]) {
    colour[name] = style.getPropertyValue(`--${name}`).trim().split(/\s+/).map(Number);
  }
  const peak = share ? 1 : tensor.peak || 1, largest = new Float64Array(canvas.width * canvas.height);
  for (let r = 0; r < rows.length; r++) {
    const y = Math.floor(r * canvas.height / rows.length);
    for (let c = 0; c < columns.length; c++) {
      const x = tensor.at(head, rows[r], columns[c]);
      const at = y * canvas.width + Math.floor(c * canvas.width / columns.length);
      if (Math.abs(x) > Math.abs(largest[at])) largest[at] = x;
    }
  }
  largest.forEach((x, at) => {
    const [red, green, blue] = share ? colour.share : x < 0 ? colour.negative : colour.positive;
    image.data.set([red, green, blue, 255 * Math.min(1, Math.abs(x) / peak)], 4 * at);
  });
  context.putImageData(image, 0, 0);
}

// When the room for tables changes, other columns fit.
const sizes = new ResizeObserver((entries) => {
  for (const {target} of entries) {
    for (const view of views.values()) {
      if (view.parent === target && target.clientWidth && view.fitting !== view.width) view.render();
    }
  }
});

function redrawAll() {
  for (const view of views.values()) view.render();
}

// Views of one attention that show the same head, and the buttons that choose it.
class HeadGroup {
  constructor(heads) {
    this.heads = heads;
    this.head = 0;
    this.listeners = [];
    this.element = el("div.heads", {role: "group", "aria-label": "Head"}, el("span", {}, "Head"),
      range(heads).map((h) => el("button", {type: "button", "aria-pressed": String(h === 0),
        click: () => this.choose(h)}, String(h + 1))));
  }

  choose(head) {
    this.head = head;
    [...this.element.querySelectorAll("button")].forEach((button, h) => {
      button.setAttribute("aria-pressed", String(h === head));
    });
    for (const listener of this.listeners) listener(head);
  }
}

// Open whatever an element is folded away in.
function openAround(element) {
  for (let box = element.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
}

// Open where a cell is and show it there.
function reveal(cell, focus) {
  if (!views.has(cell.name) && !places.has(cell.name) && later.has(cell.name)) later.get(cell.name)();
  if (!views.has(cell.name) && places.has(cell.name)) places.get(cell.name)();
  const view = views.get(cell.name);
  if (!view) return false;
  openAround(view.figure);
  const shown = view.show(cell.h, cell.i, cell.j, focus);
  if (shown) shown.scrollIntoView({block: panel.covers ? "start" : "center", inline: "nearest"});
  return true;
}
