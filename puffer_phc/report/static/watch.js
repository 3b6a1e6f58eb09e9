// The page of a run that trains: asks for news every second and a half and draws what has changed.
const byId = (id) => document.getElementById(id), COLOURS = ["#3a6ea5", "#c98a1b", "#4f9d69", "#8a5aa8"];
const player = new Player(byId("player"), shapes), seen = {};
let chosen = null, again = () => {}, show = () => {};

const large = (value) => value === undefined || value === null ? "–" : value >= 1e4 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(3));
const clock = (seconds) => seconds === undefined || seconds === null ? "?" :
  `${Math.floor(seconds / 3600)}:${String(Math.floor(seconds / 60) % 60).padStart(2, "0")}:${String(Math.floor(seconds) % 60).padStart(2, "0")}`;
const steps = (value) => value >= 1e9 ? `${+(value / 1e9).toPrecision(3)} G` : value >= 1e6 ? `${+(value / 1e6).toPrecision(3)} M` : value >= 1e3 ? `${+(value / 1e3).toPrecision(3)} k` : `${value}`;

function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const list = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + 1e-9 * step; value += step) list.push(+value.toPrecision(12));
  return list;
}

function make(name, attributes, parent, content) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (content !== undefined) made.textContent = content;
  parent.append(made);
  return made;
}

function drawPanel(element, panel) {
  const [width, height, left, right, bottom, line] = [320, 162, 44, 8, 22, 12];
  element.replaceChildren();
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": panel.title }, element);
  make("text", { x: 0, y: 12, class: "title" }, svg, panel.title + (panel.unit ? `, ${panel.unit}` : ""));
  const curves = panel.curves.filter((curve) => curve.x.length), x = curves.flatMap((curve) => curve.x), y = curves.flatMap((curve) => curve.y);
  if (!x.length) { make("text", { x: width / 2, y: height / 2, class: "none" }, svg, "nothing yet"); return; }
  const xs = [Math.min(...x), Math.max(...x)], ys = [Math.min(0, ...y), Math.max(...y)];
  if (xs[0] === xs[1]) xs[0] = 0;
  if (xs[0] === xs[1]) xs[1] = 1;
  if (ys[0] === ys[1]) ys[1] = ys[0] + 1;
  if (panel.unit === "%") ys[1] = 100;
  let at = 0, lines = 1;
  curves.forEach((curve) => {
    const words = `${curve.label} ${large(curve.y[curve.y.length - 1])}`;
    const label = make("text", { class: "label", fill: COLOURS[panel.curves.indexOf(curve)] }, svg, words), long = label.getComputedTextLength();
    if (at && at + long > width) { at = 0; lines += 1; }
    label.setAttribute("x", at);
    label.setAttribute("y", 13 + line * lines);
    at += long + 10;
  });
  const top = 24 + line * lines;
  const px = (value) => left + (width - left - right) * (value - xs[0]) / (xs[1] - xs[0]);
  const py = (value) => height - bottom - (height - top - bottom) * (value - ys[0]) / (ys[1] - ys[0]);
  for (const value of ticks(ys[0], ys[1], 4)) {
    make("line", { x1: left, x2: width - right, y1: py(value), y2: py(value), class: "grid" }, svg);
    make("text", { x: left - 5, y: py(value) + 3, class: "tick end" }, svg, steps(value));
  }
  for (const value of ticks(xs[0], xs[1], 4)) make("text", { x: px(value), y: height - 7, class: "tick middle" }, svg, steps(value));
  curves.forEach((curve) => {
    const colour = COLOURS[panel.curves.indexOf(curve)];
    if (curve.x.length === 1) make("circle", { cx: px(curve.x[0]), cy: py(curve.y[0]), r: 2.5, fill: colour }, svg);
    else make("polyline", { points: curve.x.map((value, index) => `${px(value).toFixed(1)},${py(curve.y[index]).toFixed(1)}`).join(" "), stroke: colour, class: "curve" }, svg);
  });
}

function drawClips(clips) {
  const body = byId("clips").tBodies[0];
  body.replaceChildren(...clips.map((clip) => {
    const row = document.createElement("tr");
    row.dataset.clip = clip.name; row.dataset.kinds = clip.kinds; row.tabIndex = 0;
    const cells = [[clip.name], [clip.outcome, clip.order], [`${clip.failures} of ${clip.evaluations}`, clip.failures],
      [clip.until === null ? "–" : clip.until.toFixed(1), clip.until ?? ""], [clip.length.toFixed(1)], [clip.error === null ? "–" : clip.error.toFixed(0), clip.error ?? ""]];
    cells.forEach(([text, value], column) => {
      const cell = row.insertCell();
      if (value !== undefined) cell.dataset.value = value;
      if (column === 1) { const tag = document.createElement("span"); tag.className = `tag ${text}`; tag.textContent = text; cell.append(tag); }
      else cell.textContent = text;
    });
    return row;
  }));
  again(); show(); mark();
}

function mark() { for (const row of byId("clips").tBodies[0].rows) row.classList.toggle("chosen", row.dataset.clip === seen.clip); }

async function choose(name) {
  chosen = name;
  byId("worst").disabled = name === null;
  await fetch("/choose", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ clip: name }) });
  byId("attempt").textContent = name === null ? "the clip that fails most comes next" : `${name} comes next`;
}

async function attempt() {
  const motion = await (await fetch("/attempt")).json();
  if (!motion.body) return;
  const at = (frame) => (motion.start + frame * motion.dt).toFixed(1);
  motion.words = (frame) => `${motion.name}\n${at(frame)} of ${motion.duration.toFixed(1)} s   ${motion.errors[frame]} mm`;
  player.show(motion);
  seen.clip = motion.name;
  byId("attempt").textContent = motion.story;
  mark();
}

async function refresh() {
  let state;
  try {
    state = await (await fetch("/state")).json();
  } catch {
    byId("state").textContent = "the run has ended, or can't be reached; this page no longer changes";
    document.body.classList.add("ended");
    setTimeout(refresh, 5000);
    return;
  }
  document.body.classList.remove("ended");
  byId("state").textContent = `${large(state.step)} of ${large(state.total)} steps · ${large(state.speed)} steps/s · ${clock(state.elapsed)} gone, ${clock(state.remaining)} left`;
  byId("done").style.width = `${Math.min(100, 100 * (state.step || 0) / state.total)}%`;
  if (state.message) byId("attempt").textContent = state.message;
  if (seen.curves !== state.curves_version) { seen.curves = state.curves_version; state.panels.forEach((panel, index) => drawPanel(byId(`panel-${index}`), panel)); }
  if (seen.clips !== state.clips_version) { seen.clips = state.clips_version; drawClips(state.clips); }
  if (seen.attempt !== state.attempt) { seen.attempt = state.attempt; await attempt(); }
  setTimeout(refresh, 1500);
}

again = sortable(byId("clips"));
show = filterable(byId("clips"), byId("clips-search"), byId("clips-kind"), byId("clips-count"));
byId("clips").tBodies[0].addEventListener("click", (event) => choose(event.target.closest("tr").dataset.clip));
byId("clips").tBodies[0].addEventListener("keydown", (event) => { if (event.key === "Enter") choose(event.target.closest("tr").dataset.clip); });
byId("worst").addEventListener("click", () => choose(null));
refresh();
