"""PyTorch's own samples: docs/pytorch.md holds no defect, and a run is no worse than it says."""

import re

import pytest

import xcnn
from xcnn import optim, schedules

from . import torch_samples
from .torch_scope import OPERATORS, OPTIMISERS, OUT_OF_SCOPE, SCHEDULES


def test_report_names_everything_and_no_defect():
    text = torch_samples.REPORT.read_text(encoding="utf-8")
    in_scope = list(torch_samples.runners())
    for family, name, _ in in_scope:
        assert f"`{torch_samples.shown(family, name)}`" in text, name
    (total,) = re.findall(r"^\| \*\*all\*\* \|.*", text, re.MULTILINE)
    columns = re.findall(r"^\| family \|.*", text, re.MULTILINE)[0]
    counts = dict(zip(columns.split(" | "), total.split(" | "), strict=True))
    assert {kind: counts[kind] for kind in ("differ", "unclear", "slow")} == dict.fromkeys(
        ("differ", "unclear", "slow"), "0"
    )


def test_what_agrees_exists():
    agreeing = {name for name, count in torch_samples.read_report().items() if count}
    assert len(agreeing) > 50
    for family, name, _ in torch_samples.runners():
        if torch_samples.shown(family, name) not in agreeing:
            continue
        if family in ("optimisers", "schedules"):
            assert hasattr(optim if family == "optimisers" else schedules, name)
        elif family.startswith("nn:"):
            assert hasattr(xcnn.nn, name)
        elif not hasattr(xcnn.Tensor, name):
            torch_samples.find(name)


def test_scope_covers_the_database():
    """Each operator that PyTorch has samples of is in scope, or out of it for a reason."""
    pytest.importorskip("torch")
    pytest.importorskip("expecttest")
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_modules import module_db
    from torch.testing._internal.common_optimizers import optim_db

    scope = {name for names in (*OPERATORS.values(), OPTIMISERS) for name in names.split()}
    names = [info.name for info in op_db]
    names += [info.name.removeprefix("nn.") for info in module_db]
    names += [info.optim_cls.__name__ for info in optim_db]
    for name in names:
        reasons = [r for r, pattern in OUT_OF_SCOPE.items() if re.fullmatch(pattern, name)]
        assert bool(reasons) != (name in scope), (name, reasons)
    from torch.optim import lr_scheduler

    kinds = {name for name in lr_scheduler.__all__ if name not in ("LRScheduler", "_LRScheduler")}
    assert kinds == set(SCHEDULES)


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore")  # PyTorch's; the runner makes errors of xcnn's
@pytest.mark.parametrize("family", [*OPERATORS, "optimisers", "schedules"])
def test_samples_agree_as_often_as_reported(family):
    torch = pytest.importorskip("torch")
    pytest.importorskip("expecttest")
    torch.set_num_threads(1)
    floors = torch_samples.read_report()
    for score in torch_samples.scores(family=family):
        defects = {k: score.texts.get(k) for k in ("differ", "unclear", "slow") if score.counts[k]}
        assert not defects, score.shown
        assert score.counts["agree"] >= floors.get(score.shown, 0), (score.shown, score.texts)
