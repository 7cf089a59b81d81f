/* Points in two dimensions, drawn by WebGL 2: moved, zoomed, pointed at and circled with a lasso.
   Knows nothing of recordings. `createMap` is used by lab.js, which stands below this in one script. */

const VERTEX = `#version 300 es
in vec2 place;
in vec4 colour;
uniform vec2 scale, shift;
uniform float size;
out vec4 shade;
void main() {
  gl_Position = vec4(place * scale + shift, 0.0, 1.0);
  gl_PointSize = size;
  shade = colour;
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec4 shade;
uniform float alpha, size;
out vec4 pixel;
void main() {
  float far = length(gl_PointCoord - 0.5) * size;
  float cover = alpha * clamp(size * 0.5 - far, 0.0, 1.0);
  pixel = vec4(shade.rgb * cover, cover);
}`;

/* --- which point is near: cells of equal size with about four points each -------------------------- */

const gridOf = (x, y) => {
  const n = x.length;
  const side = Math.max(1, Math.ceil(Math.sqrt(n / 4)));
  const column = (value) => Math.min(side - 1, Math.max(0, Math.floor(((value + 1.1) / 2.2) * side)));
  const starts = new Uint32Array(side * side + 1);
  const cell = new Uint32Array(n);
  for (let i = 0; i < n; i++) {
    cell[i] = column(y[i]) * side + column(x[i]);
    starts[cell[i] + 1]++;
  }
  for (let i = 0; i < side * side; i++) starts[i + 1] += starts[i];
  const free = starts.slice();
  const order = new Uint32Array(n);
  for (let i = 0; i < n; i++) order[free[cell[i]]++] = i;

  /* The point nearest to (px, py) within the distance, or -1. */
  return (px, py, distance) => {
    let best = -1, least = distance * distance;
    for (let row = column(py - distance); row <= column(py + distance); row++) {
      const from = starts[row * side + column(px - distance)];
      const to = starts[row * side + column(px + distance) + 1];
      for (let at = from; at < to; at++) {
        const i = order[at];
        const far = (x[i] - px) ** 2 + (y[i] - py) ** 2;
        if (far <= least) { least = far; best = i; }
      }
    }
    return best;
  };
};

const isInside = (px, py, corners) => {
  let inside = false;
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
    const [xi, yi] = corners[i], [xj, yj] = corners[j];
    if ((yi > py) !== (yj > py) && px < ((xj - xi) * (py - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
};

/* --- the drawing ------------------------------------------------------------------------------------ */

/* What WebGL needs for one canvas; null where there is none. */
const programOf = (canvas) => {
  const gl = canvas.getContext("webgl2", { alpha: true, antialias: false, depth: false });
  if (!gl) return null;
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return null;
  gl.useProgram(program);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  const uniform = Object.fromEntries(
    ["scale", "shift", "size", "alpha"].map((name) => [name, gl.getUniformLocation(program, name)]));
  const buffers = Object.fromEntries(
    ["place", "colour", "order", "chosen"].map((name) => [name, gl.createBuffer()]));
  const attribute = (name, type, width, normalised) => {
    const at = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, width, type, normalised, 0, 0);
  };
  attribute("place", gl.FLOAT, 2, false);
  attribute("colour", gl.UNSIGNED_BYTE, 4, true);
  return { gl, uniform, buffers };
};

const MAX_ZOOM = 400;
const REACH_PX = 14;  // a point this far from the pointer is meant
const MARGIN = 0.94;  // all points fill this much of the canvas
const SLOW_MS = 34, QUICK_MS = 20;  // between two frames: 30 and 50 a second
const REST_MS = 160;  // after the last move all points are drawn again
const LEAST = 3000;  // points drawn while it moves, however slow the machine

/* 0 to n - 1 in any order, the same each time: its first part then stands for all. */
const shuffled = (n) => {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  let state = 1;
  for (let i = n - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;  // Numerical Recipes
    const j = state % (i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
};

/* A map on a stage with two canvases: points, and lines over them.

   `heard` is told: point(i, x, y) what is pointed at (-1: nothing) and where, press(i) what is
   clicked, lasso(indices) what was circled. Returns null without WebGL 2. */
const createMap = (stage, heard) => {
  const [canvas, lines] = stage.querySelectorAll("canvas");
  const pen = lines.getContext("2d");
  let drawing = programOf(canvas);
  if (!drawing) return null;
  let places = new Float32Array(0), colours = new Uint8Array(0), chosen = new Uint32Array(0);
  let x = [], y = [], nearest = () => -1;
  let halfX = 1, halfY = 1;  // the points lie within this far of the middle
  let zoom = 1, centreX = 0, centreY = 0;
  let mode = "move", marked = -1, loop = null, due = 0;
  let order = new Uint32Array(0), share = 1, movedAt = -REST_MS, drawnAt = 0, rest = 0;

  /* How many points to draw: while it moves, as many as the machine can at 30 frames a second. */
  const affordable = () => {
    const now = performance.now(), between = now - drawnAt;
    drawnAt = now;
    if (now - movedAt > REST_MS) return order.length;
    if (between > SLOW_MS && between < 10 * REST_MS) share *= Math.max(0.3, SLOW_MS / between);
    else if (between < QUICK_MS) share = Math.min(1, share * 1.2);
    const count = Math.min(order.length, Math.max(LEAST, Math.round(share * order.length)));
    clearTimeout(rest);
    if (count < order.length) rest = setTimeout(soon, REST_MS + 10);
    return count;
  };

  /* Pixels of the page for a unit of the map. */
  const unit = () =>
    Math.min(stage.clientWidth / halfX, stage.clientHeight / halfY) * (MARGIN / 2) * zoom;
  const toMap = (px, py) => [
    centreX + (px - stage.clientWidth / 2) / unit(), centreY - (py - stage.clientHeight / 2) / unit(),
  ];
  const toStage = (mx, my) => [
    stage.clientWidth / 2 + (mx - centreX) * unit(), stage.clientHeight / 2 - (my - centreY) * unit(),
  ];
  /* Few points are large, many small; all grow a little when one looks closer. */
  const diameter = () => {
    const area = (stage.clientWidth * stage.clientHeight) / Math.max(1, x.length);
    return Math.min(22, Math.max(2.6, Math.min(10, 0.33 * Math.sqrt(area))) * zoom ** 0.35);
  };

  const draw = () => {
    due = 0;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(stage.clientWidth * ratio), height = Math.round(stage.clientHeight * ratio);
    if (!width || !height) return;
    for (const one of [canvas, lines]) {
      if (one.width !== width || one.height !== height) { one.width = width; one.height = height; }
    }
    const { gl, uniform, buffers } = drawing;
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const scaleX = (2 * unit()) / stage.clientWidth, scaleY = (2 * unit()) / stage.clientHeight;
    gl.uniform2f(uniform.scale, scaleX, scaleY);
    gl.uniform2f(uniform.shift, -centreX * scaleX, -centreY * scaleY);
    gl.uniform1f(uniform.size, diameter() * ratio);
    gl.uniform1f(uniform.alpha, chosen.length ? 0.16 : 0.85);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffers.order);
    gl.drawElements(gl.POINTS, affordable(), gl.UNSIGNED_INT, 0);
    if (chosen.length) {
      gl.uniform1f(uniform.alpha, 0.95);
      gl.uniform1f(uniform.size, (diameter() + 2) * ratio);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffers.chosen);
      gl.drawElements(gl.POINTS, chosen.length, gl.UNSIGNED_INT, 0);
    }
    drawLines(ratio);
  };

  const drawLines = (ratio) => {
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, lines.width, lines.height);
    const style = getComputedStyle(stage);
    pen.strokeStyle = style.color;
    pen.lineWidth = 2;
    if (marked >= 0) {
      const [px, py] = toStage(x[marked], y[marked]);
      pen.beginPath();
      pen.arc(px, py, diameter() / 2 + 4, 0, 2 * Math.PI);
      pen.stroke();
    }
    if (!loop) return;
    pen.beginPath();
    for (const [mx, my] of loop) pen.lineTo(...toStage(mx, my));
    pen.closePath();
    pen.setLineDash([6, 4]);
    pen.stroke();
    pen.setLineDash([]);
    pen.globalAlpha = 0.08;
    pen.fillStyle = style.color;
    pen.fill();
    pen.globalAlpha = 1;
  };

  const soon = () => { due ||= requestAnimationFrame(draw); };

  const upload = () => {
    const { gl, buffers } = drawing;
    const fill = (target, buffer, data) => {
      gl.bindBuffer(target, buffer);
      gl.bufferData(target, data, gl.STATIC_DRAW);
    };
    fill(gl.ARRAY_BUFFER, buffers.place, places);
    fill(gl.ARRAY_BUFFER, buffers.colour, colours);
    fill(gl.ELEMENT_ARRAY_BUFFER, buffers.order, order);
    fill(gl.ELEMENT_ARRAY_BUFFER, buffers.chosen, chosen);
    soon();
  };

  const zoomAt = (factor, px, py) => {
    const [mx, my] = toMap(px, py);
    zoom = Math.min(MAX_ZOOM, Math.max(1, zoom * factor));
    const [nx, ny] = toMap(px, py);
    move(mx - nx, my - ny);
  };

  const move = (dx, dy) => {
    // The middle stays among the points; at the smallest zoom all are in view.
    const within = (at, half) => (zoom === 1 ? 0 : Math.min(half, Math.max(-half, at)));
    centreX = within(centreX + dx, halfX);
    centreY = within(centreY + dy, halfY);
    movedAt = performance.now();
    soon();
  };

  const middle = () => [stage.clientWidth / 2, stage.clientHeight / 2];

  /* --- pointers: one moves or circles, two zoom, none that moved clicks ------------------------------ */

  const down = new Map();
  let moved = 0;

  const at = (event) => {
    const area = canvas.getBoundingClientRect();
    return [event.clientX - area.left, event.clientY - area.top];
  };

  const under = ([px, py]) => nearest(...toMap(px, py), Math.max(REACH_PX, diameter() / 2) / unit());

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, at(event));
    moved = 0;
    loop = (mode === "lasso" || event.shiftKey) && down.size === 1 ? [toMap(...at(event))] : null;
  });

  canvas.addEventListener("pointermove", (event) => {
    const now = at(event), before = down.get(event.pointerId);
    if (!before) {
      const i = event.pointerType === "touch" ? -1 : under(now);
      canvas.style.cursor = mode === "lasso" ? "crosshair" : i >= 0 ? "pointer" : "grab";
      heard.point(i, ...now);
      return;
    }
    moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (down.size === 2) {
      const other = [...down].find(([id]) => id !== event.pointerId)[1];
      const span = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
      zoomAt(span(now) / span(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      loop = null;
    } else if (loop) {
      loop.push(toMap(...now));
      soon();
    } else {
      move((before[0] - now[0]) / unit(), (now[1] - before[1]) / unit());
    }
    down.set(event.pointerId, now);
    heard.point(-1, 0, 0);
  });

  const lift = (event) => {
    if (!down.delete(event.pointerId)) return;
    const circled = loop;
    loop = null;
    soon();
    if (event.type === "pointercancel") return;
    if (moved < 5) {
      const i = under(at(event));
      if (i >= 0) heard.press(i);
    } else if (circled && circled.length > 2) {
      heard.lasso([...x.keys()].filter((i) => isInside(x[i], y[i], circled)));
    }
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => heard.point(-1, 0, 0));

  canvas.addEventListener("wheel", (event) => {
    // Where all is in view already, the page scrolls on.
    if (zoom === 1 && event.deltaY > 0) return;
    event.preventDefault();
    const line = event.deltaMode === 1 ? 16 : 1;
    zoomAt(Math.exp(-Math.max(-60, Math.min(60, event.deltaY * line)) / 220), ...at(event));
  }, { passive: false });

  canvas.addEventListener("keydown", (event) => {
    const step = 40 / unit();
    const keys = {
      ArrowLeft: () => move(-step, 0), ArrowRight: () => move(step, 0),
      ArrowUp: () => move(0, step), ArrowDown: () => move(0, -step),
      "+": () => zoomAt(1.4, ...middle()), "=": () => zoomAt(1.4, ...middle()),
      "-": () => zoomAt(1 / 1.4, ...middle()), 0: () => map.fit(),
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });

  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  canvas.addEventListener("webglcontextrestored", () => {
    drawing = programOf(canvas) ?? drawing;
    upload();
  });
  new ResizeObserver(soon).observe(stage);

  const map = {
    /* The points: two Float32Arrays, about -1 to 1. */
    setPlaces(newX, newY) {
      [x, y] = [newX, newY];
      const half = (values) => values.reduce((most, one) => Math.max(most, Math.abs(one)), 0.05);
      [halfX, halfY] = [half(x), half(y)];
      places = new Float32Array(2 * x.length);
      for (let i = 0; i < x.length; i++) { places[2 * i] = x[i]; places[2 * i + 1] = y[i]; }
      nearest = gridOf(x, y);
      order = shuffled(x.length);
      share = 1;
      colours = new Uint8Array(4 * x.length).fill(255);
      chosen = new Uint32Array(0);
      marked = -1;
      upload();
    },
    /* Uint8Array, four for each point. */
    setColours(rgba) { colours = rgba; upload(); },
    setChosen(indices) { chosen = Uint32Array.from(indices); upload(); },
    /* A ring around one point; -1: around none. */
    mark(i) { marked = i; soon(); },
    setMode(name) { mode = name; stage.dataset.mode = name; },
    zoomBy(factor) { zoomAt(factor, ...middle()); },
    fit() { zoom = 1; centreX = centreY = 0; soon(); },
    /* For measuring: draws now, waits until the GPU is done, and tells the share of points drawn. */
    drawNow() {
      const { gl } = drawing;
      draw();
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
      return performance.now() - movedAt > REST_MS ? 1 : Math.max(share, Math.min(1, LEAST / x.length));
    },
  };
  return map;
};
