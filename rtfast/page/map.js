// The model at a glance, after figure 1 of the paper: two lanes of boxes that lead to the steps.

const MOST_BOXES = 6;

function buildMap() {
  const steps = new Map(data.walk.map((step) => [step.id, step]));
  const ids = new Set(data.walk.flatMap((step) => [step.id, ...(step.layers || []).map((layer) => layer.id)]));
  const box = (id, title, note) => ids.has(id) ? el("li", {}, el("a",
    {href: `#${id}`, click: () => openTarget(id)}, el("strong", {}, title), note ? el("span", {}, note) : null)) : null;
  const layers = (side) => {
    const all = (steps.get(`${side}-stack`) || {layers: []}).layers;
    const parts = (layer) => layer.blocks.map((block) => block.title.toLowerCase().replace(" network", "")).join(", ");
    const boxes = all.map((layer) => box(layer.id, layer.title, parts(layer)));
    return boxes.length > MOST_BOXES ? [...boxes.slice(0, 2), el("li.more", {}, "…"), boxes.at(-1)] : boxes;
  };
  const said = data.following.filter(Boolean).map((one) => one.word).join(" ");
  const sentence = (words) => words.map((one) => one.word).join(" ");
  return el("nav.map", {"aria-label": "The model at a glance"},
    el("ol.lane", {}, box("tokens", sentence(data.source), "source words"), box("encoder-input", "Source vectors"),
      layers("encoder")),
    el("p.bridge", {}, ids.has("cross") ? el("a", {href: "#cross"}, "keys and values",
      el("span", {"aria-hidden": "true"}, " →")) : null),
    el("ol.lane", {}, box("tokens", sentence(data.target), "target words so far"),
      box("decoder-input", "Target vectors"), layers("decoder"), box("next-word", "The next word", said)));
}
