"""What a real browser shows of the page."""

import base64
import json
import shutil
import subprocess
import urllib.request

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
viser = pytest.importorskip('viser', reason='the viewer needs the extra `viewer` (viser)')
from viewer_graph import wait_for
from websockets.sync.client import connect

PATIENCE = 120.0  # seconds: a browser that draws 3-D without a GPU on a busy machine

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome',
                                                'google-chrome-stable'))), None)


class Browser:
    """Headless Chromium, driven over its DevTools protocol."""

    def __init__(self, folder, url, width=1000, height=700):
        self._count, self.requested = 0, []
        self._process = subprocess.Popen(
            [CHROMIUM, '--headless=new', '--no-sandbox', '--use-angle=swiftshader',
             '--enable-unsafe-swiftshader', '--disable-dev-shm-usage', '--no-first-run',
             f'--user-data-dir={folder}', '--remote-debugging-port=0', 'about:blank'],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._connection = None
        try:
            said = folder / 'DevToolsActivePort'
            port = wait_for(lambda: said.exists() and said.read_text().split()[:1], PATIENCE)[0]
            (target,) = [
                target for target in json.load(urllib.request.urlopen(
                    f'http://127.0.0.1:{port}/json/list', timeout=PATIENCE))
                if target['type'] == 'page']
            self._connection = connect(target['webSocketDebuggerUrl'], max_size=None)
            self('Network.enable')
            self('Emulation.setDeviceMetricsOverride', width=width, height=height,
                 deviceScaleFactor=1, mobile=False)
            self('Page.navigate', url=url)
        except BaseException:
            self.close()
            raise

    def __call__(self, method, **parameters):
        self._count += 1
        self._connection.send(json.dumps(
            {'id': self._count, 'method': method, 'params': parameters}))
        while True:
            answer = json.loads(self._connection.recv(timeout=PATIENCE))
            if answer.get('method') == 'Network.requestWillBeSent':
                self.requested.append(answer['params']['request']['url'])
            if answer.get('id') == self._count:
                return answer['result']

    def evaluate(self, script):
        return self('Runtime.evaluate', expression=script, returnByValue=True)['result'].get(
            'value')

    def screenshot(self):
        """uint8 H×W×3 RGB."""
        png = base64.b64decode(self('Page.captureScreenshot', format='png')['data'])
        return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), 1), cv2.COLOR_BGR2RGB)

    def hover(self, x, y):
        self('Input.dispatchMouseEvent', type='mouseMoved', x=x, y=y)

    def close(self):
        if self._connection:
            self._connection.close()
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def browser(graph, tmp_path):
    if not CHROMIUM:
        pytest.skip('needs Chromium; on Debian and Ubuntu: apt install chromium')
    browser = Browser(tmp_path, graph.page.url)
    yield browser
    browser.close()


def test_browser_shows_a_live_picture_depth_and_cloud(graph, browser):
    def box(selector):
        """Left, top, right, bottom on the page, or None where there is no such picture yet."""
        return browser.evaluate(
            f"(() => {{ const found = document.querySelector('{selector}'); if (!found) return;"
            ' const box = found.getBoundingClientRect(); if (box.height < 20) return;'
            ' return [box.left, box.top, box.right, box.bottom].map(Math.round); })()')

    def shows(selector, colour, part):
        """Whether that part of an element is red (0) or green (1)."""
        left, top, right, bottom = box(selector) or (0, 0, 0, 0)
        pixels = browser.screenshot()[top:bottom, left:right].astype(int)
        return pixels.size and np.mean(
            (pixels[..., colour] > 150) & (pixels[..., 1 - colour] < 60)) > part

    assert wait_for(lambda: box('#depth img'), PATIENCE)
    for colour, rgb in ((0, (255, 0, 0)), (1, (0, 255, 0))):
        graph.colour = rgb
        # an image of a blob is the camera's picture, the canvas holds the cloud
        assert wait_for(lambda colour=colour: shows('img[src^=blob]', colour, 0.9), PATIENCE)
        assert wait_for(lambda colour=colour: shows('canvas', colour, 0.1), PATIENCE)

    for part, said in ((0.25, '1.25 m'), (0.75, '3.00 m')):
        left, top, right, bottom = box('#depth')
        browser.hover(left + part * (right - left), (top + bottom) // 2)
        assert wait_for(lambda said=said: browser.evaluate(
            "document.getElementById('metres').innerText") == said)
    text = browser.evaluate('document.body.innerText')
    assert '/depth/points: ' in text and 'latency: ' in text
    elsewhere = [url for url in browser.requested
                 if not url.startswith((graph.page.url, f'blob:{graph.page.url}', 'data:'))]
    assert not elsewhere
