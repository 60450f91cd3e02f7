"""A headless Chromium that opens packages, as a phone would show them."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHROMIUM = shutil.which("chromium")
ONNXRUNTIME_WEB = Path(os.environ.get("RNN_EDGE_EMULATORS", "/nowhere")) / "web/node_modules/onnxruntime-web"


class Files(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder's files on this machine; yield the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


PHONE = {"viewport": {"width": 390, "height": 700}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}


@contextmanager
def phones(count: int, **changes: object):
    """Yield browser contexts of a phone's size, but for the changes, each in a browser of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = [playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) for _ in range(count)]
        yield [browser.new_context(**{**PHONE, **changes}) for browser in launched]
        for browser in launched:
            browser.close()


@contextmanager
def phone(**changes: object):
    """Yield one such context."""
    with phones(1, **changes) as (only,):
        yield only
