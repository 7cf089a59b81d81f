"""How long clusters and map of many recordings take, and how smoothly a browser draws them.

Random embeddings in twelve groups stand for recordings: the work depends on their number only. The
browser is Chromium without a window, which draws by software: a laptop's GPU is many times faster.
Prints lines of the table in `benchmarks/results/atlas.md`.

    python -m benchmarks.atlas [--recordings 100000] [--dim 1024] [--skip-map]
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotion2vec_ui.lab import clusters, layout
from emotion2vec_ui.lab.reduction import reduced

SCRIPT = Path(__file__).parents[1] / "emotion2vec_ui" / "page" / "assets" / "map.js"
GROUPS = 12
FRAMES = 120

STAGE = """<!doctype html><style>body{margin:0} #stage{position:relative;width:1190px;height:540px}
canvas{position:absolute;inset:0;width:100%;height:100%}</style>
<div id="stage"><canvas></canvas><canvas></canvas></div>"""

MEASURE = """async ([count, frames]) => {
  const stage = document.getElementById("stage");
  const map = createMap(stage, { point() {}, press() {}, lasso() {} });
  const gl = document.querySelector("canvas").getContext("webgl2");
  const info = gl.getExtension("WEBGL_debug_renderer_info");
  const random = () => Float32Array.from({ length: count }, () => 2 * Math.random() - 1);
  map.setPlaces(random(), random());
  map.setColours(Uint8Array.from({ length: 4 * count }, () => 255 * Math.random()));
  const measured = async (frames, prepare) => {
    const times = [];
    let share = 1;
    for (let frame = 0; frame < frames; frame++) {
      await new Promise(requestAnimationFrame);
      await prepare(frame);
      const before = performance.now();
      share = map.drawNow();
      times.push(performance.now() - before);
    }
    times.sort((a, b) => a - b);
    return { median_ms: times[frames >> 1], p95_ms: times[Math.floor(frames * 0.95)], share };
  };
  const still = await measured(10, () => new Promise((done) => setTimeout(done, 250)));
  const zoom = (frame) => map.zoomBy(frame % 40 < 20 ? 1.05 : 1 / 1.05);
  await measured(40, zoom);  // until it has found how many points the machine can draw
  const moving = await measured(frames, zoom);
  return { renderer: gl.getParameter(info.UNMASKED_RENDERER_WEBGL), still, moving };
}"""


def embeddings(count: int, dim: int) -> NDArray[np.float16]:
    """Random directions in groups: float16 (count, dim)."""
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(GROUPS, dim)).astype(np.float32)
    made = np.empty((count, dim), np.float16)
    for start in range(0, count, 10_000):
        group = rng.integers(0, GROUPS, min(10_000, count - start))
        noise = rng.normal(scale=1.5, size=(len(group), dim))
        made[start : start + len(group)] = middles[group] + noise
    return made


def timed(what: str, work: Callable[[], object]) -> None:
    """Prints a line with the seconds that the work took."""
    begun = time.perf_counter()
    work()
    print(f"| {what} | {time.perf_counter() - begun:.1f} s |", flush=True)


@dataclass(frozen=True)
class Frames:
    """How long frames took, in ms, and which share of the points the last one had."""

    median_ms: float
    p95_ms: float
    share: float


def drawing(count: int) -> tuple[str, Frames, Frames]:
    """The renderer, frames at rest and frames while the map is zoomed."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_content(STAGE)
        page.add_script_tag(content=SCRIPT.read_text(encoding="utf-8"))
        found = page.evaluate(MEASURE, [count, FRAMES])
        browser.close()
    return found["renderer"], Frames(**found["still"]), Frames(**found["moving"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--skip-map", action="store_true", help="leave out the places: minutes")
    options = parser.parse_args()
    count = options.recordings
    print(f"| {count:,} recordings, {options.dim} dimensions | |\n|---|---|")
    renderer, still, moving = drawing(count)
    print(f"| drawn by | {renderer} |")
    for what, one in (("all points, at rest", still), ("while it is zoomed", moving)):
        figures = f"{one.median_ms:.1f} ms, {one.p95_ms:.1f} ms"
        print(f"| a frame, {what} ({one.share:.0%}): median, 95 % | {figures} |", flush=True)
    vectors = embeddings(count, options.dim)
    timed("principal components", lambda: reduced(vectors))
    points = reduced(vectors)
    timed("clusters, kmeans, best of 2 to 12", lambda: clusters.find(points))
    timed("clusters, hdbscan", lambda: clusters.find(points, method="hdbscan"))
    if options.skip_map:
        return
    nowhere = np.full((count, 2), np.nan, np.float32)
    places = nowhere

    def place() -> None:
        nonlocal places
        places = layout.place(points, nowhere)

    timed(f"places on the map ({layout.method()})", place)
    known = places.copy()
    known[:100] = np.nan
    timed("places of 100 new recordings", lambda: layout.place(points, known))


if __name__ == "__main__":
    main()
