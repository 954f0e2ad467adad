// The explanation of one number, beside the page or, on a narrow screen, at its foot. Escape closes it.

// Terms that are shown at once; of more, the largest come first.
const MOST_TERMS = 512;

const panel = {
  cell: null, trail: [], box: document.getElementById("panel"), returnTo: null, sorted: false,

  // returnTo: what has the focus again once the panel is closed, where that is not the cell itself.
  open(cell, returnTo) {
    this.returnTo = returnTo || null;
    this.trail = [];
    this.show(cell);
  },

  // Walk backwards: from a number to one that it was computed from, which the page shows too.
  follow(cell) {
    this.returnTo = null;
    if (this.cell) this.trail.push(this.cell);
    this.show(cell);
    reveal(cell, false);
    this.heading.focus({preventScroll: true});
  },

  back() {
    const cell = this.trail.pop();
    this.show(cell);
    reveal(cell, false);
    this.heading.focus({preventScroll: true});
  },

  show(cell) {
    const before = this.cell;
    this.cell = cell;
    this.box.hidden = false;
    document.body.classList.add("explaining");
    this.draw();
    this.box.scrollTop = 0;
    for (const one of [before, cell]) if (one && views.has(one.name)) views.get(one.name).mark();
    this.heading.focus({preventScroll: true});
    this.uncover();
  },

  // Whether it lies over the foot of the page, on a narrow screen.
  get covers() { return Boolean(this.cell) && matchMedia("(max-width: 60rem)").matches; },

  uncover() {
    const shown = document.querySelector("td.explained");
    if (this.covers && shown && shown.getBoundingClientRect().bottom > this.box.getBoundingClientRect().top) {
      shown.scrollIntoView({block: "start", inline: "nearest"});
    }
  },

  close() {
    if (!this.cell) return;
    const shown = this.cell;
    this.cell = null;
    this.box.hidden = true;
    document.body.classList.remove("explaining");
    if (views.has(shown.name)) views.get(shown.name).mark();
    if (this.returnTo && this.returnTo.isConnected) this.returnTo.focus();
    else if (views.has(shown.name)) views.get(shown.name).show(shown.h, shown.i, shown.j, true);
    this.returnTo = null;
  },

  draw() {
    const made = explain(this.cell);
    this.heading = el("h2", {id: "panel-title", tabindex: -1}, shortNumber(made.value));
    this.box.replaceChildren(...[
      el("div.bar", {}, el("span", {}, "How this number came about"),
        this.trail.length ? el("button", {type: "button", class: "back", click: () => this.back()}, "‹ Back") : null,
        el("button", {type: "button", class: "close", "aria-label": "Close", click: () => this.close()}, "×")),
      this.heading, place(this.cell),
      made.formula ? el("p.formula", {}, el("code", {}, made.formula)) : null, inputs(made.cell.name),
      ...made.parts.map((part) => this.part(part)), verdict(made)].filter(Boolean));
  },

  part(part) {
    if (part.say) return el("p", {}, part.say);
    if (part.line) return el("p.line", {}, part.line.map(written));
    return this.terms(part.terms);
  },

  terms({head, rows}) {
    const most = rows.reduce((size, row) => row.size > size && row.size < Infinity ? row.size : size, 0);
    const many = rows.length > MOST_TERMS, falling = (a, b) => (b.size || 0) - (a.size || 0);
    const ordered = this.sorted || many ? [...rows].sort(falling) : rows;
    const body = el("tbody"), add = (some) => body.append(...some.map((row) => el(row.own ? "tr.own" : "tr", {},
      el("th", {scope: "row"}, String(row.label)), row.cells.map((one) => el("td", {}, written(one))),
      el("td.share", {"aria-hidden": "true"}, bar(most ? row.size / most : 0)))));
    add(ordered.slice(0, MOST_TERMS));
    const more = many ? el("button", {type: "button", click: () => {
      add(ordered.slice(MOST_TERMS));
      more.remove();
    }}, `All ${ordered.length} terms`) : null;
    return el("div.terms", {}, many ? el("p", {}, `${rows.length} terms, the largest first:`) : null,
      rows.length > 8 && !many ? this.order(rows.length) : null,
      el("div.scroll", {tabindex: 0, role: "region", "aria-label": `${rows.length} terms`}, el("table", {},
        el("thead", {}, el("tr", {}, el("th", {scope: "col"}, ""), head.map((name) => el("th", {scope: "col"}, name)),
          el("th.share", {"aria-hidden": "true"}))), body)), more);
  },

  // The switch between the terms' own order and the largest first.
  order(terms) {
    return el("label", {}, el("input", {type: "checkbox", checked: this.sorted, change: (event) => {
      this.sorted = event.target.checked;
      this.draw();
      this.box.querySelector("input").focus();
    }}), ` ${terms} terms, largest first`);
  },
};

// Text, a plain number, or a number that leads to its cell.
function written(one) {
  if (typeof one === "string") return document.createTextNode(one);
  const full = fullNumber(one.value, one.single);
  if (!one.cell || one.value === undefined) return el("span.number", {title: full}, shortNumber(one.value));
  return el("button.number", {type: "button", title: `${full}, from ${one.cell.name}`, "data-name": one.cell.name,
    "data-h": one.cell.h, "data-i": one.cell.i, "data-j": one.cell.j, click: () => panel.follow(one.cell)},
  shortNumber(one.value));
}

function bar(share) {
  const inner = el("i");
  inner.style.width = `${(100 * Math.min(1, share || 0)).toFixed(1)}%`;
  return inner;
}

// Where the number stands: its array, head, row and column.
function place(cell) {
  const tensor = tensors.get(cell.name), labels = labelsOf(cell.name);
  const row = rowWord(cell.name, cell.i), column = wordOf(labels.columns, cell.j);
  const where = [tensor.heads > 1 ? `head ${cell.h + 1}` : null,
    tensor.shape.length > 1 ? (row === null ? `row ${cell.i}` : `row ${cell.i}, “${row}”`) : null,
    column === null ? `column ${cell.j}` : `column ${cell.j}, “${column}”`].filter(Boolean).join("; ");
  return el("p.place", {}, el("code", {}, breakable(cell.name)), el("br"), where);
}

// The arrays that the formula's letters stand for.
function inputs(name) {
  const origin = data.origins[name];
  const names = origin ? [...new Set([...origin.inputs, origin.bias].filter(Boolean))] : [];
  return names.length ? el("ul.inputs", {"aria-label": "computed from"}, names.map((one) => (
    el("li", {}, "from ", el("code", {}, breakable(one)))))) : null;
}

// The engine's number and ours side by side.
function verdict(made) {
  const tensor = tensors.get(made.cell.name), single = tensor.single;
  const line = (name, role, value) => el("div", {}, el("dt", {}, name), el("dd", {"data-role": role}, value));
  const list = el("dl.verdict", {}, line(derived.has(made.cell.name) ? "shown" : "the engine's number", "engine",
    fullNumber(made.value, single)));
  if (made.again === null) return list;
  list.append(line("computed again here", "again", fullNumber(made.again, false)));
  const same = agrees(made), type = single ? "float32" : "float64";
  list.append(el(same ? "div.agree" : "div.differ", {}, el("dt", {}, ""), el("dd", {"data-role": "agree"},
    same ? `✓ the same, rounding in ${type} aside`
      : `✗ more apart than rounding in ${type} explains: was it changed on the way?`)));
  return list;
}
