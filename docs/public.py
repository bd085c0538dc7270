"""The public names of xcnn, where the reference documents each, and what griffe shows of them.

griffe reads the source without running it, but many names are made from tables when xcnn is
imported: ``relu = unary(...)``, Tensor's methods, networks that differ in sizes only. The
extension below adds them, with the signature and the docstring that ``help`` shows. It also turns
the Sphinx roles of docstrings, such as :func:`xcnn.load`, into links.
"""

from __future__ import annotations

import builtins
import inspect
import logging
import re
import sys
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import griffe

#: pages of the reference: the modules that each lists
PAGES = {
    "xcnn": ["xcnn", "xcnn.random"],
    "training": ["xcnn.training", "xcnn.callbacks"],
    "nn": ["xcnn.nn"],
    "functional": ["xcnn.functional"],
    "optim": ["xcnn.optim"],
    "schedules": ["xcnn.schedules"],
    "init": ["xcnn.init"],
    "metrics": ["xcnn.metrics"],
    "data": ["xcnn.data", "xcnn.data.augment", "xcnn.data.sources"],
    "models": ["xcnn.models"],
    "tasks": ["xcnn.tasks"],
    "distributed": ["xcnn.distributed"],
    "explain": ["xcnn.explain", "xcnn.plot", "xcnn.report", "xcnn.demo"],
    "onnx": ["xcnn.onnx", "xcnn.onnx.backend"],
    "sklearn": ["xcnn.sklearn"],
    "testing": ["xcnn.testing"],
    "errors": ["xcnn.errors"],
    "devices": ["xcnn.backends", "xcnn.cuda", "xcnn.amp", "xcnn.config"],
    "extend": ["xcnn.extend"],
}
#: names of xcnn that are not on its page
ELSEWHERE = {"xcnn.Tensor": "", "xcnn.Trainer": "xcnn.training", "xcnn.Epoch": "xcnn.training"}
#: modules with too many names for one page: a page for each of their files
SPLIT = ("xcnn.nn", "xcnn.functional")
_log = logging.getLogger("mkdocs.hooks.public")  # a warning ends a strict build
_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(~?)([\w.]+)`")


def module(path: str) -> ModuleType:
    """The module of that path; ``xcnn.summary`` is also a function."""
    import_module(path)
    return sys.modules[path]


def names(path: str) -> list[str]:
    """What a module exports: its ``__all__``, or what it defines without an underscore."""
    found = module(path)
    exported = getattr(found, "__all__", None)
    if exported is None:
        exported = [
            name
            for name, value in vars(found).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == path
        ]
    is_module = lambda name: isinstance(getattr(found, name, found), ModuleType)  # noqa: E731
    return [name for name in exported if not is_module(name)]


def is_code(value: Any) -> bool:
    """Whether it is a class or a function."""
    return isinstance(value, type) or inspect.isroutine(value)


def has_one_home(value: Any) -> bool:
    """Whether the same object under another name is the same thing, unlike the number 1."""
    return is_code(value) or isinstance(value, dict | list | tuple)


class Public(NamedTuple):
    """A public name."""

    path: str  # as users import it
    value: Any
    home: str  # the path under which the reference documents it

    @property
    def parent(self) -> str:
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def public() -> dict[str, Public]:
    """All public names by path; one of several names of an object is its home."""
    homes: dict[int, str] = {}
    found: dict[str, Public] = {}
    for path in (path for page in PAGES.values() for path in page):
        scope = module(path)
        # an alias such as ``absolute = abs`` comes after what it stands for
        for name in sorted(
            names(path), key=lambda n: getattr(getattr(scope, n), "__name__", n) != n
        ):
            value = getattr(scope, name)
            here = f"{path}.{name}"
            home = homes.setdefault(id(value), here) if has_one_home(value) else here
            found[here] = Public(here, value, home)
    return found


def family(item: Public) -> str:
    """The name of the file of a split module that lists a public name."""
    package = module(item.parent)
    for path in sorted(n for n in sys.modules if n.startswith(f"{package.__name__}.")):
        if item.name in getattr(sys.modules[path], "__all__", ()):
            return path.rpartition(".")[2]
    made_in, _, file = str(item.value.__module__).rpartition(".")
    return file if made_in == package.__name__ else "module"  # nn.Parameter comes from outside


def is_documented(path: str) -> bool:
    """Whether a module has a place in the reference."""
    parent, _, name = path.rpartition(".")
    is_file = parent in SPLIT and path in sys.modules and name not in names(parent)
    return is_file or any(path in page for page in PAGES.values())


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """The public members of a class, also those that it inherits from undocumented classes."""
    seen = set()
    for base in kind.__mro__:
        if base is kind or base.__module__.startswith("xcnn"):
            for name, value in vars(base).items():
                if not name.startswith("_") and name not in seen:
                    seen.add(name)
                    yield name, value


class Reference(griffe.Extension):
    """Completes what griffe has read of xcnn."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        self.public = public()
        documented = [p for p in self.public.values() if p.path == p.home and has_one_home(p.value)]
        self.homes = {id(item.value): item.path for item in documented}
        self.static = dict(_walk(pkg))
        self.made: list[griffe.Function] = []
        for item in self.static.values():
            _read_comment(item)
        for item in self.public.values():
            self._add(item)
        for item in [*self.static.values(), *self.made]:
            if item.docstring:
                self._link(item)
            if item.is_class or item.is_module:
                item.resolve = partial(self._resolve, item)

    def _add(self, item: Public) -> None:
        """Put ``item`` where its public path is."""
        package = self.static[item.parent]
        kind = griffe.Kind.CLASS if isinstance(item.value, type) else griffe.Kind.FUNCTION
        if is_code(item.value):
            value = inspect.unwrap(item.value)
            written = self.static.get(f"{value.__module__}.{value.__qualname__}")
            known = written is not None and written.kind is kind
            if known and kind is griffe.Kind.FUNCTION:
                known = not _differs(written, item.value)
        else:
            written, known = self._attribute(item), True
        before = package.members.get(item.name)
        if not known or isinstance(before, griffe.Module):
            written = self._function(item.name, item.value, package)
            if isinstance(before, griffe.Module):
                written.members = before.members  # functional.pad.Pad stays reachable
        is_here = written.path == item.path
        package.members[item.name] = (
            written if is_here else griffe.Alias(item.name, written, parent=package)
        )
        if isinstance(item.value, type) and item.path == item.home:
            self._add_members(item.value, written)
            if _differs(written, item.value):
                made = _function("__init__", item.value, package)
                made.parameters = griffe.Parameters(griffe.Parameter("self"), *made.parameters)
                made.docstring, made.parent = None, written
                written.members["__init__"] = made

    def _attribute(self, item: Public) -> Any:
        for path, other in self.static.items():
            if path.endswith(f".{item.name}") and other.is_attribute and _find(path) is item.value:
                return other
        return griffe.Attribute(item.name, value=repr(item.value), parent=self.static[item.parent])

    def _add_members(self, kind: type, written: Any) -> None:
        for name, value in members(kind):
            base = next(b for b in kind.__mro__ if name in vars(b))
            if base is not kind and id(base) in self.homes:
                continue
            known = written.members.get(name)
            if known is not None and (known.docstring or known.is_function):
                continue
            inherited = self.static.get(f"{base.__module__}.{base.__qualname__}.{name}")
            if base is not kind and inherited is not None:
                if inherited.docstring:
                    written.members[name] = griffe.Alias(name, inherited, parent=written)
            elif inspect.isfunction(value) and base is kind:
                made = self._function(name, value, written)
                home = self.homes.get(id(value)) or self.homes.get(id(inspect.unwrap(value)))
                if home:  # a function that is also a method
                    made.docstring = griffe.Docstring(f"As :func:`{home}`.", parent=made)
                written.members[name] = made

    def _function(self, name: str, value: Any, parent: Any) -> griffe.Function:
        made = _function(name, value, parent)
        self.made.append(made)
        return made

    def _resolve(self, item: Any, name: str) -> str:
        """What a name in an annotation or under Raises stands for, as a path."""
        if item.is_class and hasattr(builtins, name):  # bool is not Tensor.bool
            raise griffe.NameResolutionError(name)
        try:
            return type(item).resolve(item, name)
        except griffe.NameResolutionError:
            if f"xcnn.errors.{name}" in self.public:  # raised by what it calls
                return f"xcnn.errors.{name}"
            raise

    # -- roles

    def _link(self, item: Any) -> None:
        scopes = [""]
        part = item
        while part is not None:
            scopes.insert(-1, f"{part.path}.")
            part = part.parent

        def replace(match: re.Match[str]) -> str:
            short, target = match[1], match[2]
            shown = target.rpartition(".")[2] if short else target
            paths = [f"{scope}{target}" for scope in scopes]
            path = next((p for p in paths if p in self.static or _find(p) is not None), None)
            if path is None:
                _log.warning("%s: %s leads nowhere", item.path, match[0])
            home = path and self.documented(path)
            return f"[`{shown}`][{home}]" if home else f"`{shown}`"

        item.docstring.value = _ROLE.sub(replace, item.docstring.value)

    def documented(self, path: str) -> str | None:
        """Where the reference has the object of a path; None if it leaves it out."""
        value = _find(path)
        if isinstance(value, ModuleType):
            return path if is_documented(path) else None
        if id(value) in self.homes:
            return self.homes[id(value)]
        if path in self.public:
            return self.public[path].home
        owner, _, name = path.rpartition(".")
        home = None
        for base in getattr(_find(owner), "__mro__", ()):
            home = self.homes.get(id(base), home)  # of those it inherits from, the last so far
            written = self.static.get(f"{base.__module__}.{base.__qualname__}")
            member = written and written.members.get(name)
            if member:
                return f"{home}.{name}" if home and member.docstring else None
        return None


def _find(path: str) -> Any:
    """The object of a dotted path, or None."""
    parts = path.split(".")
    for i in range(len(parts), 0, -1):
        found: Any = sys.modules.get(".".join(parts[:i]))
        for name in parts[i:]:
            found = getattr(found, name, None)
        if found is not None:
            return found
    return None


def _walk(item: Any) -> Iterator[tuple[str, Any]]:
    yield item.path, item
    for member in list(item.members.values()):
        if not member.is_alias:
            yield from _walk(member)


def _read_comment(item: Any) -> None:
    """A ``#:`` comment above an attribute documents it."""
    if not item.is_attribute or item.docstring or not item.lineno:
        return
    comment: list[str] = []
    lines = item.lines_collection[item.filepath]
    for line in reversed(lines[: item.lineno - 1]):
        if not line.strip().startswith("#:"):
            break
        comment.insert(0, line.strip()[2:].strip())
    if comment:
        item.docstring = griffe.Docstring(" ".join(comment), parent=item)


def _function(name: str, value: Any, parent: Any) -> griffe.Function:
    """A function as Python sees it; of a class, as a method."""
    signature = inspect.signature(value)
    made = griffe.Function(
        name,
        parameters=griffe.Parameters(
            *(
                griffe.Parameter(
                    parameter.name,
                    annotation=_text(parameter.annotation),
                    kind=griffe.ParameterKind[parameter.kind.name.lower()],
                    default=None
                    if parameter.default is parameter.empty
                    else repr(parameter.default),
                )
                for parameter in [*signature.parameters.values()][1 if parent.is_class else 0 :]
            )
        ),
        returns=_text(signature.return_annotation),
        parent=parent,
    )
    if doc := inspect.getdoc(value):
        made.docstring = griffe.Docstring(doc, parent=made)
    return made


def _differs(written: Any, value: Any) -> bool:
    """Whether the signature is made when xcnn is imported, as an optimiser's from its settings."""
    try:
        actual = [*inspect.signature(value).parameters]
    except ValueError:  # of an exception
        return False
    known = [p.name.lstrip("*") for p in written.parameters if p.name not in ("self", "cls")]
    return actual not in (known, ["args", "kwargs"])


def _text(annotation: Any) -> str | None:
    """An annotation as it was written: ``from __future__ import annotations`` keeps the text."""
    return None if annotation is inspect.Parameter.empty else str(annotation)
