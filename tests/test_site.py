"""The built documentation site: complete, and without dead links or anything from elsewhere."""

import importlib.util
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

import xcnn

ROOT = Path(__file__).parents[1]
if not (ROOT / "mkdocs.yml").is_file():
    pytest.skip("needs a checkout", allow_module_level=True)
pytest.importorskip("mkdocstrings")
pytest.importorskip("material")
pytestmark = pytest.mark.exhaustive


class Page(HTMLParser):
    """The links, the anchors and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.anchors, self.text = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        link = attributes.get("href") or attributes.get("src")
        if tag in ("script", "img", "iframe", "source") or attributes.get("rel") == "stylesheet":
            self.loaded += [link] if link else []
        if link and attributes.get("rel") != "canonical":
            self.links.append(link)

    def handle_data(self, data):
        self.text.append(data)


def test_site(tmp_path):
    """One test: building takes a while."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    pages = {
        path.relative_to(tmp_path).as_posix(): Page(path.read_text(encoding="utf-8"))
        for path in tmp_path.rglob("*.html")
    }
    check_names(tmp_path)
    check_links(tmp_path, pages)
    check_that_nothing_comes_from_elsewhere(tmp_path, pages)
    check_docstrings(pages)


def check_names(site):
    """Every public name is in the inventory, which tools of other projects read, too."""
    from mkdocstrings import Inventory

    with (site / "objects.inv").open("rb") as file:
        documented = {*Inventory.parse_sphinx(file)}
    spec = importlib.util.spec_from_file_location("public", ROOT / "docs" / "public.py")
    public = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(public)
    names = public.public()
    assert len(names) > 800
    assert {"xcnn.functional.relu", "xcnn.models.resnet18", "xcnn.nn.activation"} <= {*names}
    modules = {f"xcnn.{n}" for n in xcnn.__all__ if type(getattr(xcnn, n)) is type(xcnn)}
    assert modules <= {module for page in public.PAGES.values() for module in page}
    assert not {item.home for item in names.values()} - documented
    methods = {n for n in dir(xcnn.Tensor) if n[0] != "_" and callable(getattr(xcnn.Tensor, n))}
    assert len(methods) > 200
    assert not {f"xcnn.Tensor.{n}" for n in methods} - documented


def check_links(site, pages):
    dead = set()
    for path, page in pages.items():
        if path == "404.html":  # its links begin at the root of the server
            continue
        for link in page.links:
            url = urlsplit(urljoin(f"http://site/{path}", link))
            if url.netloc != "site":
                continue
            target = unquote(url.path.lstrip("/"))
            target += "index.html" if not target or target.endswith("/") else ""
            anchor = unquote(url.fragment)
            if target in pages:
                found = not anchor or anchor in pages[target].anchors
            else:
                found = (site / target).is_file()
            if not found:
                dead.add((path, link))
    assert not dead


def check_that_nothing_comes_from_elsewhere(site, pages):
    assert not {link for page in pages.values() for link in page.loaded if "//" in link}
    for path in site.rglob("*.css"):
        assert "url(http" not in path.read_text(encoding="utf-8").replace('"', "")


def check_docstrings(pages):
    made_at_import = {"nn/loss": "label_smoothing", "optim": "betas=", "tensor": "logsumexp"}
    for path, text in made_at_import.items():
        assert text in "".join(pages[f"reference/{path}/index.html"].text)
    for path in (path for path in pages if path.startswith("reference/")):
        text = "".join(pages[path].text)
        for markup in (":func:", ":class:", ":meth:", ":mod:", "\n::: ", "][xcnn"):
            assert markup not in text, (path, markup)
