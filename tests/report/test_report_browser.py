"""The page in a real browser: it plays, sorts, and asks for nothing."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_page_works_without_a_network(browser: Any, written: Path, colours: str) -> None:
    page = browser.new_page(color_scheme=colours, viewport={"width": 400, "height": 900})
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((written / "report.html").as_uri())
    page.locator("#clips video").first.scroll_into_view_if_needed()
    page.wait_for_function("[...document.querySelectorAll('video')].every(video => video.currentTime > 0)")
    assert page.evaluate("[...document.querySelectorAll('video')].map(video => video.videoWidth)") == [452] * 3
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert [url for url in asked if url.startswith("file")] == [(written / "report.html").as_uri()]
    assert complaints == []  # a policy that does not allow its own style or script would complain
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # wide things scroll by themselves
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(15, 19, 24)"}[colours]

    page.get_by_role("button", name="Pause the clips").click()
    assert page.evaluate("[...document.querySelectorAll('video')].every(video => video.paused)")
    heading = page.locator("#per-class thead th").nth(2)
    for way in ("ascending", "descending"):
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == way
        recalls = [
            float(each.rstrip("%")) for each in page.locator("#per-class tbody td:nth-child(3)").all_inner_texts()
        ]
        assert recalls == sorted(recalls, reverse=way == "descending") and len(recalls) == 6
    page.close()


def test_its_policy_keeps_it_from_asking(browser: Any, written: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        page = browser.new_page()
        page.goto((written / "report.html").as_uri())
        refused = page.evaluate(
            """async (port) => {
                const broken = [];
                addEventListener("securitypolicyviolation", (event) => broken.push(event.effectiveDirective));
                await fetch(`http://127.0.0.1:${port}/`).catch(() => {});
                const image = document.body.appendChild(new Image());
                image.src = `http://127.0.0.1:${port}/x.png`;
                const script = document.createElement("script");
                script.textContent = "window.ran = true";
                document.body.append(script);
                await new Promise((done) => setTimeout(done, 300));
                return [broken.sort(), window.ran ?? false];
            }""",
            server.getsockname()[1],
        )
        assert refused == [["connect-src", "img-src", "script-src-elem"], False]
        with pytest.raises(BlockingIOError):  # nobody came
            server.accept()
        page.close()
