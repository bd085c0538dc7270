"""``xcnn completion``: what the shells themselves complete."""

import os
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("shtab", reason="needs: pip install shtab")

LINES = {
    "xcnn eva": {"evaluate"},
    "xcnn train --optimizer rm": {"rmsprop"},
    "xcnn train --best-": set(),
    "xcnn train --weight-d": {"--weight-decay"},
    "xcnn train resnet5": {"resnet50", "resnet56"},
    "xcnn train --data moo": {"moons"},
    "xcnn train --data my-r": {"my-runs"},
    "xcnn train --metrics f": {"f1"},
    "xcnn train --config setti": {"settings.toml"},
    "xcnn evaluate my-r": {"my-runs"},
    "xcnn runs my-": {"my-runs"},
    "xcnn summary googl": {"googlenet"},
    "xcnn summary model.on": {"model.onnx"},
}
# each prints a line for each of LINES
BASH = """
source ./script
while read -r line; do
    COMP_LINE=$line
    read -ra COMP_WORDS <<< "$line"
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    _shtab_xcnn xcnn "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
    echo "${COMPREPLY[*]}"
done
"""
FISH = """
source ./script
while read -l line
    echo (complete -C "$line" | string replace -r '\\t.*' '')
end
"""
# an interactive shell, whose line is completed and then printed
ZSH = """
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PROMPT=; fpath=($PWD/functions $fpath); autoload -Uz compinit; compinit -u -D'
zpty -w z 'bindkey "^I" complete-word; show() { print "<$BUFFER>" }; zle -N show; bindkey "^T" show'
zpty -w z 'unsetopt auto_list list_beep'
zpty -w z 'zle-line-init() { print line$((1+1)) }; zle -N zle-line-init'
zpty -r z out '*line2*'  # the line editor reads the keys from here on
while read -r line; do
    zpty -w -n z "$line"$'\\t\\x14\\x15'
    zpty -r z out '*<xcnn*>*'
    print -r -- "${${out##*<}%%>*}"
done
"""


@pytest.fixture
def script(run, here):
    """The script for a shell, in a folder with files to complete."""
    os.mkdir("my-runs")
    for name in ("settings.toml", "model.onnx"):
        open(name, "w").close()

    def write(shell):
        done = run(f"completion {shell}")
        assert (done.status, done.err) == (0, "")
        (here / "script").write_text(done.out)
        os.mkdir("functions")
        shutil.copy("script", "functions/_xcnn")

    return write


def completed(shell, code):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    done = subprocess.run(
        [shell, "-c", code],
        input="".join(f"{line}\n" for line in LINES),
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HOME": os.getcwd(), "TERM": "dumb"},
    )
    assert done.stderr == ""
    return [line.replace("/", "") for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("shell", "code"), [("bash", BASH), ("fish", FISH)])
def test_completion(script, shell, code):
    script(shell)
    found = [set(line.split()) for line in completed(shell, code)]
    assert dict(zip(LINES, found, strict=True)) == LINES


def test_completion_in_zsh(script):
    script("zsh")
    found = dict(zip(LINES, completed("zsh", ZSH), strict=True))
    for line, expected in LINES.items():
        if len(expected) == 1:
            start = line.rpartition(" ")[0]
            assert found[line].rstrip() == f"{start} {min(expected)}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_have_no_errors(script, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    script(shell)
    done = subprocess.run([shell, "-n", "script"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_completion_without_shtab(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    done = run("completion bash")
    assert (done.status, done.out) == (2, "")
    assert done.err.endswith("pip install shtab\n")


def test_the_help_says_where_to_put_it(run):
    text = run("completion --help").out
    for place in ("/bash-completion/completions/xcnn", "_xcnn", "/fish/completions/xcnn.fish"):
        assert place in text
