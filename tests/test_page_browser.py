"""The page in a browser: every number explained and computed again, the walk, the keyboard, colours, a narrow window.

Needs chromium with its driver (Debian: chromium, chromium-driver) and selenium; skipped, with the reason, without.
"""

import shutil

import numpy as np
import pytest
from models import random_model, random_values, small_config
from subprocesses import unwatched
from test_page import CONFIGS, HOSTILE, SOURCE, TARGET

import rtfast
from rtfast.page import data as page_module
from rtfast.page import write_page

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed")

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")

#: Of every array each `stride`th cell: how many there are, and those whose number is not what the page computes.
EXPLAIN_ALL = """
const bad = [], kinds = {};
for (const [name, origin] of Object.entries(rtfast.data.origins)) {
  const tensor = rtfast.tensors.get(name);
  let n = 0;
  for (let h = 0; h < tensor.heads; h++) for (const i of tensor.shownRows) for (const j of tensor.shownColumns) {
    if (n++ % arguments[0]) continue;
    const made = rtfast.explain({name, h, i, j}), same = rtfast.agrees(made);
    if (same === true) kinds[origin.kind] = (kinds[origin.kind] || 0) + 1;
    else bad.push([name, h, i, j, String(made.value), String(made.again), made.missing.join()]);
  }
}
return [kinds, bad];
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER, env=unwatched()))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The shipped model, a trace, and the address of its page."""
    model = rtfast.load()
    trace = model.trace("the red house")
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(model, trace, path)
    return model, trace, f"file://{path}"


@pytest.fixture(autouse=True)
def quiet(browser):
    """Nothing but what the test expects stands in the browser's console."""
    window(browser, 1280, 900)
    yield
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def window(browser, width, height, **media):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
    features = {"prefers-color-scheme": "light", "prefers-reduced-motion": "reduce", **media}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": name, "value": value} for name, value in features.items()]})


def open_page(browser, tmp_path, model, trace, **options):
    write_page(model, trace, tmp_path / "page.html", **options)
    browser.get(f"file://{tmp_path}/page.html")


def show(browser, name, h, i, j):
    """Bring a cell into the window, whatever has to be opened for that: its element."""
    browser.execute_script("rtfast.reveal(arguments[0], false)", {"name": name, "h": h, "i": i, "j": j})
    return browser.find_element(By.CSS_SELECTOR, f'figure[data-name="{name}"] td[data-i="{i}"][data-j="{j}"]')


def panel(browser):
    """What the open explanation says: engine's number, ours, verdict."""
    box = browser.find_element(By.ID, "panel")
    assert box.is_displayed()
    return [one.text for one in box.find_elements(By.CSS_SELECTOR, "[data-role]")]


def focused(browser):
    return browser.execute_script(
        "const e = document.activeElement, f = e.closest('figure');"
        "return f ? [f.dataset.name, +e.dataset.i, +e.dataset.j] : e.id || e.className || e.tagName")


def press(browser, *keys):
    for key in keys:
        browser.switch_to.active_element.send_keys(key)


# Every number

@pytest.mark.parametrize("fields", CONFIGS.values(), ids=CONFIGS.keys())
def test_every_number_of_every_kind_of_model(browser, tmp_path, fields):
    model = random_model(small_config(**fields))[0]
    trace = model.trace(SOURCE, TARGET)
    open_page(browser, tmp_path, model, trace)
    kinds, bad = browser.execute_script(EXPLAIN_ALL, 1)
    assert bad == []
    means = kinds.pop("mean", 0)  # of the cross-attention, made by the page
    assert sum(kinds.values()) == sum(array.size for array in trace.values())
    assert means == (len(SOURCE) * len(TARGET) if model.config.n_decoder_layers else 0)


def test_the_articles_model(browser, tmp_path):
    model = rtfast.Transformer.random(rtfast.Config.article(), seed=2495, vocabulary=rtfast.article.VOCABULARY)
    open_page(browser, tmp_path, model, model.trace("hello world"))
    assert browser.execute_script(EXPLAIN_ALL, 1)[1] == []
    assert browser.find_element(By.TAG_NAME, "h1").text == "hello world → hola mundo"


def test_the_shipped_model(browser, shipped):
    browser.get(shipped[2])
    kinds, bad = browser.execute_script(EXPLAIN_ALL, 7)
    assert {name for name, *_ in bad} == {"logits"} and {one[-1] for one in bad} == {"embedding.weight"}
    assert set(kinds) == {"table", "position", "sum", "linear", "scores", "scaled", "softmax", "heads", "concatenated",
                          "norm", "mean"}


def test_a_wrong_number_is_noticed(browser, shipped):
    browser.get(shipped[2])
    name = "encoder.layers.1.self_attention.heads"
    browser.execute_script("const t = rtfast.tensors.get(arguments[0]); t.values[0] *= 1.001", name)
    show(browser, name, 0, 0, 0).click()
    assert "more apart" in panel(browser)[2]
    said, around = browser.execute_script("""
        const of = (selector) => getComputedStyle(document.querySelector(selector)).color;
        return [of(".verdict .differ dd"), of("body")]""")
    assert said == around  # as dark as text is: the orange of numbers has too little contrast
    show(browser, name, 0, 0, 1).click()
    assert "the same" in panel(browser)[2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_decoded_exactly(browser, tmp_path, dtype):
    config = small_config(dtype=dtype)
    values = random_values(config)
    half = values["encoder.layers.0.self_attention.query.weight"]
    half[...] = half.astype(np.float16)
    half[0, :4] = -0.0, 2.0 ** -24, 65504, -1.5
    model = rtfast.Transformer(config, values)
    trace = model.trace(SOURCE, TARGET)
    open_page(browser, tmp_path, model, trace)
    found = browser.execute_script("return Object.fromEntries([...rtfast.tensors].map(([n, t]) => [n, [...t.values]]))")
    for name, array in {**trace, **model.weights}.items():
        assert found[name] == array.astype(np.float64).ravel().tolist(), name
    assert browser.execute_script("return Object.is(rtfast.tensors.get(arguments[0]).at(0, 0, 0), -0)",
                                  "encoder.layers.0.self_attention.query.weight")


def test_nan_and_infinities_are_shown(browser, tmp_path):
    config = small_config()
    values = random_values(config)
    name = "decoder.layers.1.feed_forward.hidden"
    values[f"{name}.bias"][:3] = np.nan, np.inf, -np.inf
    model = rtfast.Transformer(config, values)
    open_page(browser, tmp_path, model, model.trace(SOURCE, TARGET))
    shown = [show(browser, name, 0, 0, j).text for j in range(3)]
    assert shown == ["NaN", "∞", "0.0000"]
    show(browser, name, 0, 0, 0).click()
    assert panel(browser)[:2] == ["NaN", "NaN"] and "the same" in panel(browser)[2]
    assert show(browser, "probabilities", 0, 0, 0).text == "NaN"


# The walk

def test_the_walk(browser, shipped):
    """All layers opened by clicks; what the tables show is what the trace holds."""
    _, trace, address = shipped
    browser.get(address)
    assert "layers.0" not in browser.execute_script("return [...document.querySelectorAll('figure')].map("
                                                    "f => f.dataset.name).join()")
    for layer in browser.find_elements(By.CSS_SELECTOR, "details.layer > summary"):
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", layer)
        layer.click()
    browser.execute_async_script("setTimeout(arguments[0], 100)")
    cells = browser.execute_script(
        "return [...document.querySelectorAll('figure')].map(f => [f.dataset.name, [...f.querySelectorAll('td')].map("
        "d => [+d.dataset.i, +d.dataset.j, d.textContent, d.title.split(' ')[0]])])")
    assert [name for name, _ in cells if name in trace] and {name for name, _ in cells} >= set(trace)
    for name, shown in cells:
        if name not in trace:
            continue  # the mean of the cross-attention
        matrix = trace[name][0] if trace[name].ndim == 3 else trace[name]
        assert len(shown) >= min(matrix.size, 12)
        for i, j, text, full in shown:
            assert np.float32(full) == matrix[i, j]
            assert abs(float(text) - matrix[i, j]) <= max(0.50001e-4, 0.006 * abs(matrix[i, j])), name
            assert "e" in text or len(text.partition(".")[2]) == 4


@pytest.mark.parametrize("name, h, i, j, words", [
    ("encoder.embedding", 0, 1, 95, ["has id", "9.7980"]),
    ("encoder.positional_encoding", 0, 2, 5, ["Position 2", "cosine"]),
    ("encoder.input", 0, 1, 7, ["+"]),
    ("encoder.layers.0.self_attention.query", 2, 1, 20, ["Row times column", "column 68"]),
    ("encoder.layers.1.self_attention.scores", 3, 0, 2, ["“the”", "“house”", "head 4"]),
    ("encoder.layers.1.self_attention.scaled_scores", 3, 0, 2, ["0.2041"]),
    ("decoder.layers.0.self_attention.weights", 1, 2, 1, ["exponential", "denominator", "masked"]),
    ("decoder.layers.0.self_attention.weights", 1, 1, 2, ["Masked", "no weight"]),
    ("decoder.layers.0.cross_attention.heads", 0, 3, 9, ["values of column 9"]),
    ("decoder.layers.1.cross_attention.concatenated", 0, 1, 30, ["column 6 of head 2"]),
    ("decoder.layers.1.cross_attention.residual", 0, 1, 30, ["+"]),
    ("decoder.layers.1.feed_forward.hidden", 0, 3, 200, ["bias", "relu("]),
    ("decoder.layers.1.feed_forward.norm", 0, 0, 50, ["mean", "variance", "eps", "gamma", "beta"]),
    ("logits", 0, 1, 149, ["“casa”"]),
    ("probabilities", 0, 1, 149, ["denominator"])])
def test_a_click_explains(browser, shipped, name, h, i, j, words):
    _, trace, address = shipped
    browser.get(address)
    show(browser, name, h, i, j).click()
    engine, again, verdict = panel(browser)
    expected = trace[name][h, i, j] if trace[name].ndim == 3 else trace[name][i, j]
    assert np.float32(engine) == expected
    assert float(again) == pytest.approx(expected, rel=1e-4, abs=1e-5) and "the same" in verdict
    text = browser.find_element(By.ID, "panel").text
    assert all(word in text for word in (*words, name)), text
    assert not any(word in text for word in ("null", "undefined", "NaN"))


def test_the_way_back(browser, shipped):
    """From a score by its operands to a weight, the page following; and back again."""
    _, trace, address = shipped
    browser.get(address)
    name = "encoder.layers.1.self_attention"
    show(browser, f"{name}.scores", 2, 1, 0).click()
    operands = browser.find_elements(By.CSS_SELECTOR, "#panel .terms td button")
    assert len(operands) == 48
    operands[2 * 20].click()  # q[20]
    assert f"{name}.query" in browser.find_element(By.ID, "panel").text
    assert np.float32(panel(browser)[0]) == trace[f"{name}.query"][2, 1, 20]
    explained = browser.find_element(By.CSS_SELECTOR, "td.explained")
    assert explained.is_displayed() and np.float32(explained.get_attribute("title")) == trace[f"{name}.query"][2, 1, 20]
    assert browser.find_element(By.CSS_SELECTOR, 'details.layer[open] [aria-pressed="true"]').text == "3"
    browser.find_elements(By.CSS_SELECTOR, "#panel .terms td button")[1].click()  # W[0, 68]
    assert f"{name}.query.weight" in browser.find_element(By.ID, "panel").text
    assert np.float16(panel(browser)[0]) == np.float16(shipped[0].weights[f"{name}.query.weight"][0, 68])
    assert browser.find_element(By.CSS_SELECTOR, "td.explained").is_displayed()
    text = browser.find_element(By.ID, "panel").text
    assert "it was learned" in text and "null" not in text
    for expected in (trace[f"{name}.query"][2, 1, 20], trace[f"{name}.scores"][2, 1, 0]):
        browser.find_element(By.CSS_SELECTOR, "#panel .back").click()
        assert np.float32(panel(browser)[0]) == expected
    assert not browser.find_elements(By.CSS_SELECTOR, "#panel .back")


def test_the_words_step_by_step(browser, shipped):
    _, trace, address = shipped
    browser.get(address)
    slider = browser.find_element(By.ID, "step")
    for t, word in enumerate(["la", "casa", "roja", "EOS"]):
        reading = browser.find_element(By.CSS_SELECTOR, ".reading")
        assert reading.text.endswith(f"says {word}")
        assert reading.find_element(By.TAG_NAME, "mark").text == trace.tokens[1][t]
        chosen = browser.find_element(By.CSS_SELECTOR, ".candidates .chosen")
        assert chosen.find_element(By.TAG_NAME, "th").text.split() == [word, "chosen"]
        ids = [int(cell.text) for cell in browser.find_elements(By.CSS_SELECTOR, ".candidates td:nth-child(2)")]
        assert ids == np.argsort(-trace["probabilities"][t], kind="stable")[:10].tolist()
        titles = [one.get_attribute("title") for one in browser.find_elements(
            By.CSS_SELECTOR, '.candidates [data-name="probabilities"]')]
        assert [np.float32(title) for title in titles] == trace["probabilities"][t][ids].tolist()
        slider.send_keys(Keys.ARROW_RIGHT)
    chosen.find_element(By.CSS_SELECTOR, '[data-name="probabilities"]').click()
    assert np.float32(panel(browser)[0]) == trace["probabilities"][3].max()


def test_cross_attention(browser, shipped):
    _, trace, address = shipped
    browser.get(address)
    section = browser.find_element(By.CSS_SELECTOR, 'section[aria-labelledby="cross"]')

    def shown():
        cells = section.find_elements(By.CSS_SELECTOR, "figure td")
        return np.array([float(cell.get_attribute("title")) for cell in cells]).reshape(4, 3)

    assert np.allclose(shown(), trace.alignment(), atol=1e-6)
    section.find_element(By.CSS_SELECTOR, "td").click()
    assert float(panel(browser)[0]) == float(panel(browser)[1])
    assert len(browser.find_elements(By.CSS_SELECTOR, "#panel .terms td button")) == 8
    browser.execute_script("rtfast.panel.close()")
    layer, head = section.find_elements(By.TAG_NAME, "select")
    layer.send_keys("layer 2")
    assert np.allclose(shown(), trace.alignment(layers=1), atol=1e-6)
    head.send_keys("head 3")
    weights = trace["decoder.layers.1.cross_attention.weights"][2]
    assert np.array_equal(shown().astype(np.float32), weights)
    lines = [[float(path.get_attribute(name)) for name in ("data-i", "data-j", "stroke-width")]
             for path in section.find_elements(By.TAG_NAME, "path")]
    assert len(lines) == (weights > 0.005).sum()
    for i, j, width in lines:
        assert abs(width - (0.5 + 8 * weights[int(i), int(j)])) < 0.01


def test_words_are_text(browser, tmp_path):
    config = small_config()
    model = rtfast.Transformer(config, random_values(config),
                               rtfast.WordTokenizer(["PAD", "SOS", "EOS", *HOSTILE, "a", "b"]))
    open_page(browser, tmp_path, model, model.trace([3, 4, 5, 6, 7, 8, 9, 10], [1, 3, 4]))
    words = browser.find_elements(By.CSS_SELECTOR, ".tokens .words td")
    assert [word.get_attribute("textContent") for word in words[:8]] == HOSTILE
    show(browser, "encoder.embedding", 0, 0, 0).click()
    assert HOSTILE[0] in browser.find_element(By.ID, "panel").text
    assert not browser.find_elements(By.TAG_NAME, "img")


def test_arrows_lead_from_left_to_right(browser, tmp_path):
    """Also between words that are written from right to left."""
    words = ["PAD", "SOS", "EOS", "مرحبا", "عالم", "שלום"]
    config = small_config(vocab_size=len(words))
    model = rtfast.Transformer(config, random_values(config), rtfast.WordTokenizer(words))
    open_page(browser, tmp_path, model, model.trace([3, 4], [1, 5, 3]))
    parts = [browser.find_element(By.CSS_SELECTOR, f"h1 {part}").rect
             for part in ("bdi:first-child", ".arrow", "bdi:last-child")]
    assert [part["x"] for part in parts] == sorted(part["x"] for part in parts)
    assert browser.execute_script("""
        const texts = [...document.querySelectorAll(".lines text")];
        const text = texts.find((one) => /שלום.*→/.test(one.textContent));
        const at = (part) => text.getExtentOfChar(text.textContent.indexOf(part)).x;
        return at("ש") < at("→") && at("→") < at("مرحبا")""")


def test_weights_that_were_left_out(browser, tmp_path, monkeypatch):
    model = random_model(small_config())[0]
    monkeypatch.setattr(page_module, "MOST_WORDS", 12)
    monkeypatch.setattr(page_module, "CANDIDATES", 2)
    trace = model.trace(SOURCE, TARGET)
    open_page(browser, tmp_path, model, trace, weights=False)
    assert "were left out" in browser.find_element(By.CSS_SELECTOR, ".intro .note").text
    show(browser, "encoder.layers.0.feed_forward.hidden", 0, 0, 0).click()
    text = browser.find_element(By.ID, "panel").text
    assert len(panel(browser)) == 1 and "layers' weights were left out" in text
    assert len(browser.find_elements(By.CSS_SELECTOR, "#panel .terms td button")) == 12  # x is there
    chosen = browser.execute_script("return rtfast.data.top[0][0]")
    show(browser, "probabilities", 0, 0, chosen).click()
    assert "only some words" in browser.find_element(By.ID, "panel").text and "the same" in panel(browser)[2]


# Keyboard, colours, sizes

def test_the_keyboard(browser, shipped):
    browser.get(shipped[2])
    name = "encoder.layers.0.self_attention.query"
    summary = browser.find_element(By.CSS_SELECTOR, "details.layer > summary")
    summary.send_keys(Keys.ENTER)
    cell = show(browser, name, 0, 0, 0)
    browser.execute_script("arguments[0].focus()", cell)
    press(browser, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert focused(browser) == [name, 1, 1]
    outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    press(browser, Keys.END)
    assert focused(browser) == [name, 1, 23]  # beyond the window: it has moved
    press(browser, Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.ARROW_UP)
    assert focused(browser) == [name, 0, 22]
    press(browser, Keys.ENTER)
    assert focused(browser) == "panel-title" and "the same" in panel(browser)[2]
    press(browser, Keys.ESCAPE)
    assert not browser.find_element(By.ID, "panel").is_displayed()
    assert focused(browser) == [name, 0, 22]
    press(browser, Keys.HOME)
    assert focused(browser) == [name, 0, 0]


def test_the_tab_key_reaches_everything(browser, shipped):
    """Every matrix has one stop; nothing that can be clicked cannot be reached."""
    browser.get(shipped[2])
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    browser.execute_async_script("setTimeout(arguments[0], 100)")
    stops = browser.execute_script(
        "return [...document.querySelectorAll('figure table')].map(t => t.querySelectorAll('[tabindex=\"0\"]').length)")
    assert len(stops) > 90 and set(stops) == {1}
    assert browser.execute_script("return [...document.querySelectorAll('button, a, input, select, summary')].filter("
                                  "e => e.tabIndex < 0).length") == 0


def test_names_and_headings(browser, shipped):
    browser.get(shipped[2])
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    browser.execute_async_script("setTimeout(arguments[0], 100)")
    levels = browser.execute_script(
        "return [...document.querySelectorAll('main :is(h1,h2,h3,h4,h5)')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    unnamed = browser.execute_script(
        "return [...document.querySelectorAll('svg.lines, canvas, table[role=grid], button, select, input')].filter("
        "e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels && e.labels.length)).length")
    assert unnamed == 0
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_light_and_dark(browser, shipped):
    def brightness():
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour[4:-1].replace(",", " ").split()[:3]) / 3

    browser.get(shipped[2])
    assert brightness() > 200
    window(browser, 1280, 900, **{"prefers-color-scheme": "dark"})
    assert brightness() < 60
    button = browser.find_element(By.ID, "theme")
    button.click()
    assert brightness() > 200
    button.click()
    assert brightness() < 60
    window(browser, 1280, 900)
    assert brightness() < 60  # the choice stays


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_nothing_is_wider_than_the_window(browser, shipped, width):
    browser.get(shipped[2])
    window(browser, width, 800)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    browser.execute_async_script("setTimeout(arguments[0], 300)")
    for _ in range(2):  # without and with an explanation
        widest = browser.execute_script("return [document.documentElement.scrollWidth, document.body.scrollWidth]")
        assert max(widest) <= width
        cell = show(browser, "encoder.layers.0.self_attention.weights", 0, 0, 2)
        browser.execute_script("arguments[0].click()", cell)
    box = browser.find_element(By.ID, "panel").rect
    assert box["width"] <= width and box["x"] >= 0
    cell = browser.find_element(By.CSS_SELECTOR, "td.explained")
    place = browser.execute_script("const r = arguments[0].getBoundingClientRect(); return [r.top, r.bottom]", cell)
    assert place[0] >= 0 and place[1] <= (box["y"] if width < 960 else 800)  # not under the panel


def test_long_words_and_sentences_in_a_narrow_window(browser, tmp_path):
    config = small_config(vocab_size=40)
    words = ["PAD", "SOS", "EOS", *(f"{'w' * 200}{i}" for i in range(37))]
    model = rtfast.Transformer(config, random_values(config), rtfast.WordTokenizer(words))
    open_page(browser, tmp_path, model, model.trace(range(3, 40), [1, *range(3, 33)]))
    window(browser, 360, 800)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    name = "decoder.layers.1.cross_attention.weights"
    show(browser, name, 2, 30, 36).click()  # rows and columns have moved
    assert "the same" in panel(browser)[2]


def test_the_contents_follow(browser, shipped):
    browser.get(shipped[2])
    browser.find_element(By.LINK_TEXT, "Decoder layer 2").click()
    browser.execute_async_script("setTimeout(arguments[0], 200)")
    assert browser.find_element(By.CSS_SELECTOR, "#contents a[aria-current]").text == "Decoder layer 2"
    assert browser.find_element(By.ID, "decoder-layer-2").get_attribute("open")
