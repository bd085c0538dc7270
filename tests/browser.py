"""Fixtures for pages: a real browser, and pages in it whose errors fail the test.

``XCNN_CHROMIUM`` names the browser; by default Debian's. Without playwright or the browser, the
tests are skipped.
"""

import os
import pathlib
import shutil

import pytest

# nothing that would contact a network by itself
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="session")
def browser():
    """Chromium, started once: a playwright Browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = os.environ.get("XCNN_CHROMIUM", "/usr/bin/chromium")
    if shutil.which(path) is None:
        pytest.skip(f"no browser {path}: set XCNN_CHROMIUM to a Chromium")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser):
    """``visit(url, **settings of the context)``: a new page with ``url`` in it.

    The test fails if any of its pages has an error on the console, an exception in a script or a
    request that failed.
    """
    contexts, problems = [], []

    def call(url, **settings):
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(5000)
        page.on(
            "console", lambda message: message.type == "error" and problems.append(message.text)
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
        page.goto(url)
        return page

    yield call
    for context in contexts:
        context.close()
    assert problems == []


def low_contrast(page):
    """The texts of a page whose contrast is below 4.5 to 1 (WCAG 2, AA): elements and ratios."""
    script = pathlib.Path(__file__).with_name("contrast.js")
    return page.evaluate(script.read_text("utf-8"))
