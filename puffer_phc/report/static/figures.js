// A humanoid and its reference moving on a canvas: balls, capsules and boxes in perspective, without WebGL or anything to download.
// shapes: [[kind, radius in m, first point, number of points, shade]]; a motion's points are int16 millimetres, base64.
const SUN = [0.35, 0.45, -1], FOCAL = 1.55;

function numbers(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Int16Array(bytes.buffer);
}

class Player {
  constructor(element, shapes) {
    this.shapes = shapes;
    this.pointCount = shapes.reduce((count, shape) => Math.max(count, shape[2] + shape[3]), 0);
    element.classList.add("player");
    element.innerHTML = '<canvas></canvas><div class="words"></div>' +
      '<div class="bar"><button type="button">Pause</button><input type="range" min="0" value="0" aria-label="time"></div>';
    [this.canvas, this.words] = element.children;
    [this.button, this.slider] = element.querySelector(".bar").children;
    this.ghost = document.createElement("canvas");
    this.azimuth = 0.85; this.elevation = 0.2; this.distance = 3.9;
    this.time = 0; this.playing = true; this.visible = true; this.centre = null;
    this.button.addEventListener("click", () => this.pause(this.playing));
    this.slider.addEventListener("input", () => { this.pause(true); this.time = this.slider.value * this.motion.dt; this.draw(); });
    this.canvas.addEventListener("pointerdown", (event) => this.canvas.setPointerCapture(event.pointerId));
    this.canvas.addEventListener("pointermove", (event) => this.turn(event));
    this.canvas.addEventListener("wheel", (event) => this.zoom(event), { passive: false });
    new IntersectionObserver((entries) => { this.visible = entries[entries.length - 1].isIntersecting; }).observe(this.canvas);
    new ResizeObserver(() => this.resize()).observe(element);
    this.resize();
    const tick = (now) => { this.advance((now - (this.last ?? now)) / 1000); this.last = now; requestAnimationFrame(tick); };
    requestAnimationFrame(tick);
  }

  show(motion) {
    this.motion = { ...motion, body: numbers(motion.body), reference: numbers(motion.reference) };
    this.frames = this.motion.body.length / (3 * this.pointCount);
    this.slider.max = this.frames - 1;
    this.time = 0; this.centre = null;
    this.draw();
  }

  pause(paused) { this.playing = !paused; this.button.textContent = paused ? "Play" : "Pause"; }

  turn(event) {
    if (!event.buttons) return;
    this.azimuth -= event.movementX * 0.008;
    this.elevation = Math.min(1.3, Math.max(0.02, this.elevation + event.movementY * 0.006));
    this.draw();
  }

  zoom(event) {
    event.preventDefault();
    this.distance = Math.min(12, Math.max(1.5, this.distance * Math.exp(event.deltaY * 0.001)));
    this.draw();
  }

  resize() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2), width = this.canvas.clientWidth || 480;
    for (const canvas of [this.canvas, this.ghost]) { canvas.width = width * ratio; canvas.height = Math.round(width * 0.66) * ratio; }
    this.canvas.style.height = `${Math.round(width * 0.66)}px`;
    this.draw();
  }

  advance(seconds) {
    if (!this.motion || !this.playing || !this.visible) return;
    const pause = 0.7, length = (this.frames - 1) * this.motion.dt + pause;
    this.time += Math.min(seconds, 0.2);
    if (this.time > length) { this.time = 0; this.centre = null; }
    this.draw();
  }

  frame() { return Math.max(0, Math.min(this.frames - 1, Math.floor(this.time / this.motion.dt + 1e-6))); }

  point(points, frame, index) {
    const at = 3 * (frame * this.pointCount + index);
    return [points[at] / 1000, points[at + 1] / 1000, points[at + 2] / 1000];
  }

  draw() {
    if (!this.motion) return;
    const frame = this.frame(), context = this.canvas.getContext("2d"), root = this.point(this.motion.body, frame, 0);
    if (!this.centre || Math.hypot(root[0] - this.centre[0], root[1] - this.centre[1]) > 1.5) this.centre = [root[0], root[1]];
    this.centre = [0, 1].map((axis) => this.centre[axis] + 0.12 * (root[axis] - this.centre[axis]));
    this.aim();
    this.ground(context);
    this.shadow(context, this.motion.body, frame);
    const ghost = this.ghost.getContext("2d"), over = (alpha) => {
      context.globalAlpha = alpha; context.drawImage(this.ghost, 0, 0); context.globalAlpha = 1;
    };
    ghost.clearRect(0, 0, this.ghost.width, this.ghost.height);
    this.figure(ghost, this.motion.reference, frame, [104, 190, 132]);
    over(0.55);  // behind the humanoid, and a hint of it in front: which of them is nearer is not worked out
    this.figure(context, this.motion.body, frame, [96, 146, 196]);
    over(0.16);
    this.slider.value = frame;
    this.words.textContent = this.motion.words ? this.motion.words(frame) : "";
  }

  aim() {
    const [ca, sa, ce, se] = [Math.cos(this.azimuth), Math.sin(this.azimuth), Math.cos(this.elevation), Math.sin(this.elevation)];
    this.forward = [-ce * ca, -ce * sa, -se]; this.right = [-sa, ca, 0]; this.up = [-se * ca, -se * sa, ce];
    this.eye = [this.centre[0] + this.distance * ce * ca, this.centre[1] + this.distance * ce * sa, 0.85 + this.distance * se];
  }

  project(point) {
    const away = point.map((value, axis) => value - this.eye[axis]);
    const dot = (axis) => away[0] * axis[0] + away[1] * axis[1] + away[2] * axis[2];
    const depth = dot(this.forward), scale = FOCAL * this.canvas.height / Math.max(depth, 0.05);
    return [this.canvas.width / 2 + dot(this.right) * scale, this.canvas.height / 2 - dot(this.up) * scale, depth, scale];
  }

  ground(context) {
    const { width, height } = this.canvas, horizon = Math.max(0, this.project([this.eye[0] + 1e4 * this.forward[0], this.eye[1] + 1e4 * this.forward[1], this.eye[2]])[1]);
    const sky = context.createLinearGradient(0, 0, 0, height);
    sky.addColorStop(0, "#dfe8f0");
    sky.addColorStop(Math.min(1, horizon / height), "#eef3f7");
    sky.addColorStop(1, "#c5ced7");
    context.fillStyle = sky; context.fillRect(0, 0, width, height);
    const reach = 7, [x0, y0] = this.centre.map(Math.round);
    for (let line = -reach; line <= reach; line++)
      for (let part = -reach; part < reach; part++)
        for (const [a, b] of [[[x0 + line, y0 + part, 0], [x0 + line, y0 + part + 1, 0]], [[x0 + part, y0 + line, 0], [x0 + part + 1, y0 + line, 0]]]) {
          const [p, q] = [this.project(a), this.project(b)];
          if (p[2] < 0.3 || q[2] < 0.3) continue;
          const fade = 1 - Math.hypot(a[0] - this.centre[0], a[1] - this.centre[1]) / reach;
          if (fade <= 0) continue;
          context.strokeStyle = `rgba(110, 124, 138, ${0.5 * fade})`; context.lineWidth = width / 700;
          context.beginPath(); context.moveTo(p[0], p[1]); context.lineTo(q[0], q[1]); context.stroke();
        }
  }

  shadow(context, points, frame) {
    const flat = ([x, y, z]) => [x - SUN[0] / SUN[2] * z, y - SUN[1] / SUN[2] * z, 0];
    const dark = this.ghost.getContext("2d");
    dark.clearRect(0, 0, this.ghost.width, this.ghost.height);
    for (const shape of this.shapes) this.shape(dark, shape, this.corners(points, frame, shape).map((p) => this.project(flat(p))), "#28343f", null, 0.75);
    context.globalAlpha = 0.28; context.drawImage(this.ghost, 0, 0); context.globalAlpha = 1;
  }

  corners(points, frame, shape) { return Array.from({ length: shape[3] }, (_, index) => this.point(points, frame, shape[2] + index)); }

  figure(context, points, frame, rgb) {
    const drawn = this.shapes.map((shape) => {
      const seen = this.corners(points, frame, shape).map((corner) => this.project(corner));
      return [seen.reduce((sum, corner) => sum + corner[2], 0) / seen.length, shape, seen];
    });
    drawn.sort((a, b) => b[0] - a[0]);
    for (const [, shape, seen] of drawn) {
      const paint = (factor) => `rgb(${rgb.map((value) => Math.min(255, Math.round(value * factor * shape[4])))})`;
      this.shape(context, shape, seen, paint(1), [paint(0.62), paint(1.22)], 1);
    }
  }

  shape(context, [kind, radius], seen, fill, edges, thickness) {
    if (seen.some((corner) => corner[2] < 0.2)) return;
    if (kind === "box") return this.box(context, seen, fill, edges);
    const [from, to] = [seen[0], seen[seen.length - 1]];
    const wide = radius * thickness * (from[3] + to[3]), line = (colour, width, dx, dy) => {
      context.strokeStyle = colour; context.lineWidth = width; context.lineCap = "round";
      context.beginPath(); context.moveTo(from[0] + dx, from[1] + dy); context.lineTo(to[0] + dx + 0.01, to[1] + dy); context.stroke();
    };
    if (edges) line(edges[0], wide, 0, 0);
    line(fill, edges ? wide * 0.88 : wide, 0, 0);
    if (edges) { context.globalAlpha = 0.55; line(edges[1], wide * 0.3, -wide * 0.14, -wide * 0.18); context.globalAlpha = 1; }
  }

  box(context, seen, fill, edges) {
    const sorted = [...seen].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const half = (points) => points.reduce((hull, p) => {
      while (hull.length > 1) {
        const [a, b] = hull.slice(-2);
        if ((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]) > 0) break;
        hull.pop();
      }
      return [...hull, p];
    }, []);
    const hull = [...half(sorted).slice(0, -1), ...half(sorted.reverse()).slice(0, -1)];
    context.beginPath();
    hull.forEach((p, index) => (index ? context.lineTo(p[0], p[1]) : context.moveTo(p[0], p[1])));
    context.closePath(); context.fillStyle = fill; context.fill();
    if (edges) { context.strokeStyle = edges[0]; context.lineWidth = seen[0][3] * 0.006; context.stroke(); }
  }
}
