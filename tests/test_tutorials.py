"""The tutorial pages print what they show; see :mod:`tests.pages`."""

import re

import numpy as np
import pytest

import xcnn

from . import pages
from .conftest import PACKAGE
from .strict.watch import count_launches

pytest.importorskip("matplotlib", reason="the pages draw with matplotlib")
FOLDER = PACKAGE.parent / "docs" / "tutorials"
PAGES = sorted(FOLDER.glob("[0-9]*.md"))
if not PAGES:
    pytest.skip("needs a checkout", allow_module_level=True)


@pytest.mark.parametrize("page", PAGES[:-1], ids=lambda page: page.stem)
def test_page(page):
    assert not pages.run(page)


def test_last_page(strict):
    """Its CUDA kernels compute what its formula does."""
    if xcnn.cuda.is_available():
        pytest.skip("the page shows what a computer without a GPU prints")
    names = {}
    assert not pages.run(PAGES[-1], names=names)
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 3, 7, 41, 5)).astype("float32")  # 861 · 5 numbers: many blocks
    expected = xcnn.vjp(names["Swish"](), x)
    y, back = xcnn.vjp(names["FastSwish"](), strict.asarray(x))
    with count_launches() as launches:
        (dx,) = back(strict.asarray(dy).T.copy().T)  # in another order
    assert launches == ["swish_backward"]
    np.testing.assert_allclose(strict.to_host(y), expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(strict.to_host(dx), expected[1](dy)[0], rtol=1e-5, atol=1e-6)


def test_pages_lead_to_each_other():
    english = [page for page in PAGES if not page.stem.endswith(".fr")]
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    for i, page in enumerate(english):
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {i + 1} · ")
        links = re.findall(r"\]\(([\w.-]+\.md)\)", text.splitlines()[2])
        around = [p.name for p in english[max(0, i - 1) : i + 2] if p != page]
        assert [name for name in links if name[0].isdigit() and ".fr." not in name] == around
        assert f"]({page.name})" in index
    for page in [*PAGES, FOLDER / "README.md"]:
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", prose):
            assert (FOLDER / link).exists(), f"{page.name}: {link}"


PAGE = """<!-- compare: {rule} -->

```python
print("a", {printed})
```

```text
a {shown}
```

```python
b = 3
```
"""


@pytest.mark.parametrize(
    ("rule", "shown", "printed", "difference"),
    [
        ("within 0", "2.50", "2.506", "2.506 instead of 2.50"),
        ("within 0.1", "2.50", "2.59", None),
        ("within 0.1", "2.50", "2.61", "2.61 instead of 2.50"),
        ("within 0.1", "25", "26", "26 instead of 25"),
        ("form only", "2.5 1e-09", "'b', 7e-11", "other words"),
        ("form only", "2.5 1e-09", "3.5, 7e-11", None),
        ("form only, and 1 > 2", "2.5", "2.5", "not 1 > 2"),
    ],
)
def test_compare(tmp_path, rule, shown, printed, difference):
    page = tmp_path / "page.md"
    page.write_text(PAGE.format(rule=rule, shown=shown, printed=printed))
    found = pages.run(page)
    if difference is None:
        assert not found
    else:
        assert [(d.line, d.why) for d in found] == [(3, difference)]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("2.5", "2.6", True),  # one in the last digit
        ("2.5", "2.7", False),
        ("250.00", "252.00", True),  # 1 %
        ("250.00", "253.00", False),
        ("1.2e-03", "1.3e-03", True),
        ("1.2e-03", "1.4e-03", False),
        ("1,000.0", "1,009.0", True),
        ("3", "4", False),
    ],
)
def test_agree(a, b, same):
    assert pages.agree(a, b) == same


def test_write(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "PICTURES", tmp_path / "pictures")
    pages.PICTURES.mkdir()
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n\n```python\nfrom matplotlib import pyplot as plt\nplt.figure(figsize=(1, 1))\n"
        'plt.savefig("tutorial-a.svg")\nprint(4.0)\nprint()\n```\n\n```text\n3.0\n```\n\n'
        "![a](../pictures/tutorial-a.svg)\n"
    )
    assert [d.why for d in pages.run(page)] == [
        "4.0 instead of 3.0",
        "docs has no tutorial-a.svg: use --write",
    ]
    assert pages.main([str(page), "--write"]) == 0
    assert "\n```text\n4.0\n```\n" in page.read_text()
    first = (pages.PICTURES / "tutorial-a.svg").read_bytes()
    assert pages.main([str(page), "--write"]) == 0
    assert (pages.PICTURES / "tutorial-a.svg").read_bytes() == first
    assert pages.main([str(page)]) == 0
