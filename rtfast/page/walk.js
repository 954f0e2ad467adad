// The steps of the walk, from data.walk: headings, sentences, matrices. A layer is filled when it is opened.

function stepHeading(level, step) {
  const sections = step.paper && step.paper.includes(" ") ? "sections" : "section";
  return el(`h${level}`, {id: step.id}, step.title, step.paper
    ? el("span.paper", {}, `Attention Is All You Need, ${sections} ${step.paper}`) : null);
}

function buildWalk(main) {
  main.append(intro());
  data.walk.forEach((step, n) => {
    const section = el("section.step", {"aria-labelledby": step.id},
      el("p.count", {"aria-hidden": "true"}, String(n + 1)), stepHeading(2, step), el("p.say", {}, step.say));
    main.append(section);
    if (step.kind === "tokens") tokensSection(section);
    if (step.kind === "cross") crossSection(section);
    if (step.kind === "words") wordsSection(section);
    if (step.kind === "stack") stackSection(section, step);
    if (step.names.length) matrices(section, step.names);
    weights(section, step.names);
  });
  main.append(colophon());
}

function intro() {
  const c = data.config, [source, target] = data.sentences;
  const facts = [["width d_model", c.d_model], ["heads", c.n_heads], ["feed-forward d_ff", c.d_ff],
    ["layers", `${c.n_encoder_layers} + ${c.n_decoder_layers}`], ["words", c.target_words], ["numbers", c.dtype]];
  const heading = data.title.length > 90 ? "h1.long" : "h1";
  return el("div.intro", {}, el(heading, {}, el("bdi", {}, source), " ", el("span.arrow", {}, "→"), " ",
    el("bdi", {}, target)),
  el("p.lead", {}, "The whole way of a transformer, from words to words, with every number that it computed. It " +
    "follows “Attention Is All You Need” and can be read beside “The Random Transformer”."),
  el("p.lead", {}, "Choose any number to see how it came about: its terms, their sum computed again, and a way back " +
    "to each of them. In a table the arrow keys move, Enter explains, Escape closes. Layers and heads are counted " +
    "from 1, rows and columns from 0."),
  el("dl.facts", {}, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value))))),
  buildMap(),
  el("p.legend", {}, el("span.swatch.negative"), " below zero ", el("span.swatch.positive"), " above zero ",
    el("span.swatch.share"), " a share of 1 ", el("span.swatch.masked"), " masked; stronger is larger"),
  data.weights_left_out === null ? null : el("p.note", {}, "The layers' weights, " +
    `${megabytes(data.weights_left_out)}, were left out of this page; explanations show the numbers that are here.`));
}

function megabytes(bytes) { return `${(bytes / 1e6).toFixed(1)} MB`; }

function colophon() {
  const size = document.getElementById("data").textContent.length;
  return el("footer", {}, el("p", {}, `Every number is the engine's own (${data.backend} backend, ` +
    `${data.config.dtype}), embedded with its exact bits: ${megabytes(size)} of data. The page loads nothing.`));
}

function tokensSection(section) {
  const table = (title, words, next) => el("table.tokens", {}, el("caption", {}, title),
    el("tbody", {}, el("tr", {}, el("th", {scope: "row"}, "position"), words.map((_, n) => el("td", {}, String(n)))),
      el("tr.words", {}, el("th", {scope: "row"}, "token"), words.map((one) => el("td", {}, one.word))),
      el("tr", {}, el("th", {scope: "row"}, "id"), words.map((one) => el("td", {}, String(one.id)))),
      next ? el("tr", {}, el("th", {scope: "row"}, data.generated ? "next word" : "given next"), data.following.map(
        (one) => el("td", {}, one ? one.word : "–"))) : null));
  section.append(el("div.scroll", {tabindex: 0, role: "region", "aria-label": "source tokens"},
    table("Source, which the encoder reads", data.source, false)),
  el("div.scroll", {tabindex: 0, role: "region", "aria-label": "target tokens"},
    table("Target, which the decoder reads", data.target, true)));
}

// Matrices side by side.
function matrices(section, entries, group) {
  const box = el("div.matrices");
  section.append(box);
  for (const entry of entries) {
    const view = new MatrixView(box, entry, group);
    if (group && view.tensor.heads > 1) group.listeners.push((head) => view.setHead(head));
  }
}

// The weights that these matrices were computed with, folded away.
function weights(section, entries) {
  const names = [...new Set(entries.flatMap(({name}) => {
    const origin = data.origins[name];
    return [...origin.inputs, origin.bias].filter((one) => isWeight(one) && !places.has(one));
  }))];
  if (!names.length) return;
  const box = el("div.matrices");
  const details = el("details.weights", {}, el("summary", {}, `The weights of this step (${names.length})`), box);
  const fill = once(() => {
    for (const name of names) new MatrixView(box, {name, title: weightTitle(name), say: ""}, null);
  });
  details.addEventListener("toggle", () => details.open && fill());
  for (const name of names) {
    places.set(name, () => {
      openAround(section);
      details.open = true;
      fill();
    });
  }
  section.append(details);
}

function isWeight(name) { return tensors.has(name) && tensors.get(name).weight; }

function weightTitle(name) {
  const [part, kind] = name.split(".").slice(-2);
  return `${kind === "weight" ? "Weight" : kind[0].toUpperCase() + kind.slice(1)} of ${part.replaceAll("_", " ")}`;
}

function once(action) {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    action();
  };
}

function stackSection(section, stack) {
  if (stack.layers.length > 1) section.append(openAll(section));
  for (const layer of stack.layers) {
    const body = el("div.body"), parts = layer.blocks.map((block) => block.title).join(" · ");
    const details = el("details.layer", {id: layer.id},
      el("summary", {}, el("h3", {}, layer.title), el("span.hint", {}, parts)), body);
    section.append(details);
    const fill = once(() => layer.blocks.forEach((block) => blockSection(body, block)));
    details.addEventListener("toggle", () => details.open && fill());
    const open = () => {
      details.open = true;
      fill();
    };
    for (const block of layer.blocks) {
      for (const {name} of block.names) {
        places.set(name, open);
        const origin = data.origins[name];
        for (const one of [...origin.inputs, origin.bias]) {
          if (isWeight(one) && one.startsWith(block.prefix)) later.set(one, open);
        }
      }
    }
  }
}

function openAll(section) {
  const layers = () => [...section.querySelectorAll("details.layer")];
  const button = el("button.all", {type: "button", click: () => {
    const open = !layers().every((layer) => layer.open);
    for (const layer of layers()) layer.open = open;
  }}, "Open all layers");
  section.addEventListener("toggle", () => {
    button.textContent = layers().every((layer) => layer.open) ? "Close all layers" : "Open all layers";
  }, true);
  return button;
}

// Weights of a layer that is still closed: opening it makes their own entry in `places`.
const later = new Map();

function blockSection(body, block) {
  const section = el("section.block", {"aria-labelledby": block.id}, stepHeading(4, block), el("p.say", {}, block.say));
  body.append(section);
  const many = block.names.map(({name}) => tensors.get(name)).find((tensor) => tensor.heads > 1);
  const group = many ? new HeadGroup(many.heads) : null;
  if (group) section.append(group.element);
  const cut = block.names.findIndex(({name}) => name.endsWith(".heads"));
  if (cut > 0) matrices(section, block.names.slice(0, cut), group);
  const drawn = block.names.find(({name}) => name.endsWith(".weights"));
  if (drawn) lines(section, block, drawn.name, group);
  matrices(section, block.names.slice(Math.max(cut, 0)), group);
  weights(section, block.names);
}

function lines(section, block, name, group) {
  const box = el("div.picture"), details = el("details.weights", {}, el("summary", {}, "The attention as lines"), box);
  const labels = labelsOf(name), tensor = tensors.get(name);
  const words = (kind, n) => range(n).map((i) => wordOf(kind, i));
  const picture = new LinePicture(box, words(labels.rows, tensor.rows), words(labels.columns, tensor.columns),
    block.kind === "cross_attention" ? ["target", "source"] : ["who looks", "at whom"],
    "Lines from each word to the words that it looks at");
  const draw = () => details.open && picture.draw(name, group ? group.head : 0);
  details.addEventListener("toggle", draw);
  if (group) group.listeners.push(draw);
  section.append(details);
}
