// The dashboard. Everything that comes from the server is put in as text, never as markup.
const $ = (id) => document.getElementById(id);
const svgNode = (name, attributes = {}, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
const node = (name, text, attributes = {}) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

// The token comes once in the address, and leaves it at once.
const address = new URL(location.href);
if (address.searchParams.has("token")) {
  sessionStorage.setItem("kerf-token", address.searchParams.get("token"));
  address.searchParams.delete("token");
  history.replaceState(null, "", address);
}
const headers = () => ({ Authorization: `Bearer ${sessionStorage.getItem("kerf-token") ?? ""}` });

async function call(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Error(problem.detail ?? `HTTP ${response.status}`);
  }
  return response;
}
const get = async (path) => (await call(path)).json();

const state = { id: null, study: null, trials: [], front: null, chosen: null, stream: null };

const shares = new Set(["accuracy", "top5", "accuracy_drop", "agreement"]);
function shown(metric, value) {
  if (value === undefined || value === null) return "";
  if (shares.has(metric)) return `${(100 * value).toFixed(2)} %`;
  if (metric.endsWith("_bytes")) return value >= 1048576 ? `${(value / 1048576).toFixed(2)} MiB` : `${(value / 1024).toFixed(1)} KiB`;
  if (metric.endsWith("_us")) return `${value.toFixed(1)} µs`;
  return Number.isInteger(value) ? String(value) : value.toPrecision(4);
}

function say(problem) { $("problem").textContent = problem ? problem.message : ""; }

async function allTrials(id) {
  const trials = [];
  let cursor = "";
  do {
    const page = await get(`/v1/studies/${encodeURIComponent(id)}/trials?limit=1000${cursor ? `&cursor=${cursor}` : ""}`);
    trials.push(...page.trials);
    cursor = page.next_cursor ?? "";
  } while (cursor);
  return trials;
}

async function refreshList() {
  const [{ studies }, { workers }] = await Promise.all([get("/v1/studies?limit=1000"), get("/v1/workers")]);
  $("studies").replaceChildren(...studies.reverse().map((study) => {
    const item = node("li");
    const button = node("button", `${study.name} · ${study.state}`);
    button.setAttribute("aria-current", String(study.id === state.id));
    button.addEventListener("click", () => choose(study.id));
    item.append(button);
    return item;
  }));
  $("workers").replaceChildren(...workers.map((worker) =>
    node("li", `${worker.name}: ${worker.work ? `${worker.work.kind} ${worker.work.number} (${worker.phase ?? "…"})` : "idle"}`, { class: "muted" })));
  if (!state.id && studies.length > 0) await choose(studies[0].id);
}

async function choose(id) {
  state.id = id;
  state.chosen = null;
  $("trial").hidden = true;
  state.stream?.abort();
  state.stream = new AbortController();
  await refreshStudy();
  follow(id, state.stream.signal);
}

async function refreshStudy() {
  const id = state.id;
  const path = `/v1/studies/${encodeURIComponent(id)}`;
  const [study, front, trials] = await Promise.all([get(path), get(`${path}/front`), allTrials(id)]);
  if (id !== state.id) return;
  Object.assign(state, { study, front, trials });
  draw();
}

// EventSource can't send the token: the stream is read by hand. Many events make one refresh.
async function follow(id, signal) {
  let pending = false;
  try {
    const response = await call(`/v1/studies/${encodeURIComponent(id)}/events`, { signal });
    const reader = response.body.getReader();
    for (;;) {
      const { done } = await reader.read();
      if (done) break;
      if (pending) continue;
      pending = true;
      setTimeout(() => { pending = false; if (!signal.aborted) refreshStudy().catch(say); }, 400);
    }
  } catch (problem) {
    if (!signal.aborted) say(problem);
  }
  if (!signal.aborted) setTimeout(() => { if (!signal.aborted) follow(id, signal); }, 3000);
}

function fillAxes() {
  const names = state.front.objectives.map((o) => o.metric);
  const others = ["latency_ratio", "weight_bytes", "activation_peak_bytes", "agreement", "macs"].filter((n) => !names.includes(n));
  const all = [...names, ...others];
  for (const [select, preferred] of [[$("x"), names[1] ?? names[0]], [$("y"), names[0]]]) {
    const before = all.includes(select.value) ? select.value : preferred;
    select.replaceChildren(...all.map((name) => node("option", name, { value: name })));
    select.value = before;
  }
}

function draw() {
  const { study, front, trials } = state;
  $("empty").hidden = true;
  $("study").hidden = false;
  $("name").textContent = study.name;
  $("state").textContent = study.reason && study.state !== "running" ? `${study.state}: ${study.reason}` : study.state;
  $("pause").hidden = study.state !== "running";
  $("resume").hidden = study.state !== "paused";
  $("cancel").hidden = !["running", "paused"].includes(study.state);
  const finished = trials.filter((t) => ["complete", "pruned", "failed"].includes(t.state)).length;
  const numbers = [["trials", `${finished} / ${study.definition.budget.trials}`], ["on the front", front.front.length],
    ["hypervolume", Number(front.hypervolume).toPrecision(4)], ["stopped early", trials.filter((t) => t.state === "pruned").length], ["failed", trials.filter((t) => t.state === "failed").length]];
  $("numbers").replaceChildren(...numbers.map(([name, value]) => {
    const entry = node("div");
    entry.append(node("dt", name), node("dd", String(value)));
    return entry;
  }));
  fillAxes();
  drawPlot();
  drawFront();
  if (state.chosen !== null) drawTrial(state.chosen);
}

function drawPlot() {
  const [xName, yName] = [$("x").value, $("y").value];
  const onFront = new Set(state.front.front.map((m) => m.trial));
  const points = state.trials
    .map((t) => ({ number: t.number, x: t.metrics?.[xName], y: t.metrics?.[yName] }))
    .filter((p) => typeof p.x === "number" && typeof p.y === "number");
  const plot = $("plot");
  plot.replaceChildren();
  if (points.length === 0) {
    plot.append(svgNode("text", { x: 430, y: 215, "text-anchor": "middle" }, "no finished trial yet"));
    return;
  }
  const [left, right, top, bottom] = [80, 825, 16, 380];
  const scale = (values, from, to) => {
    let [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = high > low ? 0.06 * (high - low) : Math.abs(high) * 0.1 || 1;
    low -= margin; high += margin;
    return { low, high, at: (v) => from + ((v - low) / (high - low)) * (to - from) };
  };
  const sx = scale(points.map((p) => p.x), left, right);
  const sy = scale(points.map((p) => p.y), bottom, top);
  for (let i = 0; i <= 5; i++) {
    const [xv, yv] = [sx.low + ((sx.high - sx.low) * i) / 5, sy.low + ((sy.high - sy.low) * i) / 5];
    plot.append(svgNode("line", { class: "grid", x1: sx.at(xv), x2: sx.at(xv), y1: top, y2: bottom }),
      svgNode("line", { class: "grid", x1: left, x2: right, y1: sy.at(yv), y2: sy.at(yv) }),
      svgNode("text", { x: sx.at(xv), y: bottom + 18, "text-anchor": "middle" }, shown(xName, xv)),
      svgNode("text", { x: left - 8, y: sy.at(yv) + 4, "text-anchor": "end" }, shown(yName, yv)));
  }
  plot.append(svgNode("text", { x: (left + right) / 2, y: bottom + 42, "text-anchor": "middle" }, xName));
  const line = points.filter((p) => onFront.has(p.number)).sort((a, b) => a.x - b.x)
    .map((p, i) => `${i ? "L" : "M"}${sx.at(p.x)},${sy.at(p.y)}`).join(" ");
  if (line) plot.append(svgNode("path", { class: "step", d: line }));
  for (const p of [...points].sort((a, b) => onFront.has(a.number) - onFront.has(b.number))) {
    const classes = [onFront.has(p.number) && "front", p.number === 0 && "base", p.number === state.chosen && "chosen"];
    const circle = svgNode("circle", { cx: sx.at(p.x), cy: sy.at(p.y), r: onFront.has(p.number) ? 6 : 4, class: classes.filter(Boolean).join(" ") });
    circle.append(svgNode("title", {}, `trial ${p.number}: ${yName} ${shown(yName, p.y)}, ${xName} ${shown(xName, p.x)}`));
    circle.addEventListener("click", () => pick(p.number));
    plot.append(circle);
  }
}

// What the test split said; marked where it takes a promise back.
function testCell(member) {
  const cell = node("td", shown("accuracy", member.verification?.accuracy));
  if (member.holds !== false) return cell;
  cell.className = "broken";
  cell.append(" ", ...member.broken.map((b) => node("div",
    `${b.metric} ${shown(b.metric, b.measured)}, promised ${shown(b.metric, b.interval[0])} … ${shown(b.metric, b.interval[1])}: doesn’t hold`)));
  return cell;
}

function drawFront() {
  const names = state.front.objectives.map((o) => o.metric);
  const columns = [...new Set([...names, "latency_ratio"])];
  const head = node("tr");
  head.append(node("th", "trial"), ...columns.map((name) => node("th", name)), node("th", "test split"));
  const rows = state.front.front.map((member) => {
    const row = node("tr", undefined, member.trial === state.chosen ? { class: "chosen" } : {});
    row.append(node("td", member.trial === 0 ? "0 (f32)" : String(member.trial)),
      ...columns.map((name) => node("td", shown(name, member.metrics[name]))),
      testCell(member));
    row.addEventListener("click", () => pick(member.trial));
    return row;
  });
  const thead = node("thead");
  thead.append(head);
  const tbody = node("tbody");
  tbody.append(...rows);
  $("front").replaceChildren(thead, tbody);
}

function pick(number) {
  state.chosen = number;
  drawPlot();
  drawFront();
  drawTrial(number);
}

function drawTrial(number) {
  const trial = state.trials.find((t) => t.number === number);
  if (!trial) return;
  $("trial").hidden = false;
  $("trial-title").textContent = `Trial ${number} · ${trial.state}`;
  $("download").hidden = trial.state !== "complete";
  const why = trial.error?.message ?? (trial.reason ? `Stopped early: ${trial.reason}` : "");
  $("trial-plan").textContent = trial.error ? why : [why, JSON.stringify(trial.candidate, null, 1)].filter(Boolean).join("\n");
  $("trial-metrics").replaceChildren(...Object.entries(trial.metrics ?? {}).filter(([, v]) => typeof v === "number").map(([name, value]) => {
    const row = node("tr");
    const interval = trial.metrics[`${name}_ci95`];
    row.append(node("td", name), node("td", shown(name, value)),
      node("td", Array.isArray(interval) ? `${shown(name, interval[0])} … ${shown(name, interval[1])}` : "", { class: "muted" }));
    return row;
  }));
}

async function download() {
  say(null);
  const response = await call(`/v1/studies/${encodeURIComponent(state.id)}/trials/${state.chosen}/model`);
  const link = node("a", undefined, { href: URL.createObjectURL(await response.blob()), download: `trial-${state.chosen}.onnx` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

for (const verb of ["pause", "resume", "cancel"]) {
  $(verb).addEventListener("click", () => call(`/v1/studies/${encodeURIComponent(state.id)}/${verb}`, { method: "POST" })
    .then(refreshStudy).then(refreshList).catch(say));
}
$("download").addEventListener("click", () => download().catch(say));
for (const axis of ["x", "y"]) $(axis).addEventListener("change", drawPlot);
$("server").textContent = location.host;

async function main() {
  try {
    await refreshList();
    say(null);
  } catch (problem) {
    say(problem);
  }
  setTimeout(main, 4000);
}
main();
