// The words that come out: one step of the decoder after another, candidates and their probabilities.

function wordsSection(section) {
  if (!data.top.length) return;
  const last = data.target.length - 1;
  const slider = el("input", {type: "range", min: 0, max: last, value: 0, step: 1, id: "step", input: () => draw()});
  const output = el("output", {for: "step"}), read = el("p.reading"), bars = el("div.bars");
  const move = (by) => el("button", {type: "button", "aria-label": by < 0 ? "step before" : "next step", click: () => {
    slider.value = Number(slider.value) + by;
    draw();
  }}, by < 0 ? "‹" : "›");
  section.append(el("div.stepper", {}, el("label", {for: "step"}, "Step"), move(-1), slider, move(1), output),
    read, bars);

  function draw() {
    const t = Number(slider.value), next = data.following[t];
    output.textContent = `${t + 1} of ${last + 1}`;
    slider.setAttribute("aria-valuetext", `reads ${data.target[t].word}` + (next ? `, then ${next.word}` : ""));
    const words = data.target.slice(0, t + 1).flatMap(({word}, n) => [" ", el(n === t ? "mark" : "span", {}, word)]);
    const then = data.generated ? " and says " : ", and the text goes on with ";
    read.replaceChildren("The decoder has read", ...words, ...(next ? [then, el("strong", {}, next.word)] : ["."]));
    const shown = data.top[t].map((id, rank) => ({id, rank}));
    if (next && !data.top[t].includes(next.id)) shown.push({id: next.id, rank: null});
    const heads = ["word", "id", "logit", "probability", ""].map((name) => el("th", {scope: "col"}, name));
    bars.replaceChildren(el("table.candidates", {}, el("caption", {}, `Candidates for the next word, step ${t + 1}`),
      el("thead", {}, el("tr", {}, heads)),
      el("tbody", {}, shown.map(({id}) => candidate(t, id, next && next.id === id)))));
  }
  draw();
}

function candidate(t, id, chosen) {
  const number = (name) => {
    const one = operand(name, 0, t, id);
    if (one.value === undefined) return "–";
    return el("button.number", {type: "button", title: fullNumber(one.value, one.single), "data-name": name,
      click: (event) => panel.open(one.cell, event.currentTarget)}, shortNumber(one.value));
  };
  const inner = el("i");
  inner.style.width = `${Math.max(0.3, 100 * (valueOf({name: "probabilities", h: 0, i: t, j: id}) || 0)).toFixed(2)}%`;
  const tag = chosen ? [" ", el("span.tag", {}, data.generated ? "chosen" : "given")] : null;
  return el(chosen ? "tr.chosen" : "tr", {}, el("th", {scope: "row"}, wordOf("words", id), tag),
    el("td", {}, String(id)), el("td", {}, number("logits")), el("td", {}, number("probabilities")),
    el("td.bar", {"aria-hidden": "true"}, inner));
}
