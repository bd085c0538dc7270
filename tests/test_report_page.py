def test_smoke(visit):
    page = visit("data:text/html,<h1>hi</h1>")
    assert page.inner_text("h1") == "hi"
