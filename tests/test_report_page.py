"""The page of a report in a real browser: what it shows, how it is used, what it must not run."""

import csv
import itertools
import json
import re
import time

import numpy as np
import pytest

import xcnn
from xcnn import cli, data, report
from xcnn.report import contents
from xcnn.report import page as pages

from .browser import low_contrast

HOSTILE = ['</script><img src=x onerror="window.hacked=1">', "<b>bold</b> & \"quotes\" 'n' \\u003c"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run on digits, with its report."""
    folder = tmp_path_factory.mktemp("report") / "digits"
    line = "train --epochs 2 --augment standard --metrics f1 --quiet --device cpu --out"
    assert cli.main([*line.split(), str(folder)]) == 0
    assert cli.main(["report", str(folder), "--device", "cpu"]) == 0
    return folder


@pytest.fixture
def page(run_folder, visit):
    return visit((run_folder / "report.html").as_uri())


def confusion(folder):
    """The confusion matrix of a run, computed without the report; with the actual classes."""
    settings = json.loads((folder / "config.json").read_text())
    x, labels = data.load("digits").test.arrays
    x = ((x / 255 - settings["mean"][0]) / settings["std"][0]).astype(np.float32)
    model = xcnn.load(folder / "model.safetensors")
    model.eval()
    predicted = model(x).numpy().argmax(axis=1)
    matrix = np.zeros((10, 10), int)
    for actual, taken in zip(labels, predicted, strict=True):
        matrix[actual, taken] += 1
    return matrix


def shown_matrix(page):
    rows = page.locator("#confusion .matrix tbody tr").all()
    return [
        [int(text.replace("·", "0")) for text in row.locator("td").all_inner_texts()]
        for row in rows
    ]


def test_confusion_matrix_and_the_pictures_behind_it(page, run_folder):
    expected = confusion(run_folder)
    assert shown_matrix(page) == expected.tolist()
    wrong = expected - np.diag(np.diag(expected))
    actual, predicted = np.unravel_index(wrong.argmax(), wrong.shape)
    count = wrong.max()
    page.click(f'[data-at="{actual},{predicted}"]')
    panel = page.locator("#confusion .panel")
    assert panel.locator("h3").inner_text() == f"{actual}, taken for {predicted}"
    pictures = panel.locator("img").all()
    assert len(pictures) == min(count, 12)
    assert all(picture.evaluate("e => e.naturalWidth") == 32 for picture in pictures)
    assert panel.locator(".verdict").first.inner_text() == f"✗ {predicted}, is {actual}"
    page.click('[data-at="0,0"]')  # more examples than are kept
    assert panel.locator("img").count() == 12
    assert f"the 12 most confident of {expected[0, 0]} examples" in panel.inner_text()


def test_numbers_of_the_page(page, run_folder):
    matrix = confusion(run_folder)
    right = int(np.trace(matrix))
    assert f"{right} of 360 are right, {right / 360:.2%}" in page.inner_text("#confusion")
    rows = page.locator("#classes tbody tr").all_inner_texts()
    recalls = [row.split()[4] for row in rows]
    assert recalls == [f"{matrix[c, c] / matrix[c].sum():.2%}" for c in range(10)]
    with (run_folder / "history.csv").open(newline="") as file:
        history = list(csv.DictReader(file))
    loss = page.locator(".chart", has=page.get_by_role("heading", name="Loss", exact=True))
    loss.locator("summary").click()
    cells = [row.split() for row in loss.locator("tbody tr").all_inner_texts()]
    expected = [
        [row["epoch"], *(f"{float(row[f'{k}_loss']):.4g}" for k in ("train", "val"))]
        for row in history
    ]
    assert cells == expected
    assert page.locator(".tiles .value").first.inner_text() == f"{right / 360:.2%}"


def test_chart_is_read_by_keys_and_pointer(page):
    chart = page.locator(".chart").first
    plot, output = chart.locator(".plot"), chart.locator("output")
    assert output.inner_text().startswith("epoch 2: train ")
    plot.focus()
    page.keyboard.press("ArrowLeft")
    assert output.inner_text().startswith("epoch 1: train ")
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 12, box["y"] + 50)
    assert output.inner_text().startswith("epoch 2: train ")
    before = plot.inner_html()
    chart.get_by_role("button").click()
    assert chart.get_by_role("button").get_attribute("aria-pressed") == "true"
    assert plot.inner_html() != before


def test_by_keyboard_only(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.keyboard.press("Enter")
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.dataset.at ?? ''"))
        if seen[-1]:
            break
    assert seen[-1] == "0,0"  # one stop for the whole matrix
    page.keyboard.press("ArrowDown")
    at = page.evaluate("document.activeElement.dataset.at")
    assert re.fullmatch(r"[1-9],0", at)
    page.keyboard.press("Enter")
    assert page.locator("#confusion .panel h3").inner_text() == f"{at[0]}, taken for 0"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_table_is_sorted_by_its_heads(page):
    head = page.locator("#classes th", has_text="recall")
    for direction, pick in (("descending", max), ("ascending", min)):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == direction
        texts = page.locator("#classes tbody td:nth-child(5)").all_inner_texts()
        values = [float(text.rstrip("%")) for text in texts]
        assert values[0] == pick(values)
        assert values == sorted(values, reverse=pick is max)


def test_structure(page):
    assert page.evaluate("document.documentElement.lang") == "en"
    assert [page.locator(tag).count() for tag in ("h1", "main", "nav")] == [1, 1, 1]
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))"
    )
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    for what in ("img:not([alt])", "table:not(:has(caption))", "th:not([scope])"):
        assert page.locator(what).count() == 0, what
    names = page.locator("nav a").all_inner_texts()
    assert names == page.locator("main section > h2").all_inner_texts()
    assert {"Training", "Confusion", "Layers", "Architecture", "Data", "Settings"} <= set(names)
    charts = page.locator(".chart h3").all_inner_texts()
    assert {"Loss", "Accuracy", "F1", "Learning rate"} <= set(charts)
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme, run_folder, visit):
    page = visit((run_folder / "report.html").as_uri(), color_scheme=scheme)
    assert low_contrast(page) == []


def test_dark_mode(page):
    background = "getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(246, 247, 249)", "rgb(13, 17, 23)"
    page.emulate_media(color_scheme="light")
    assert page.evaluate(background) == light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(background) == dark
    page.emulate_media(color_scheme="light")
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(background) == dark
    page.reload()  # the choice is kept
    assert page.evaluate(background) == dark


def test_nothing_is_wider_than_the_window(page):
    for width in (1600, 800, 360):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_print(page):
    page.emulate_media(media="print")
    assert page.locator("nav").is_visible() is False
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Type /Page\n") >= 5


def test_the_file_is_all_there_is(run_folder):
    text = (run_folder / "report.html").read_text("utf-8")
    assert len(text) < 3e6
    urls = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert urls <= {"http://www.w3.org/2000/svg"}  # a name, not loaded
    assert "default-src 'none'" in text
    assert not re.search(r"unsafe-inline|\son\w+=|javascript:", text.split('id="content"')[0])


def test_hostile_names_are_text(tmp_path, visit):
    x = np.random.default_rng(0).random((6, 8, 8))
    folder = tmp_path / "<i>"
    for label in (0, 1):  # files of images, whose names are shown
        (folder / f"{label}").mkdir(parents=True)
        for i in range(6):
            np.save(folder / f"{label}" / f"<u>&{i}.npy", (x[i] * 255).astype(np.uint8))
    files = data.ImageFolder(folder, size=8, channels=1)
    trainer = xcnn.Trainer(xcnn.nn.Sequential(xcnn.nn.Flatten(), xcnn.nn.Linear(64, 2)))
    run = report.Run(
        HOSTILE[0],
        trainer,
        test=data.DataLoader(files, transform=data.Normalize(0.5, 0.5)),
        classes=HOSTILE,
        settings={HOSTILE[0]: HOSTILE[1]},
        missing=HOSTILE,
    )
    report.write(tmp_path / "page.html", run)
    page = visit((tmp_path / "page.html").as_uri())
    page.locator("[data-at]").first.click()
    assert page.evaluate("window.hacked") is None
    assert page.locator("h1").inner_text() == HOSTILE[0]
    assert page.title() == HOSTILE[0]
    assert page.locator("#classes tbody th").all_inner_texts() == [
        HOSTILE[0][:39] + "…",
        HOSTILE[1],
    ]
    titles = page.locator("#classes tbody th span").evaluate_all("all => all.map((e) => e.title)")
    assert titles == HOSTILE
    assert page.locator(".file").first.inner_text().endswith(".npy")
    assert "<u>&" in page.locator(".file").first.inner_text()
    assert page.locator("main b, main u, main i, main img[src=x]").count() == 0


def test_names_do_not_turn_text_around(tmp_path, visit):
    names = ["cat\u202e", "\u05d7\u05ea\u05d5\u05dc"]
    x, y = np.zeros((4, 2), np.float32), np.arange(4) % 2
    trainer = xcnn.Trainer(xcnn.nn.Sequential(xcnn.nn.Linear(2, 2)))
    report.write(tmp_path / "page.html", report.Run("run", trainer, test=(x, y), classes=names))
    page = visit((tmp_path / "page.html").as_uri())
    shown = page.locator("#classes tbody th").all_inner_texts()
    assert shown == ["cat\ufffd", f"\u2068{names[1]}\u2069"]
    assert "\u202e" not in page.locator("body").inner_text()


def test_history_of_nan(tmp_path, visit):
    rows = [{"epoch": 1, "train_loss": np.nan}]
    report.write(tmp_path / "page.html", report.Run("run", history=rows))
    text = visit((tmp_path / "page.html").as_uri()).inner_text("#training")
    assert "Infinite numbers or NaN are left out: train_loss." in text
    assert "No epoch was finished" not in text


def live_page(path, epoch, **settings):
    rows = [{"epoch": i + 1, "train_loss": 1 / (i + 1), "seconds": 1.0} for i in range(epoch)]
    measured = contents.measure(report.Run("net", history=rows, epochs=9), full=False)
    path.write_bytes(pages.html("net", [measured], **settings))


def test_live_page_loads_itself_again(tmp_path, visit):
    path = tmp_path / "page.html"
    live_page(path, 2, live=1.0)
    page = visit(path.as_uri(), viewport={"width": 500, "height": 300})
    assert "The training runs." in page.inner_text(".live")
    page.locator(".chart summary").first.click()
    page.evaluate("scrollTo(0, 250)")
    live_page(path, 3, live=1.0)
    page.locator("output", has_text="epoch 3").first.wait_for()
    assert page.locator(".chart details").first.get_attribute("open") is not None
    assert page.evaluate("scrollY") == 250
    page.get_by_role("button", name="Pause").click()
    live_page(path, 4)
    page.wait_for_timeout(1200)
    assert page.locator("output").first.inner_text().startswith("epoch 3")
    page.reload()  # the training has ended
    assert page.locator("output").first.inner_text().startswith("epoch 4")
    assert page.locator(".live").count() == 0


def test_stale_page_does_not_claim_to_be_live(tmp_path, visit, monkeypatch):
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now - 600)
        live_page(tmp_path / "page.html", 2, live=10.0)
    page = visit((tmp_path / "page.html").as_uri())
    assert page.inner_text(".live").startswith("No news since")
    assert page.get_by_role("button", name="Pause").count() == 0


def test_several_runs(run_folder, tmp_path, visit):
    other = tmp_path / "slow"
    line = "train mlp --epochs 1 --lr 0.0001 --quiet --device cpu --out"
    assert cli.main([*line.split(), str(other)]) == 0
    out = tmp_path / "both.html"
    assert cli.main(["report", str(run_folder), str(other), "--out", str(out)]) == 0
    page = visit(out.as_uri())
    text = page.inner_text("#comparison")
    rows = page.locator("#comparison table").first.locator("tbody tr").all_inner_texts()
    assert any(row.startswith("Test accuracy") and "★" not in row for row in rows)
    assert page.locator("#comparison td.best").count() >= 2
    assert "model\tlenet5\tmlp" in text
    matrix = shown_matrix(page)
    page.select_option("#run", label="slow")
    assert shown_matrix(page) == confusion(other).tolist() != matrix
    legend = page.locator(".chart").first.locator(".legend li").all_inner_texts()
    assert legend == ["digits, train", "digits, test", "slow, train", "slow, test"]


def test_graph_unfolds(tmp_path, visit):
    trainer = xcnn.Trainer(xcnn.models.resnet20())
    run = report.Run("resnet20", trainer, input_shape=(3, 32, 32))
    report.write(tmp_path / "page.html", run)
    page = visit((tmp_path / "page.html").as_uri())
    rows = page.locator("#architecture tbody tr")
    folded = rows.count()
    assert folded == 1 + 3 + 9 + 3  # input, stem, blocks, head
    parameters = "[...document.querySelectorAll('#architecture tbody td:nth-child(4)')]" + (
        ".reduce((sum, e) => sum + (Number(e.textContent.replaceAll(',', '')) || 0), 0)"
    )
    assert page.evaluate(parameters) == 269_722
    page.get_by_role("button", name="unfold layer1.0", exact=True).click()
    assert rows.count() == folded + 6
    assert page.evaluate("document.activeElement.ariaLabel") == "fold layer1.0"
    assert page.locator("#architecture .skip-edge").count() == 1
    page.get_by_role("button", name="Unfold all").click()
    assert page.locator("#architecture .skip-edge").count() >= 9
    assert page.evaluate(parameters) == 269_722
