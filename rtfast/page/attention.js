// Attention drawn as lines between two columns of words, and the cross-attention of all layers and heads.

const ROW = 34, TOP = 26, MOST_LINES = 1500;
// Between words, in a line from left to right: without the mark two Arabic words would change places, and it not.
const ARROW = "\u200e→";

// parent: an element that is filled; sides: what is written above the two columns; title: for those who cannot see.
class LinePicture {
  constructor(parent, rows, columns, sides, title) {
    Object.assign(this, {parent, rows, columns, sides, title, only: null});
  }

  draw(name, h) {
    const tensor = tensors.get(name), height = TOP + Math.max(this.rows.length, this.columns.length) * ROW + 6;
    const y = (n, count) => TOP + (height - TOP) / 2 + (n - (count - 1) / 2) * ROW;
    const narrow = (this.parent.clientWidth || 640) < 480, SIDE = narrow ? 120 : 160, MIDDLE = narrow ? 90 : 300;
    let lines = [];
    this.rows.forEach((_, i) => this.columns.forEach((_, j) => {
      const weight = tensor.at(h, i, j);
      if (weight > 0.005) lines.push({i, j, weight});
    }));
    lines = lines.sort((a, b) => a.weight - b.weight).slice(-MOST_LINES);
    const picture = svg("svg", {viewBox: `0 0 ${2 * SIDE + MIDDLE} ${height}`, role: "group", class: "lines",
      "aria-label": this.described(tensor, h)});
    picture.style.maxWidth = `${(2 * SIDE + MIDDLE) * 1.15}px`;
    picture.append(svg("text", {x: SIDE - 12, y: 14, "text-anchor": "end", class: "side"}, this.sides[0]),
      svg("text", {x: SIDE + MIDDLE + 12, y: 14, class: "side"}, this.sides[1]));
    for (const {i, j, weight} of lines) {
      const [a, b] = [y(i, this.rows.length), y(j, this.columns.length)];
      const middle = SIDE + MIDDLE / 2, curve = `M${SIDE} ${a}C${middle} ${a} ${middle} ${b} ${SIDE + MIDDLE} ${b}`;
      picture.append(svg("path", {d: curve,
        "stroke-width": (0.5 + 8 * weight).toFixed(2), "stroke-opacity": (0.08 + 0.8 * weight).toFixed(3),
        "data-i": i, "data-j": j},
      svg("title", {}, `${this.rows[i]} ${ARROW} ${this.columns[j]}: ${shortNumber(weight)}`)));
    }
    this.rows.forEach((word, i) => picture.append(this.word(word, "row", i, SIDE - 12, y(i, this.rows.length), "end")));
    this.columns.forEach((word, j) => picture.append(
      this.word(word, "column", j, SIDE + MIDDLE + 12, y(j, this.columns.length), "start")));
    this.parent.replaceChildren(picture);
    this.picture = picture;
    this.highlight(this.only);
  }

  word(word, side, n, x, y, anchor) {
    const most = (this.parent.clientWidth || 640) < 480 ? 14 : 20, only = {side, n};
    const shown = word.length > most ? `${word.slice(0, most - 1)}…` : word;
    const toggle = () => {
      const same = this.only && this.only.side === side && this.only.n === n;
      this.only = same ? null : only;
      this.highlight(this.only);
    };
    return svg("text", {x, y: y + 5, "text-anchor": anchor, tabindex: 0, role: "button",
      "aria-label": `${word}: show only its lines`, click: toggle,
      keydown: (event) => event.key === "Enter" || event.key === " " ? (event.preventDefault(), toggle()) : null,
      mouseenter: () => this.highlight(only), mouseleave: () => this.highlight(this.only),
      focus: () => this.highlight(only), blur: () => this.highlight(this.only)}, shown);
  }

  highlight(only) {
    for (const path of this.picture.querySelectorAll("path")) {
      const off = only && Number(only.side === "row" ? path.dataset.i : path.dataset.j) !== only.n;
      path.classList.toggle("off", Boolean(off));
    }
  }

  // The picture in words: the strongest line of each row.
  described(tensor, h) {
    const rows = this.rows.map((word, i) => {
      const weights = this.columns.map((_, j) => tensor.at(h, i, j)), best = weights.indexOf(Math.max(...weights));
      return best < 0 ? "" : `${word} looks most at ${this.columns[best]}, ${shortNumber(weights[best])}`;
    });
    return `${this.title}. ${rows.filter(Boolean).slice(0, 40).join("; ")}.`;
  }
}

// What the decoder's word on the left is: what is read, and what is then said.
function readingWords() {
  return data.target.map((word, t) => {
    const next = data.following[t];
    return next ? `${word.word} ${ARROW} ${next.word}` : word.word;
  });
}

// The name of the cross-attention of a layer ("all": their mean) and a head ("all": their mean), and the head in it.
function crossAttention(layer, head) {
  const names = crossNames(), first = tensors.get(names[0]);
  if (layer !== "all" && head !== "all") return {name: names[layer], h: Number(head)};
  const of = [];
  for (const name of layer === "all" ? names : [names[layer]]) {
    for (const h of head === "all" ? range(first.heads) : [Number(head)]) of.push([name, h]);
  }
  const size = first.rows * first.columns, values = new Float64Array(size);
  for (const [name, h] of of) {
    for (let n = 0; n < size; n++) values[n] += tensors.get(name).values[h * size + n] / of.length;
  }
  const chosen = `${layer === "all" ? "all layers" : `layer ${layerOf(names[layer])}`}, ` +
    (head === "all" ? "all heads" : `head ${Number(head) + 1}`);
  const labels = of.map(([name, h]) => `layer ${layerOf(name)}, head ${h + 1}`);
  const name = derive(`cross_attention.weights, ${chosen}`, [first.rows, first.columns], values,
    {kind: "mean", formula: "mean of the weights", inputs: [], of, labels, rows: "target", columns: "source"});
  return {name, h: 0};
}

// The number of the layer that an array belongs to, from 1.
function layerOf(name) { return Number(name.split(".")[2]) + 1; }

function crossNames() {
  return Object.keys(data.arrays).filter((name) => name.endsWith(".cross_attention.weights"));
}

function crossSection(section) {
  const names = crossNames(), heads = tensors.get(names[0]).heads;
  const choice = (label, numbers, what) => el("label", {}, `${label} `, el("select", {change: () => draw()},
    el("option", {value: "all"}, numbers.length > 1 ? "average of all" : "the only one"),
    numbers.map((number, n) => el("option", {value: n}, `${what} ${number}`))));
  const lines = el("div.picture"), matrices = el("div.matrices");
  const picture = new LinePicture(lines, readingWords(), data.source.map((one) => one.word),
    ["read → next word", "source"],
    "Lines from the words being read to the source's words");
  const selects = [choice("Layer", names.map(layerOf), "layer"),
    choice("Head", range(heads).map((h) => h + 1), "head")];
  section.append(el("div.choices", {}, selects), lines, matrices);
  let shown = null;
  function draw() {
    const [layer, head] = selects.map((label) => label.querySelector("select").value);
    const {name, h} = crossAttention(layer, head), tensor = tensors.get(name);
    picture.draw(name, h);
    if (shown) views.delete(shown.entry.name) && shown.figure.remove();
    const group = {head: h, choose() {}};
    const before = views.get(name);
    const say = tensor.heads > 1 ? `Head ${h + 1} of these weights.`
      : "Each number is the mean of attention weights; open one to see which.";
    shown = new MatrixView(matrices, {name, title: "The same as a heat map", say}, group);
    if (before) views.set(name, before);  // references lead to the layer, not to this copy
  }
  draw();
}
