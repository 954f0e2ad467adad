// Puts the page together: the walk, the contents that follow, the theme, and the keys of the whole page.

function buildContents() {
  const list = document.getElementById("contents"), links = new Map();
  const add = (parent, id, title) => {
    const link = el("a", {href: `#${id}`, click: () => openTarget(id)}, title), item = el("li", {}, link);
    parent.append(item);
    links.set(id, link);
    return item;
  };
  for (const step of data.walk) {
    const item = add(list, step.id, step.title), inner = el("ol");
    for (const layer of step.layers || []) add(inner, layer.id, layer.title);
    if (inner.children.length) item.append(inner);
  }
  follow(links);
  const box = list.closest("details");
  if (matchMedia("(max-width: 60rem)").matches) box.open = false;
}

function openTarget(id) {
  const target = document.getElementById(id);
  if (target && target.tagName === "DETAILS") target.open = true;
  const box = document.querySelector(".contents details");
  if (matchMedia("(max-width: 60rem)").matches) box.open = false;
}

// Mark the last heading that has passed the top of the window.
function follow(links) {
  let waiting = false;
  const update = () => {
    waiting = false;
    let current = null;
    for (const id of links.keys()) {
      const place = document.getElementById(id).getBoundingClientRect();
      if (place.top < innerHeight * 0.35) current = id;
    }
    for (const [id, link] of links) {
      if (id === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  const soon = () => {
    if (!waiting) requestAnimationFrame(update);
    waiting = true;
  };
  addEventListener("scroll", soon, {passive: true});
  addEventListener("resize", soon);
  document.addEventListener("toggle", soon, true);
  update();
}

function buildTheme() {
  const button = document.getElementById("theme"), root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const label = () => {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Change to ${dark() ? "light" : "dark"} colours`);
  };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    label();
    redrawAll();
  });
  system.addEventListener("change", () => {
    label();
    redrawAll();
  });
  label();
}

buildTheme();
buildWalk(document.getElementById("walk"));
buildContents();
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && panel.cell) panel.close();
});
// For tests and for the curious: explain({name, h, i, j}) in the browser's console.
window.rtfast = {data, tensors, explain, agrees, valueOf, reveal, panel};
