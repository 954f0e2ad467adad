// How a number came about: its operands, each a cell of the page, and the sum computed again from them in float64.
//
// explain(cell) gives {cell, formula, parts, value, again, reach, missing}: `value` is the engine's number, `again` the
// one computed here or null, `reach` the size of the terms that rounding is relative to. A part is
// {say}, {line: [text or operand, ...]} or {terms: {head, rows, note}}. An operand is {cell, value, single}.

function operand(name, h, i, j) {
  const tensor = tensors.get(name);
  return {cell: {name, h, i, j}, value: tensor && tensor.at(h, i, j), single: !tensor || tensor.single};
}

function known(operands) { return operands.every((one) => one.value !== undefined); }

function plain(value) { return {value, single: false}; }

// What must be said where an operand is not on the page.
function absence(name) {
  if (data.weight_shapes[name]) {
    return name.includes(".layers.")
      ? `The layers' weights were left out of this page, so the numbers of ${name} are not here.`
      : `Of ${name} the page holds only the words that it shows; this one's numbers are not among them.`;
  }
  return `${name} is not in this trace.`;
}

const ACTIVATIONS = {
  relu: {text: "relu", apply: (x) => x < 0 ? 0 : x},
  silu: {text: "silu", apply: (x) => x / (1 + Math.exp(-x))},
  gelu: {text: "gelu", apply: (x) => x * 0.5 * erfc(-x / Math.SQRT2)},
  gelu_tanh: {text: "gelu_tanh",
              // x (1 + tanh u) / 2 in a form that keeps its digits where tanh is nearly -1
              apply: (x) => x / (1 + Math.exp(-2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))},
};

// 2 / sqrt(pi) * integral of exp(-t^2) from x to infinity: a series near zero, a continued fraction far from it.
function erfc(x) {
  if (Number.isNaN(x)) return x;
  const z = Math.abs(x);
  let tail;
  if (z < 2) {
    let term = z, sum = z;
    for (let n = 1; n < 100; n++) {
      term *= -z * z / n;
      sum += term / (2 * n + 1);
    }
    tail = 1 - 2 / Math.sqrt(Math.PI) * sum;
  } else {
    let fraction = z;
    for (let n = 200; n > 0; n--) fraction = z + n / 2 / fraction;
    tail = z === Infinity ? 0 : Math.exp(-z * z) / Math.sqrt(Math.PI) / fraction;
  }
  return x < 0 ? 2 - tail : tail;
}

function explain(cell) {
  const origin = data.origins[cell.name] || (derived.has(cell.name) ? derived.get(cell.name).origin : null);
  const made = {cell, value: valueOf(cell), formula: origin ? origin.formula : "", parts: [], again: null, reach: 0,
                missing: []};
  if (!origin) {
    made.parts.push({say: "A weight of the model: it was learned, not computed. The walk backwards ends here."});
  } else {
    (HOW[origin.kind] || HOW.other)(made, cell, origin);
    for (const name of made.missing) made.parts.push({say: absence(name)});
  }
  return made;
}

// The sum of products of pairs of operands: a table of terms. Returns the sum, or null where a number is missing.
function products(made, pairs, first, second) {
  let sum = 0, reach = 0;
  const rows = pairs.map(([a, b, label]) => {
    const product = a.value === undefined || b.value === undefined ? undefined : a.value * b.value;
    for (const one of [a, b]) {
      if (one.value === undefined && !made.missing.includes(one.cell.name)) made.missing.push(one.cell.name);
    }
    sum += product;
    reach += Math.abs(product);
    return {label, cells: [a, b, plain(product)], size: Math.abs(product)};
  });
  made.parts.push({terms: {head: [first, second, "product"], rows}});
  made.reach = reach;
  return made.missing.length ? null : sum;
}

function visibleKeys(origin, tensor, i) {
  return range(tensor.columns).filter((j) => !origin.masked || j <= i + tensor.columns - tensor.rows);
}

function isMasked(name, i, j) {
  const origin = data.origins[name], tensor = tensors.get(name);
  return Boolean(origin && origin.masked && /scores|weights$/.test(name) && j > i + tensor.columns - tensor.rows);
}

const HOW = {
  table(made, cell, origin) {
    const word = data[origin.ids][cell.i], row = operand(origin.inputs[0], 0, word.id, cell.j);
    made.parts.push({say: `“${word.word}” has id ${word.id}: row ${word.id} of ${origin.inputs[0]}, ` +
      `column ${cell.j}` + (origin.scale === 1 ? "." : ", times the embedding's scale.")});
    made.parts.push({line: origin.scale === 1 ? [row] : [row, " × ", plain(origin.scale)]});
    if (row.value === undefined) made.missing.push(row.cell.name);
    else made.again = row.value * origin.scale;
    made.reach = Math.abs(made.again);
  },

  position(made, cell, origin) {
    if (origin.positions === "learned") {
      const row = operand(origin.inputs[0], 0, cell.i, cell.j);
      made.parts.push({say: `Row ${cell.i} of the table of positions, as it was learned.`}, {line: [row]});
      if (row.value === undefined) made.missing.push(row.cell.name);
      else made.again = row.value;
    } else {
      sinusoid(made, cell.i + origin.offset, cell.j, origin);
    }
    made.reach = 1;
  },

  sum(made, cell, origin) {
    const terms = origin.inputs.map((name) => operand(name, cell.h, cell.i, cell.j));
    made.parts.push({line: terms.flatMap((term, n) => n ? [" + ", term] : [term])});
    finish(made, terms, () => terms.reduce((sum, term) => sum + term.value, 0));
  },

  copy(made, cell, origin) {
    const given = operand(origin.inputs[0], cell.h, cell.i, cell.j);
    made.parts.push({say: "Taken over as it is."}, {line: [given]});
    finish(made, [given], () => given.value);
  },

  times(made, cell, origin) {
    const x = operand(origin.inputs[0], cell.h, cell.i, cell.j);
    made.parts.push({line: [x, " × ", plain(origin.scale)]});
    finish(made, [x], () => x.value * origin.scale);
  },

  linear(made, cell, origin) {
    const [x, weight] = origin.inputs, tensor = tensors.get(cell.name), shape = data.weight_shapes[weight];
    const column = cell.h * tensor.columns + cell.j, depth = origin.transposed ? shape[1] : shape[0];
    const pairs = range(depth).map((k) => [operand(x, 0, cell.i, k),
      origin.transposed ? operand(weight, 0, column, k) : operand(weight, 0, k, column), k]);
    made.parts.push({say: `Row times column: the ${depth} numbers of this row of x with ` + (origin.transposed
      ? `row ${column} of the table, the word “${wordOf("words", column)}”.` : `column ${column} of the weight.`)});
    const sum = products(made, pairs, "x", "W");
    if (sum === null) {
      if (origin.bias) made.parts.push({line: ["bias ", operand(origin.bias, 0, 0, column)]});
      return;
    }
    let total = sum;
    made.parts.push({line: ["sum ", plain(sum)]});
    if (origin.bias) {
      const bias = operand(origin.bias, 0, 0, column);
      if (bias.value === undefined) return void made.missing.push(origin.bias);
      total += bias.value;
      made.reach += Math.abs(bias.value);
      made.parts.push({line: ["+ bias ", bias, " = ", plain(total)]});
    }
    made.again = activated(made, origin.activation, total);
  },

  scores(made, cell, origin) {
    const [query, key] = origin.inputs, width = tensors.get(query) ? tensors.get(query).columns : 0;
    const labels = labelsOf(cell.name);
    made.parts.push({say: `The query of “${wordOf(labels.rows, cell.i)}” with the key of ` +
      `“${wordOf(labels.columns, cell.j)}”, in head ${cell.h + 1}.`});
    if (!tensors.get(query) || !tensors.get(key)) return lacking(made, origin);
    made.again = products(made, range(width).map((k) => [operand(query, cell.h, cell.i, k),
      operand(key, cell.h, cell.j, k), k]), "q", "k");
  },

  scaled(made, cell, origin) {
    const score = operand(origin.inputs[0], cell.h, cell.i, cell.j), terms = [score];
    const line = [score, " × ", plain(origin.scale)];
    if (origin.bias) {
      const bias = operand(origin.bias, 0, origin.buckets[cell.j - cell.i - origin.first_distance], cell.h);
      terms.push(bias);
      line.push(" + ", bias);
      made.parts.push({say: `The bias belongs to the distance ${cell.j - cell.i}, bucket ${bias.cell.i}.`});
    }
    made.parts.push({line});
    if (made.value === -Infinity && isMasked(cell.name, cell.i, cell.j)) {
      made.parts.push({say: "It lies in the future, so minus infinity stands in its place: its weight will be 0."});
      return;
    }
    finish(made, terms, () => score.value * origin.scale + (terms[1] ? terms[1].value : 0));
    made.reach = known(terms) ? Math.abs(score.value * origin.scale) + (terms[1] ? Math.abs(terms[1].value) : 0) : 0;
  },

  softmax(made, cell, origin) {
    if (isMasked(cell.name, cell.i, cell.j)) {
      made.parts.push({say: "Masked: this word lies in the future of the row's, so it gets no weight at all."});
      made.again = 0;
      return;
    }
    const input = tensors.get(origin.inputs[0]);
    if (!input) return lacking(made, origin);
    if (input.columnIds) return softmaxOfSome(made, cell, origin);
    const keys = visibleKeys(origin, tensors.get(cell.name), cell.i), labels = labelsOf(cell.name);
    const terms = keys.map((j) => operand(input.name, cell.h, cell.i, j));
    const peak = origin.article ? 0 : terms.reduce((most, term) => Math.max(most, term.value), -Infinity);
    const powers = terms.map((term) => Math.exp(term.value - peak));
    const total = powers.reduce((sum, power) => sum + power, 0), own = keys.indexOf(cell.j);
    made.parts.push({say: (origin.article ? "The exponential of every score in the row"
      : "The exponential of every number in the row, after the row's maximum was taken off so that none overflows") +
      (keys.length < input.columns ? "; masked words do not take part." : ".")});
    const rows = keys.map((j, n) => ({label: wordOf(labels.columns, j) || j, cells: [terms[n], plain(powers[n])],
      size: powers[n], own: j === cell.j}));
    made.parts.push({terms: {head: ["x", "exp(x" + (origin.article ? "" : " − max") + ")"], rows}});
    if (!origin.article) made.parts.push({line: ["max ", plain(peak)]});
    made.parts.push({line: ["denominator, the sum ", plain(total)]});
    made.parts.push({line: [plain(powers[own]), " ÷ ", plain(total)]});
    made.again = powers[own] / total;
    made.reach = 1;
  },

  heads(made, cell, origin) {
    const [weights, value] = origin.inputs, tensor = tensors.get(weights);
    if (!tensor || !tensors.get(value)) return lacking(made, origin);
    const origins = data.origins[weights], labels = labelsOf(weights), seen = visibleKeys(origins, tensor, cell.i);
    const keys = range(tensor.columns).filter((k) => seen.includes(k) || tensor.at(cell.h, cell.i, k) !== 0);
    made.parts.push({say: `The values of column ${cell.j}, each times the weight of its word, in head ${cell.h + 1}.`});
    made.again = products(made, keys.map((k) => [operand(weights, cell.h, cell.i, k), operand(value, cell.h, k, cell.j),
      wordOf(labels.columns, k) || k]), "weight", "v");
  },

  concatenated(made, cell, origin) {
    const head = Math.floor(cell.j / origin.width), j = cell.j % origin.width;
    const one = operand(origin.inputs[0], head, cell.i, j);
    made.parts.push({say: `Column ${cell.j} is column ${j} of head ${head + 1}.`}, {line: [one]});
    finish(made, [one], () => one.value);
  },

  gate(made, cell, origin) {
    const [gate, hidden] = origin.inputs.map((name) => operand(name, cell.h, cell.i, cell.j));
    if (!known([gate, hidden])) return lacking(made, origin);
    const open = activated(made, origin.activation, gate.value, gate);
    made.parts.push({line: [plain(open), " × ", hidden]});
    made.again = open * hidden.value;
    made.reach = Math.abs(gate.value * hidden.value);
  },

  norm(made, cell, origin) {
    const tensor = tensors.get(origin.inputs[0]);
    if (!tensor) return lacking(made, origin);
    normalised(made, cell, origin, range(tensor.columns).map((j) => operand(tensor.name, 0, cell.i, j)));
  },

  mean(made, cell, origin) {
    const terms = origin.of.map(([name, h]) => operand(name, h, cell.i, cell.j));
    made.parts.push({say: `The mean of ${terms.length} attention weights, computed on this page.`});
    made.parts.push({terms: {head: ["weight"], rows: terms.map((term, n) => (
      {label: origin.labels[n], cells: [term], size: Math.abs(term.value)}))}});
    made.again = terms.reduce((sum, term) => sum + term.value, 0) / terms.length;
    made.reach = 1;
  },

  other(made, cell, origin) { lacking(made, origin, true); },
};

// The result of terms that may be missing.
function finish(made, terms, result) {
  for (const term of terms) if (term.value === undefined) made.missing.push(term.cell.name);
  if (made.missing.length) return;
  made.again = result();
  made.reach = terms.reduce((sum, term) => sum + Math.abs(term.value), 0);
}

// Only what the inputs were, where no terms can be shown.
function lacking(made, origin, unknown) {
  made.parts.push({say: origin.inputs.length ? `It was computed from ${origin.inputs.join(", ")}.`
    : "It was given, not computed."});
  if (unknown && origin.inputs.length) made.parts.push({say: "This page does not take this operation apart."});
  else made.missing.push(...origin.inputs.filter((name) => !tensors.has(name)));
}

function activated(made, activation, x, shown) {
  if (!activation) return x;
  const {text, apply} = ACTIVATIONS[activation], y = apply(x);
  made.parts.push({line: [`${text}(`, shown || plain(x), ") = ", plain(y)]});
  return y;
}

function sinusoid(made, position, j, origin) {
  const d = origin.d_model, half = d >> 1;
  let sine, exponent, angle;
  if (origin.positions === "tensor2tensor") {
    sine = j < half;
    exponent = null;
    angle = position * Math.exp((j % Math.max(half, 1)) * -(Math.log(10000) / Math.max(half - 1, 1)));
  } else {
    const evens = d + 1 >> 1, paired = origin.positions === "halves" ? (j < evens ? 2 * j : 2 * (j - evens) + 1) : j;
    sine = paired % 2 === 0;
    exponent = 2 * (origin.article ? paired : paired >> 1) / d;
    angle = position / 10000 ** exponent;
  }
  if (origin.positions === "tensor2tensor" && j >= 2 * half) {
    made.parts.push({say: "The odd column at the end holds a zero."});
    made.again = 0;
    return;
  }
  made.parts.push({say: `Position ${position}, column ${j}: a ${sine ? "sine" : "cosine"}.`});
  made.parts.push({line: exponent === null ? ["angle ", plain(angle)]
    : ["angle ", plain(position), " ÷ 10000^", plain(exponent), " = ", plain(angle)]});
  made.again = sine ? Math.sin(angle) : Math.cos(angle);
  made.parts.push({line: [sine ? "sin(" : "cos(", plain(angle), ")"]});
}

function normalised(made, cell, origin, row) {
  const n = row.length, rms = origin.form === "rms", mean = rms ? 0 : row.reduce((sum, x) => sum + x.value, 0) / n;
  const variance = row.reduce((sum, x) => sum + (x.value - mean) ** 2, 0) / n;
  const spread = origin.form === "article" ? Math.sqrt(variance) + origin.eps : Math.sqrt(variance + origin.eps);
  const gamma = operand(origin.inputs[1], 0, 0, cell.j), x = row[cell.j];
  made.parts.push({say: rms ? `The ${n} numbers of the row before the norm, and their squares.`
    : `The ${n} numbers of the row before the norm, and how far each lies from their mean.`});
  made.parts.push({terms: {head: rms ? ["x", "x²"] : ["x", "(x − mean)²"], rows: row.map((one, j) => (
    {label: j, cells: [one, plain((one.value - mean) ** 2)], size: (one.value - mean) ** 2, own: j === cell.j}))}});
  if (!rms) made.parts.push({line: ["mean ", plain(mean)]});
  made.parts.push({line: [rms ? "mean square " : "variance ", plain(variance), ", eps ", plain(origin.eps)]});
  const spreads = {rms: "√(mean square + eps) ", article: "√variance + eps ", paper: "√(variance + eps) "};
  made.parts.push({line: [spreads[origin.form], plain(spread)]});
  const centred = (x.value - mean) / spread;
  made.parts.push({line: rms ? [x, " ÷ ", plain(spread), " = ", plain(centred)]
    : ["(", x, " − ", plain(mean), ") ÷ ", plain(spread), " = ", plain(centred)]});
  const line = ["× gamma ", gamma], beta = origin.inputs[2] && operand(origin.inputs[2], 0, 0, cell.j);
  if (beta) line.push(" + beta ", beta);
  made.parts.push({line});
  for (const one of beta ? [gamma, beta] : [gamma]) if (one.value === undefined) made.missing.push(one.cell.name);
  if (made.missing.length) return;
  made.again = centred * gamma.value + (beta ? beta.value : 0);
  const size = row.reduce((most, one) => Math.max(most, Math.abs(one.value)), 0);
  made.reach = (Math.abs(centred) + size / spread) * Math.abs(gamma.value) + (beta ? Math.abs(beta.value) : 0);
}

// Softmax over a large vocabulary of which the page holds some words: their sum was computed when it was written.
function softmaxOfSome(made, cell, origin) {
  const logit = operand(origin.inputs[0], 0, cell.i, cell.j), peak = data.denominators.peak[cell.i];
  const total = data.denominators.total[cell.i];
  made.parts.push({say: "The page holds only some words of this large vocabulary; the maximum and the sum of the " +
    "exponentials of all logits were computed when it was written."});
  if (peak === null || total === null || logit.value === undefined) return;
  made.parts.push({line: ["exp(", logit, " − max ", plain(peak), ") ÷ sum ", plain(total)]});
  made.again = Math.exp(logit.value - peak) / total;
  made.reach = 1;
}

// Whether the number computed again is the engine's, rounding aside.
function agrees(made) {
  if (made.again === null || made.value === undefined) return null;
  if (made.again === made.value || (Number.isNaN(made.again) && Number.isNaN(made.value))) return true;
  if (Number.isNaN(made.again) || Number.isNaN(made.value)) return false;
  const single = tensors.get(made.cell.name).single;
  const close = single ? 1e-5 : 1e-12, size = Math.max(made.reach, Math.abs(made.value));
  if (!Number.isFinite(made.value)) return Math.abs(made.again) > (single ? 3.4e38 : 1.7e308);
  return Math.abs(made.again - made.value) <= close * size + (single ? 1e-44 : 0);
}

// Arrays that this page computes from the engine's, such as means: name to {tensor, origin}.
const derived = new Map();

function derive(name, shape, values, origin) {
  if (!derived.has(name)) {
    tensors.set(name, new Tensor(name, {shape, values, dtype: "float64", true_dtype: "float64"}, false));
    derived.set(name, {origin});
    data.origins[name] = origin;
  }
  return name;
}
