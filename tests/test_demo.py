"""xcnn.demo: the protocol of its server, and the page in a real browser."""

import base64
import contextlib
import http.client
import io
import json
import socket
import threading
import time
import urllib.parse

import numpy as np
import pytest

import xcnn
from xcnn import demo, nn, optim
from xcnn.demo import server as module
from xcnn.errors import ArgumentError

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def digits():
    return xcnn.data.load("digits")


@pytest.fixture(scope="module")
def classifier(digits):
    """LeNet-5, trained for a few epochs."""
    xcnn.manual_seed(0)
    normalize = digits.normalize()
    model = xcnn.models.lenet5(input_shape=(1, 32, 32))
    trainer = xcnn.Trainer(model, optim.Adam(model.parameters(), lr=2e-3), loss="cross_entropy")
    x, y = digits.train.arrays
    trainer.fit(normalize(x), y, epochs=6, batch_size=64, progress=False)
    names = [str(n) for n in range(10)]
    return demo.Classifier(model, (1, 32, 32), names, normalize, name="digits", stroke=0.18)


@contextlib.contextmanager
def running(classifier, **settings):
    server = demo.Server(classifier, port=0, **settings)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def server(classifier):
    with running(classifier) as started:
        yield started


def ask(server, method, path, body=None, **headers):
    """Status, headers and content of an answer; ``Host=None`` sends none."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, path, skip_host="Host" in headers)
    if body is not None:
        headers.setdefault("Content-Length", str(len(body)))
    for name, value in headers.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def raw(server, text, finish=True):
    """The answer to bytes as they are."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(text)
        if finish:
            connection.shutdown(socket.SHUT_WR)
        parts = iter(lambda: connection.recv(65536), b"")
        return b"".join(parts)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def picture(seed=0, shape=(40, 50)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def unpacked(packed):
    data = np.frombuffer(base64.b64decode(packed["data"]), np.uint8)
    return data.reshape(packed["shape"])


# -- the protocol --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"), [("/", "html"), ("/demo.css", "css"), ("/demo.js", "javascript")]
)
def test_the_page(server, path, kind):
    status, headers, content = ask(server, "GET", path)
    assert status == 200
    assert headers["Content-Type"] == f"text/{kind}; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'; script-src 'self';" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert b"http://" not in content.replace(b"http://www.w3.org", b"")
    assert b"https://" not in content
    assert len(content) == int(headers["Content-Length"]) > 1000
    assert ask(server, "HEAD", path)[::2] == (200, b"")


def test_a_prediction(server, classifier, tmp_path):
    """As ``xcnn predict`` reads the file and the trainer classifies it."""
    (tmp_path / "a.png").write_bytes(png(picture()))
    for invert in (False, True):
        pixels = xcnn.data.read_image(tmp_path / "a.png", (1, 32, 32), invert)
        x = classifier.normalize(pixels[None])
        expected = xcnn.Trainer(classifier.model, loss="cross_entropy").predict(x)[0]
        path = f"/predict?invert={int(invert)}&cam=1&class=3"
        status, headers, content = ask(server, "POST", path, png(picture()))
        assert (status, headers["Content-Type"]) == (200, "application/json")
        found = json.loads(content)
        np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-5)
        assert np.array_equal(unpacked(found["input"]), pixels)
        cam = xcnn.explain.grad_cam(classifier.model, x, target=3)
        assert found["cam"]["class"] == 3
        scaled = 255 * cam / cam.max() if cam.max() else cam
        np.testing.assert_allclose(unpacked(found["cam"]), scaled, atol=1)
        stages = xcnn.explain.feature_maps(classifier.model, x, "stages")
        assert [maps["path"] for maps in found["maps"]] == list(stages)
        for maps, values in zip(found["maps"], stages.values(), strict=True):
            assert (maps["channels"], *maps["size"]) == values.shape[1:]
            np.testing.assert_allclose(unpacked(maps), 255 * values[0] / values.max(), atol=1)


def test_what_the_page_must_know(server):
    status, _, content = ask(server, "GET", "/network")
    found = json.loads(content)
    assert (status, found["shape"], found["stroke"]) == (200, [1, 32, 32], 0.18)
    assert found["classes"] == list("0123456789")


REFUSED = {
    "no such page": (404, "GET", "/secret", None, {}),
    "a file of the package": (404, "GET", "/server.py", None, {}),
    "outside the package": (404, "GET", "/../../etc/passwd", None, {}),
    "GET of a prediction": (405, "GET", "/predict", None, {}),
    "POST to the page": (405, "POST", "/", b"x", {}),
    "an unknown method": (405, "BREW", "/", None, {}),
    "no picture": (400, "POST", "/predict", b"", {}),
    "not a picture": (400, "POST", "/predict", b"hello", {}),
    "half a picture": (400, "POST", "/predict", png(picture())[:400], {}),
    "an unknown setting": (400, "POST", "/predict?a=1", b"x", {}),
    "a broken query": (400, "POST", "/predict?&&=", b"x", {}),
    "no such class": (400, "POST", "/predict?class=10", b"x", {}),
    "not a number": (400, "POST", "/predict?class=-1", b"x", {}),
    "a length that is none": (400, "POST", "/predict", b"", {"Content_Length": "-5"}),
    "no length": (411, "POST", "/predict", None, {}),
    "chunks": (411, "POST", "/predict", None, {"Transfer_Encoding": "chunked"}),
    "another name": (403, "GET", "/", None, {"Host": "evil.example"}),
    "another port": (403, "GET", "/", None, {"Host": "127.0.0.1:1"}),
    "a broken name": (403, "GET", "/", None, {"Host": "[::1:x"}),
    "no name": (400, "GET", "/", None, {"Host": None}),
    "another page": (403, "POST", "/predict", b"x", {"Origin": "http://evil.example"}),
    "an unknown page": (403, "POST", "/predict", b"x", {"Origin": "null"}),
    "too much": (413, "POST", "/predict", b"x" * 100, {"Content_Length": str(10**9)}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(server, monkeypatch, case):
    """One line of text, and the server goes on."""
    status, method, path, body, headers = REFUSED[case]
    with monkeypatch.context() as patched:
        if case == "too much":  # the server waits for some of the rest
            patched.setattr(module, "_PATIENCE", 0.5)
        found, answer, content = ask(server, method, path, body, **headers)
    assert found == status
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert content.count(b"\n") == 1
    assert len(content) < 300
    assert ("Allow" in answer) == (status == 405)
    assert ask(server, "POST", "/predict", png(picture()))[0] == 200


def test_malformed_requests(server, monkeypatch):
    assert b" 400 " in raw(server, b"NONSENSE\r\n\r\n").splitlines()[0] + b" "
    assert b" 400 " in raw(server, b"GET http://[/ HTTP/1.1\r\n\r\n").splitlines()[0]
    assert b" 400 " in raw(server, b"GET / HTTP/x.y\r\n\r\n").splitlines()[0]
    assert b" 414 " in raw(server, b"GET /" + b"a" * 70000).splitlines()[0]
    assert b" 431 " in raw(server, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n")
    host = b"Host: 127.0.0.1:%d\r\n" % server.port
    assert b" 400 " in raw(server, b"GET / HTTP/1.1\r\n" + 2 * host + b"\r\n").splitlines()[0]
    start = b"POST /predict HTTP/1.1\r\n" + host + b"Content-Length: 50\r\n\r\nshort"
    assert b"shorter than its Content-Length" in raw(server, start)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_PATIENCE", 0.2)
        for slow in (start, start[:30], b"G"):  # the server waits for the rest
            assert b" 408 " in raw(server, slow, finish=False).splitlines()[0]
    for name in (b"evil@127.0.0.1:%d", b"127.0.0.1:%d/evil", b"127.0.0.1:%d?a", b" 127.0.0.1:0%d0"):
        start = b"GET / HTTP/1.1\r\nHost: " + name % server.port + b"\r\n\r\n"
        assert b" 403 " in raw(server, start).splitlines()[0], name
    origin = b"Origin: http://127.0.0.1:%d\r\n" % server.port
    for times, status in ((1, b" 200 "), (2, b" 403 ")):
        start = b"GET / HTTP/1.1\r\n" + host + times * origin + b"\r\n"
        assert status in raw(server, start).splitlines()[0]
    raw(server, b"")  # a client that says nothing, and goes
    assert ask(server, "GET", "/network")[0] == 200


def test_a_large_picture_is_refused_after_it_was_sent(server, monkeypatch):
    """The client reads the answer although it sends first."""
    monkeypatch.setattr(module, "MAX_BODY", 2**20)
    status, _, content = ask(server, "POST", "/predict", bytes(2**20 + 2**19))
    assert (status, content) == (413, b"a picture may have at most 1 MiB\n")


def test_an_error_in_a_prediction(classifier, capfd):
    class Broken(nn.Module):
        fails = True

        def forward(self, x):
            if self.fails:
                raise RuntimeError("secret details")
            return xcnn.zeros(len(x), 10) * float("nan")

    model = Broken()
    broken = demo.Classifier(model, (1, 32, 32), classifier.classes)
    with running(broken) as server:
        status, _, content = ask(server, "POST", "/predict", png(picture()))
        assert (status, content) == (500, b"the prediction failed: RuntimeError\n")
        assert "RuntimeError: secret details" in capfd.readouterr().err
        model.fails = False
        status, _, content = ask(server, "POST", "/predict", png(picture()))
        assert (status, b"not finite" in content) == (500, True)
        assert ask(server, "GET", "/")[0] == 200


def test_a_picture_of_too_many_pixels(server, monkeypatch):
    """Refused without a warning, which pytest would raise."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)
    status, _, content = ask(server, "POST", "/predict", png(picture()))
    assert (status, b"2000 pixels, more than" in content) == (400, True)


def test_one_prediction_at_a_time():
    class Counting(nn.Module):
        inside = most = 0

        def forward(self, x):
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.02)
            self.inside -= 1
            return xcnn.zeros(len(x), 2)

    model = Counting()
    with running(demo.Classifier(model, (3, 8, 8), ["a", "b"])) as server:
        results = []
        body = png(picture())
        threads = [
            threading.Thread(target=lambda: results.append(ask(server, "POST", "/predict", body)))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [status for status, *_ in results] == [200] * 6
    assert model.most == 1


def test_too_many_connections(classifier, monkeypatch):
    monkeypatch.setattr(module, "_CONNECTIONS", 2)
    with running(classifier) as server, contextlib.ExitStack() as stack:
        address = "127.0.0.1", server.port
        for _ in range(2):
            stack.enter_context(socket.create_connection(address)).sendall(b"GET")
        extra = stack.enter_context(socket.create_connection(address, timeout=5))
        answer = b"".join(iter(lambda: extra.recv(1000), b""))  # and closed at once
        assert answer.startswith(b"HTTP/1.0 503 ")
        assert answer.endswith(b"too many connections\n")
        stack.close()
        for _ in range(100):  # until the others have ended
            with contextlib.suppress(OSError, http.client.HTTPException):
                if ask(server, "GET", "/network")[0] == 200:
                    return
            time.sleep(0.02)
        pytest.fail("the server does not answer any more")


def test_tokens(classifier):
    """Any address but this machine's own has one; the page itself contains no secret."""
    with running(classifier, host="0.0.0.0") as server:
        token = server.url.partition("/#token=")[2]
        assert len(token) == 32
        printed = urllib.parse.urlsplit(server.url)
        with socket.create_connection((printed.hostname, printed.port), timeout=10):
            assert printed.hostname not in ("0.0.0.0", "127.0.0.1")
        machine = socket.gethostname().lower()
        good = [printed.hostname, machine, f"{machine}.local", "localhost", "127.0.0.1", "[::1]"]
        for name in (*good, f"{machine}.evil.example", f"x{machine}", "127.0.0.1.evil.example"):
            status = ask(server, "GET", "/", Host=f"{name}:{server.port}")[0]
            assert status == (200 if name in good else 403), name
        assert ask(server, "GET", "/")[0] == 200
        assert token.encode() not in b"".join(ask(server, "GET", p)[2] for p in ("/", "/demo.js"))
        for wrong in ({}, {"X_Token": "x"}, {"X_Token": token[:-1]}, {"X_Token": "ü"}):
            assert ask(server, "GET", "/network", **wrong)[0] == 403
            assert ask(server, "POST", "/predict", png(picture()), **wrong)[0] == 403
        assert ask(server, "GET", "/network", X_Token=token)[0] == 200
        assert ask(server, "GET", f"/network?token={token}")[0] == 403
        assert ask(server, "GET", "/", Host=f"evil.example:{server.port}")[0] == 403
        with pytest.raises(OSError, match=f"port {server.port}: .*; choose another port"):
            demo.Server(classifier, port=server.port, host="0.0.0.0")
    with running(classifier, token="abc1") as server:
        assert server.url.endswith("/#token=abc1")
        assert ask(server, "GET", "/network", X_Token="abc2")[0] == 403
        local = {"Host": f"localhost:{server.port}", "X_Token": "abc1"}
        assert ask(server, "GET", "/network", **local)[0] == 200
    with pytest.raises(ArgumentError, match="host=''"):
        demo.Server(classifier, host="")
    for wrong in ("", "a b", "#"):
        with pytest.raises(ArgumentError, match="ASCII letters and digits"):
            demo.Server(classifier, token=wrong)


def test_wrong_classifiers(classifier):
    with pytest.raises(ArgumentError, match="1 or 3 channels"):
        demo.Classifier(classifier.model, (2, 8, 8), ["a"])
    with pytest.raises(ArgumentError, match="expected an xcnn"):
        demo.Server(classifier.model)


# -- in the browser ------------------------------------------------------------------------------

STROKES = {
    "0": [[(0.5, 0.1), (0.3, 0.2), (0.22, 0.5), (0.3, 0.8), (0.5, 0.9), (0.7, 0.8), (0.78, 0.5)]],
    "1": [[(0.35, 0.3), (0.55, 0.1), (0.55, 0.9)]],
    "3": [[(0.27, 0.15), (0.5, 0.1), (0.7, 0.2), (0.68, 0.38), (0.45, 0.48), (0.7, 0.58)]],
    "4": [[(0.6, 0.1), (0.25, 0.6), (0.8, 0.6)], [(0.65, 0.38), (0.65, 0.9)]],
    "7": [[(0.25, 0.12), (0.75, 0.12), (0.55, 0.5), (0.42, 0.9)]],
}
STROKES["0"][0] += [(0.7, 0.2), (0.5, 0.1)]
STROKES["3"][0] += [(0.74, 0.75), (0.55, 0.9), (0.27, 0.86)]


@pytest.fixture
def open_page(visit):
    """``open_page(server, ...)``: its page, once it knows the network."""

    def call(server, **settings):
        page = visit(server.url, **settings)
        until(page, "document.title.includes(': xcnn demo')")
        return page

    return call


def draw(page, strokes):
    box = page.locator("#picture").bounding_box()
    for first, *rest in strokes:
        for x, y in (first, *rest):
            place = box["x"] + x * box["width"], box["y"] + y * box["height"]
            page.mouse.move(*place, steps=1 if (x, y) == first else 4)
            page.mouse.down()
        page.mouse.up()


def settled(page):
    """Wait until the page shows the answer for what it shows."""
    until(page, "!sending && answered === asked")


def until(page, condition):
    """Wait for a condition; playwright's own wait evaluates text, which the page's CSP forbids."""
    for _ in range(2000):
        if page.evaluate(condition):
            return
        time.sleep(0.01)
    pytest.fail(f"in vain: {condition}")


def table(page):
    """Percentages by class."""
    rows = page.locator("#probabilities tbody tr").all_inner_texts()
    return {name: float(p.removesuffix(" %")) for name, p in (row.split(None, 1) for row in rows)}


def test_digits_are_recognised_while_they_are_drawn(server, open_page):
    page = open_page(server)
    assert page.inner_text("h1") == "digits"
    found = {}
    for digit, strokes in STROKES.items():
        page.click("#clear")
        assert page.inner_text("#result") == "No picture yet."
        draw(page, strokes)
        settled(page)
        found[digit] = page.inner_text("#result")[0]
    assert found == {digit: digit for digit in STROKES}
    shown = table(page)
    assert list(shown) == list("0123456789")
    assert sum(shown.values()) == pytest.approx(100, abs=0.5)
    assert max(shown, key=shown.get) == "7"
    labels = [page.locator("#stages canvas").nth(n).get_attribute("aria-label") for n in range(4)]
    assert labels[0] == "act1: 6 maps of 28×28"
    assert labels[3] == "pool2: 16 maps of 5×5"
    # one more stroke changes the maps
    before = page.evaluate("document.querySelector('#stages canvas').toDataURL()")
    draw(page, [[(0.1, 0.9), (0.9, 0.9)]])
    settled(page)
    assert page.evaluate("document.querySelector('#stages canvas').toDataURL()") != before
    # Grad-CAM on request
    before = page.evaluate("byId('input').toDataURL()")
    page.check("#cam")
    page.select_option("#class", "4")
    settled(page)
    assert page.evaluate("byId('input').toDataURL()") != before
    assert page.get_attribute("#input", "aria-label").endswith("with Grad-CAM of 4")


DROP = """([content, kind]) => {
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], "a.png", {type: "image/png"}));
    const event = kind === "drop" ? new DragEvent(kind, {dataTransfer: data, cancelable: true})
                                  : new ClipboardEvent(kind, {clipboardData: data});
    window.dispatchEvent(event);
}"""


def test_files_are_dropped_pasted_and_chosen_by_keyboard(server, classifier, digits, open_page):
    page = open_page(server)
    x = digits.test.arrays[0][:3, 0]
    trainer = xcnn.Trainer(classifier.model, loss="cross_entropy")
    expected = trainer.predict(classifier.normalize(x[:, None])) * 100
    for kind, pixels, chances in zip(("drop", "paste", "file"), x, expected, strict=True):
        content = png(pixels)
        if kind == "file":
            file = {"name": "a.png", "mimeType": "image/png", "buffer": content}
            page.set_input_files("#file", file)
        else:
            page.evaluate(DROP, [base64.b64encode(content).decode(), kind])
        settled(page)
        np.testing.assert_allclose(list(table(page).values()), chances, atol=0.051)
    # without a mouse: the controls in the order of the tab key
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached[1:] == ["clear", "predict", "file", "stroke", "invert", "cam", "class", ""]
    page.focus("#predict")
    page.evaluate("byId('result').textContent = ''")
    page.keyboard.press("Enter")
    settled(page)
    assert page.inner_text("#result")[0] == str(expected[2].argmax())
    page.focus("#invert")
    page.keyboard.press("Space")
    settled(page)
    assert abs(table(page)[str(expected[2].argmax())] - expected[2].max()) > 0.1
    page.focus("#clear")
    page.keyboard.press("Enter")
    assert table(page) == {}
    assert page.get_attribute("#picture", "aria-label") == "Empty picture"


def test_a_network_for_colour_pictures(open_page):
    """Nothing can be drawn; of many classes, the ten most probable are shown; names are text."""
    names = [f"<b>class {n}</b>" for n in range(30)]
    model = xcnn.models.small_cnn(num_classes=30, input_shape=(3, 16, 16))
    with running(demo.Classifier(model, (3, 16, 16), names, name="<i>x</i>")) as server:
        page = open_page(server)
        assert page.inner_text("h1") == "<i>x</i>"
        assert page.inner_text("#about") == "30 classes, colour pictures of 16×16"
        assert not page.is_visible("#stroke")
        draw(page, STROKES["1"])
        assert page.inner_text("#result") == "No picture yet."
        body = picture(shape=(20, 30, 3))
        page.set_input_files(
            "#file", {"name": "a.png", "mimeType": "image/png", "buffer": png(body)}
        )
        settled(page)
        resized = np.asarray(Image.fromarray(body).resize((16, 16), Image.Resampling.BILINEAR))
        x = np.moveaxis(resized, 2, 0)[None].astype("float32") / 255
        chances = xcnn.Trainer(model, loss="cross_entropy").predict(x)[0]
        assert page.inner_text("#result").startswith(f"<b>class {chances.argmax()}</b> (")
        assert page.locator("#probabilities tbody tr").count() == 10
        heights = (
            "[...document.querySelectorAll('#probabilities tbody tr')].map(r => r.clientHeight)"
        )
        assert max(page.evaluate(heights)) < 40  # a name stays on its line
        pixels = page.evaluate(
            "[...byId('input').getContext('2d').getImageData(0, 0, 16, 16).data]"
        )
        assert np.array_equal(np.reshape(pixels, (16, 16, 4))[..., :3], resized)


def test_narrow_dark_and_with_touch(server, open_page):
    light = open_page(server, viewport={"width": 1400, "height": 900}, color_scheme="light")
    settings = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
    page = open_page(server, **settings, color_scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    assert light.evaluate(colour) != page.evaluate(colour)
    box = page.locator("#picture").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    settled(page)
    assert page.locator("#probabilities tbody tr").count() == 10
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_token_leaves_the_address(classifier, open_page, browser):
    with running(classifier, token="abc") as server:
        page = open_page(server)
        assert page.url == f"http://127.0.0.1:{server.port}/"
        page.reload()
        until(page, "document.title.includes(': xcnn demo')")
        context = browser.new_context()
        stranger = context.new_page()
        stranger.goto(page.url)
        stranger.wait_for_selector("#result.error")
        assert "open the address that xcnn demo printed" in stranger.inner_text("#result")
        context.close()
