"""``xcnn demo``: the program, from its address to Ctrl-C. The page is tested in test_demo.py."""

import contextlib
import http.client
import io
import json
import re
import signal
import subprocess
import sys

import numpy as np
from PIL import Image


@contextlib.contextmanager
def started(*arguments):
    """The program, and the port and token in the address that it prints."""
    line = [sys.executable, "-m", "xcnn", "demo", *map(str, arguments), "--port", "0"]
    program = subprocess.Popen(
        [*line, "--no-browser", "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        printed = program.stdout.readline()
        found = re.search(r"http://127.0.0.1:(\d+)/(?:#token=(\w+))? \(Ctrl-C ends it\)", printed)
        assert found, printed or program.stderr.read()
        yield program, int(found[1]), found[2]
    finally:
        program.kill()
        program.communicate()


def predict(port, content, token=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/predict", content, {"X-Token": token} if token else {})
    answer = connection.getresponse()
    status, body = answer.status, answer.read()
    connection.close()
    return status, json.loads(body) if status == 200 else body.decode()


def drawing():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def test_from_the_address_to_ctrl_c(run, trained, here):
    """It classifies as ``xcnn predict`` does."""
    (here / "a.png").write_bytes(drawing())
    printed = run(f"predict {trained} a.png --top 10").out.split()[1:]
    expected = dict(zip(printed[::2], printed[1::2], strict=True))
    with started(trained, "--token", "abc") as (program, port, token):
        assert token == "abc"
        assert predict(port, drawing()) == (
            403,
            "wrong or missing token: open the address that xcnn demo printed\n",
        )
        status, found = predict(port, drawing(), token)
        assert status == 200
        names = {str(n): f"{p:.2%}" for n, p in enumerate(found["probabilities"])}
        assert names == expected
        assert found["maps"] == []  # of an MLP
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=20)
        assert (program.returncode, out, err) == (0, "\n", "")


def test_a_binary_loss(run, shades):
    """One output becomes the probabilities of both classes."""
    line = f"train small_cnn --data {shades} --loss binary_cross_entropy --image-size 16"
    assert run(f"{line} --epochs 1 --quiet --out run").status == 0
    with started("run") as (_, port, _):
        status, found = predict(port, drawing())
    assert status == 200
    assert len(found["probabilities"]) == 2
    assert sum(found["probabilities"]) == 1


def test_errors(run, trained, here):
    assert run("train mlp --data moons --epochs 1 --quiet --out moons").status == 0
    for options, text in {
        "moons": "moons was trained on features, not on images",
        "missing": "missing is not a run folder",
        f"{trained} --port 70000": "port=70000: expected 0 to 65535",
        f"{trained} --token a-b": "token='a-b': expected ASCII letters and digits",
        f"{trained} --host 192.0.2.1": "cannot listen on 192.0.2.1, port 8000",
    }.items():
        done = run(f"demo {options} --no-browser")
        assert (done.status, done.out) == (2, "")
        assert text in done.err
        assert done.err.count("\n") == 1
    empty = run(f"demo {trained} --no-browser --token", "")
    assert "token=''" in empty.err


def test_the_help_names_the_default_port(run):
    from xcnn import demo

    assert f"default: {demo.PORT}" in run("demo --help").out
