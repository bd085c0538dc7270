"""What MkDocs does here beyond its plugins.

- A page of the reference for each entry of ``public.PAGES``, written at each build.
- The README and others of the repository's root become pages.
- Links to files outside ``docs/`` lead to the repository; names in code to the reference.
"""

from __future__ import annotations

import posixpath
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import public
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
#: files of the root that are pages of the site
ROOT_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_CODE_BLOCK = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.M | re.S)
_LINK = re.compile(r'(\]\(|^\[[^\]]+\]: |(?:src|href)=")([^)\s"#]+)(?=[)\s"#])', re.M)
#: code that could name something: not in a link, and whole
_CODE = re.compile(r"(?<![\[`])`((?:\w+\.)+\w+)(?:\(\))?`(?![\]`])")
#: a class of xcnn in code, on pages that name those of no other library
_CLASS = re.compile(r"(?<![\[`])`([A-Z]\w+)(?:\(.*?\))?`(?![\]`])")
_OWN_PAGES = ("data.md", "explain.md", "library.md", "metrics.md", "report.md", "training.md")
_PIPE = re.compile(r"(?<=`)[^`\n]*\\\|[^`\n]*(?=`)")
_SHORT = {"F": "xcnn.functional", "nn.init": "xcnn.init", "optim.lr_scheduler": "xcnn.schedules"}


def on_config(config: Any) -> Any:
    """Fill in the entries of the navigation that end with a slash: the pages of that folder."""
    docs = Path(config.docs_dir)

    def expand(entry: Any) -> Any:
        if isinstance(entry, dict):
            ((title, value),) = entry.items()
            if title == "Reference":
                return {title: [*value, *_reference_navigation()]}
            if isinstance(value, str) and value.endswith("/"):
                pages = [
                    docs / value / "README.md",
                    *sorted(docs.glob(f"{value}[0-9]*.md"), key=_stem),
                ]
                return {title: [f"{value}{page.name}" for page in pages]}
            return {title: [expand(e) for e in value] if isinstance(value, list) else value}
        return entry

    config.nav = [expand(entry) for entry in config.nav]
    return config


def _stem(path: Path) -> str:
    """To sort a page before its translations, 01-kernel.fr.md."""
    return path.stem


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not files of ``docs/``."""
    for name, uri in ROOT_PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        text = f"---\nhide: [navigation]\n---\n{text}" if uri == "index.md" else text
        files.append(File.generated(config, uri, content=text))
    for uri, text in reference().items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Mend the links of a page, and link the names in its code."""
    uri = page.file.src_uri
    origin = {page: name for name, page in ROOT_PAGES.items()}.get(uri, f"docs/{uri}")

    def link(match: re.Match[str]) -> str:
        # MkDocs adapts the links of Markdown to where the page will be, but not those of HTML
        base = page.file.url if match[1].endswith('"') else posixpath.dirname(uri)
        return match[1] + _target(match[2], origin, base or ".", config.repo_url)

    parts, end = [], 0
    for block in [*_CODE_BLOCK.finditer(markdown), None]:
        text = markdown[end : block.start() if block else None]
        text = _LINK.sub(link, text)
        text = _PIPE.sub(lambda code: code[0].replace("\\|", "|"), text)  # GitHub needs the \\
        if uri not in reference():
            text = _CODE.sub(_name, text)
        if uri in _OWN_PAGES:
            text = _CLASS.sub(_class, text)
        parts.append(text)
        if block:
            parts.append(block[0])
            end = block.end()
    return "".join(parts)


def _target(link: str, origin: str, base: str, repository: str) -> str:
    """A link of the file ``origin`` of the repository, relative to ``base`` on the site."""
    if re.match(r"[a-z]+:|/", link):
        return link
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
    if path == "docs/README.md":
        path = "README.md"
    if path in ROOT_PAGES:
        inside = ROOT_PAGES[path]
    elif path.startswith("docs/"):
        inside = path.removeprefix("docs/")
    elif (ROOT / path).exists():
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{repository}/{kind}/main/{path}"
    else:
        return link  # MkDocs says that it is missing
    return posixpath.relpath(inside, base)


@cache
def _public() -> dict[str, public.Public]:
    return public.public()


def _name(match: re.Match[str]) -> str:
    """Code that is the name of something public, as a link to it."""
    first, _, rest = match[1].partition(".")
    for path in (match[1], f"xcnn.{match[1]}", f"{_SHORT.get(first)}.{rest}"):
        if path in _public():
            return f"[{match[0]}][{_public()[path].home}]"
        if path.startswith("xcnn.") and public.is_documented(path):
            return f"[{match[0]}][{path}]"
    return match[0]


@cache
def _classes() -> dict[str, set[str]]:
    """The homes of the public classes by name."""
    homes: dict[str, set[str]] = {}
    for item in _public().values():
        if isinstance(item.value, type):
            homes.setdefault(item.name, set()).add(item.home)
    return homes


def _class(match: re.Match[str]) -> str:
    """The name of a public class, as a link to it."""
    homes = _classes().get(match[1], set())
    return f"[{match[0]}][{homes.copy().pop()}]" if len(homes) == 1 else match[0]


# -- the reference


@cache
def reference() -> dict[str, str]:
    """The generated pages by address."""
    pages = {}
    for page, modules in public.PAGES.items():
        groups = _groups(modules)
        if modules[0] in public.SPLIT:
            pages[f"reference/{page}/index.md"] = _index(modules[0], groups)
            for name, items in groups.items():
                pages[f"reference/{page}/{name.rpartition('.')[2]}.md"] = _page({name: items})
        else:
            pages[f"reference/{page}.md"] = _page(groups)
    pages["reference/tensor.md"] = "::: xcnn.Tensor\n    options:\n      heading_level: 1\n"
    return pages


def _groups(modules: list[str]) -> dict[str, list[public.Public]]:
    """The public names of modules, by module, or by file of a module that is split."""
    groups: dict[str, list[public.Public]] = {m: [] for m in modules if m not in public.SPLIT}
    for item in _public().values():
        name = public.ELSEWHERE.get(item.path, item.parent)
        if name in modules:
            if name in public.SPLIT:
                name += f".{public.family(item).partition('_')[0]}"
            groups.setdefault(name, []).append(item)
    return {name: groups[name] for name in (sorted(groups) if len(groups) > 5 else groups)}


def _page(groups: dict[str, list[public.Public]]) -> str:
    lines = []
    for level, (path, items) in enumerate(groups.items()):
        lines += _heading(path, 2 if level else 1)
        for item in sorted(items, key=lambda i: (not public.is_code(i.value), i.name.lower())):
            if item.path == item.home:
                lines += [f"::: {item.path}", ""]
        others = [item for item in items if item.path != item.home]
        if others:
            lines += ["| other name | see |", "|---|---|"]
            lines += [f"| `{o.path}` | [`{o.home}`][{o.home}] |" for o in others]
            lines.append("")
    return "\n".join(lines)


def _index(module: str, groups: dict[str, list[public.Public]]) -> str:
    """The page of a module that is split: its names by file."""
    lines = _heading(module, 1)
    for path, items in groups.items():
        file = path.rpartition(".")[2]
        listed = sorted(items, key=lambda i: i.name.lower())
        names = ", ".join(f"[`{item.name}`][{item.home}]" for item in listed)
        lines += [f"[{file.capitalize()}]({file}.md): {names}", ""]
    return "\n".join(lines)


def _heading(path: str, level: int) -> list[str]:
    """A heading with the docstring of a module; some files have the name of a function."""
    if public.is_documented(path):
        options = {"members": "false", "heading_level": level, "show_root_full_path": "true"}
        return [f"::: {path}", "    options:", *(f"      {k}: {v}" for k, v in options.items()), ""]
    text = public.module(path).__doc__ or ""
    return [f"{'#' * level} `{path}`", "", text.partition("\n\n")[0], ""]


def _reference_navigation() -> list[Any]:
    entries: list[Any] = [{"xcnn": "reference/xcnn.md"}, {"xcnn.Tensor": "reference/tensor.md"}]
    for page, modules in [*public.PAGES.items()][1:]:
        files = [uri for uri in reference() if uri.startswith(f"reference/{page}/")]
        pages = [u if u.endswith("index.md") else {Path(u).stem.capitalize(): u} for u in files]
        entries.append({modules[0]: pages or f"reference/{page}.md"})
    return entries
