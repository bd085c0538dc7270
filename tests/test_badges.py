"""The badges of the README say what pyproject.toml and the pages of the docs say."""

import pytest

from . import badges

if not badges.FOLDER.is_dir():
    pytest.skip("needs a checkout", allow_module_level=True)


@pytest.mark.parametrize(("name", "text"), badges.texts().items())
def test_badge(name, text):
    """Write them anew with ``python -m tests.badges --write``."""
    path = badges.FOLDER / f"badge-{name}.svg"
    assert path.read_text(encoding="utf-8") == badges.svg(*text)
    assert f"docs/pictures/{path.name}" in (badges.ROOT / "README.md").read_text(encoding="utf-8")
