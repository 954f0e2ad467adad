"""How cost grows: draw the rows that `pytest benchmarks --save FILE` wrote.

    python benchmarks/plots.py FILE [folder, docs by default]

cost_over_rows.png: linear over M; cost_over_length.png: attention and the encoder over length;
cost_over_threads.png: every kernel on one thread and on two. A plot whose rows are not in the file is left out.
"""

import os
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import report  # noqa: E402

OURS, PEERS = "#0072b2", ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by colour-blind people


def over_rows(found):
    """GFLOP/s of linear over M, one panel for each weight, with every peer and the FMA peak."""
    rows = [row for row in found["rows"] if row["group"] == "linear" and row["threads"] == 1]
    shapes = sorted({(row["k"], row["n"]) for row in rows})
    if not shapes:
        return None
    figure, panels = plt.subplots(2, -(-len(shapes) // 2), figsize=(3.6 * -(-len(shapes) // 2), 6.4), squeeze=False,
                                  sharey=True)
    for panel, shape in zip(panels.flat, shapes, strict=False):
        here = sorted((row for row in rows if (row["k"], row["n"]) == shape), key=lambda row: row["m"])
        m = [row["m"] for row in here]
        draw_rates(panel, m, here)
        panel.plot(m, [row["peak_limit"] / 1e9 for row in here], color="black", linestyle=":", label="FMA peak")
        panel.plot(m, [row["flops"] / row["bytes"] * row["bandwidth_limit"] / 1e9 for row in here], color="grey",
                   linestyle="--", label="from DRAM")
        panel.set(title=f"weight {shape[0]} x {shape[1]}", xscale="log", xlabel="rows M",
                  ylim=(0, 1.1 * found["machine"]["peak"]))
    for panel in panels.flat[len(shapes):]:
        panel.axis("off")
    panels[0, 0].set_ylabel("GFLOP/s")
    panels[1, 0].set_ylabel("GFLOP/s")
    panels.flat[0].legend(fontsize=7)
    return figure


def over_length(found):
    """GFLOP/s of attention and of the encoder over length."""
    rows = [row for row in found["rows"] if row["threads"] == 1]
    attention = [row for row in rows if row["group"] == "attention" and row["batch"] == 1]
    full = [row for row in attention if row["queries"] == row["keys"] and not row["causal"]]
    kinds = [("attention, full", "keys", full),
             ("attention, causal", "keys", [row for row in attention if row["causal"]]),
             ("attention, one query", "keys", [row for row in attention if row["queries"] == 1]),
             ("base encoder", "length", [row for row in rows if row["group"] == "base encoder" and row["batch"] == 1])]
    kinds = [kind for kind in kinds if kind[2]]
    if not kinds:
        return None
    figure, panels = plt.subplots(1, len(kinds), figsize=(3.6 * len(kinds), 3.4), squeeze=False)
    for panel, (title, axis, here) in zip(panels.flat, kinds, strict=True):
        here = sorted(here, key=lambda row: row[axis])
        x = [row[axis] for row in here]
        draw_rates(panel, x, here)
        panel.plot(x, [row["peak_limit"] / 1e9 for row in here], color="black", linestyle=":", label="FMA peak")
        panel.set(title=title, xscale="log", xlabel="length", ylim=(0, None))
        panel.legend(fontsize=7)
    panels[0, 0].set_ylabel("GFLOP/s")
    return figure


def over_threads(found):
    """Two threads against one."""
    rows = [row for row in found["rows"] if row["group"] == "scaling"]
    if not rows:
        return None
    figure, panel = plt.subplots(figsize=(7, 0.32 * len(rows) + 1))
    panel.barh([row["what"] for row in rows][::-1], [row["ratio"] for row in rows][::-1], color=OURS)
    panel.axvline(2, color="black", linestyle=":")
    panel.set(title="speed on 2 threads, on 1 thread = 1", xlim=(0, 2.2))
    return figure


def draw_rates(panel, x, rows):
    """Ours and every peer's GFLOP/s."""
    panel.plot(x, [row["flops"] / row["seconds"] / 1e9 for row in rows], color=OURS, marker="o", label="rtfast")
    for colour, name in zip(PEERS, sorted({name for row in rows for name in row["peers"]}), strict=False):
        panel.plot(x, [row["flops"] / row["peers"][name] / 1e9 for row in rows], color=colour, linewidth=1, label=name)


def main(path, folder="docs"):
    found = report.read(path)
    facts = found["machine"]
    os.makedirs(folder, exist_ok=True)
    for name, draw in (("rows", over_rows), ("length", over_length), ("threads", over_threads)):
        figure = draw(found)
        if figure is None:
            continue
        figure.suptitle(f"{facts['cpu']}, one core unless said, {facts['backend']}, {facts['date'][:10]}", fontsize=9)
        figure.tight_layout()
        figure.savefig(os.path.join(folder, f"cost_over_{name}.png"), dpi=90)
        plt.close(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
