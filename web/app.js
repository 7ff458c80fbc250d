// The dashboard: what the server says of a study, and follows it.
import { $, entries, node } from "./dom.js";
import { drawPlot } from "./plot.js";
import { brokenText, looksText, missText, nowText, profileNumbers, shown, some, trialNotes } from "./words.js";

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

const state = { id: null, study: null, workers: [], trials: [], front: null, chosen: null, stream: null, allTied: false };

// Rows of trials beside the front that are shown until somebody asks for all.
const mostTied = 50;

function say(problem) { $("problem").textContent = problem ? problem.message : ""; }

// What has ended stays as it is: only from the first open trial on is asked for again.
async function allTrials(id, known) {
  const ended = known.findIndex((t) => !["complete", "pruned", "failed"].includes(t.state));
  const trials = ended < 0 ? [...known] : known.slice(0, ended);
  let cursor = trials.length > 0 ? String(trials.length) : "";
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
  $("workers").replaceChildren(...workers.length === 0 ? [node("li", "none connected", { class: "muted" })] : workers.map((worker) =>
    node("li", `${worker.name}: ${worker.work ? `${worker.work.kind} ${worker.work.number} (${worker.phase || "…"})` : "idle"}`, { class: "muted" })));
  state.workers = workers;
  if (!state.id && studies.length > 0) await choose(studies[0].id);
}

async function choose(id) {
  Object.assign(state, { id, trials: [], chosen: null, allTied: false });
  $("trial").hidden = true;
  state.stream?.abort();
  state.stream = new AbortController();
  await refreshStudy();
  follow(id, state.stream.signal);
}

async function refreshStudy() {
  const id = state.id;
  const path = `/v1/studies/${encodeURIComponent(id)}`;
  const [study, front, trials] = await Promise.all([get(path), get(`${path}/front`), allTrials(id, state.trials)]);
  if (id !== state.id) return;
  Object.assign(state, { study, front, trials });
  draw();
}

// Not every step stands in the log (which phase it is, how far looks are).
async function refreshStatus() {
  const id = state.id;
  if (!state.front || !["running", "paused"].includes(state.study?.state)) return;
  const study = await get(`/v1/studies/${encodeURIComponent(id)}`);
  if (id !== state.id) return;
  state.study = study;
  drawStatus();
}

// EventSource can't send the token: the stream is read by hand. Many events make one refresh; the
// next waits four times as long as that one took, so that a large study isn't held up by being watched.
async function follow(id, signal) {
  let [busy, more, pause] = [false, false, 400];
  const refresh = async () => {
    more = true;
    if (busy) return;
    busy = true;
    while (more) {
      await new Promise((done) => setTimeout(done, pause));
      if (signal.aborted) return;
      more = false;
      const begun = performance.now();
      await refreshStudy().catch(say);
      pause = Math.max(400, 4 * (performance.now() - begun));
    }
    busy = false;
  };
  try {
    const response = await call(`/v1/studies/${encodeURIComponent(id)}/events`, { signal });
    const reader = response.body.getReader();
    while (!(await reader.read()).done) refresh();
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

function drawStatus() {
  const { study, front, trials, workers } = state;
  $("name").textContent = study.name;
  $("state").textContent = study.reason && study.state !== "running" ? `${study.state}: ${study.reason}` : study.state;
  $("now").textContent = nowText(study);
  $("pause").hidden = study.state !== "running";
  $("resume").hidden = study.state !== "paused";
  $("cancel").hidden = !["running", "paused"].includes(study.state);
  const count = (...states) => trials.filter((t) => states.includes(t.state)).length;
  const charged = study.progress?.charged_trials ?? 0;
  const unkept = front.front.filter((m) => m.holds === false).length;
  const numbers = [
    [charged ? "trials + charged for looks" : "trials",
      `${count("complete", "pruned", "failed")}${charged ? ` + ${charged}` : ""} / ${study.definition.budget.trials}`],
    ["on the front", front.front.length], ["tied with it", front.tied?.length ?? 0],
    ["hypervolume", Number(front.hypervolume).toPrecision(4)], ["stopped early", count("pruned")], ["failed", count("failed")]];
  if (unkept) numbers.push(["don’t hold on the test split", unkept, { class: "broken" }]);
  $("numbers").replaceChildren(...entries(numbers));
  const [looks, cost] = [looksText(study, workers), profileNumbers(study)];
  $("profile").hidden = !looks && cost.length === 0;
  $("profile-title").textContent = looks ? "Looks are being taken" : "What looks cost";
  $("looks").textContent = looks;
  $("looks").hidden = !looks;
  $("cost").replaceChildren(...entries(cost));
}

function draw() {
  $("empty").hidden = true;
  $("study").hidden = false;
  drawStatus();
  drawMiss();
  fillAxes();
  drawChart();
  drawFront();
  if (state.chosen !== null) drawTrial(state.chosen);
}

function drawMiss() {
  const near = state.front.nearest_miss;
  $("miss").hidden = !near;
  if (!near) return;
  const still = ["running", "paused"].includes(state.study.state);
  const button = node("button", `trial ${near.trial}`);
  button.addEventListener("click", () => pick(near.trial));
  const line = node("p", `Nothing is feasible${still ? " so far" : ""}. The nearest miss is `);
  line.append(button, near.missed.length > 0 ? ":" : ".");
  const list = node("ul");
  list.append(...near.missed.map((missed) => node("li", missText(missed))));
  $("miss").replaceChildren(line, list);
}

function drawChart() {
  const { front } = state;
  $("key-tied").hidden = !front.tied?.length;
  $("key-miss").hidden = !front.nearest_miss;
  $("key-unkept").hidden = front.front.every((m) => m.holds !== false);
  drawPlot($("plot"), state, $("x").value, $("y").value);
}

// What the test split said; marked where it takes a promise back.
function testCell(member, quality) {
  const cell = node("td", shown(quality, member.verification?.[quality]));
  if (member.holds !== false) return cell;
  cell.className = "broken";
  cell.append(" ", ...member.broken.map((b) => node("div", brokenText(b))));
  return cell;
}

function drawFront() {
  const { front } = state;
  const names = front.objectives.map((o) => o.metric);
  const timed = !names.includes("latency_ratio") && front.front.some((m) => m.metrics.latency_ratio !== undefined);
  const columns = timed ? [...names, "latency_ratio"] : names;
  const quality = ["accuracy", "agreement", "mae", "rmse", "kl"].find((n) => front.front.some((m) => m.verification?.[n] !== undefined)) ?? "accuracy";
  const head = node("tr");
  head.append(node("th", "trial"), ...columns.map((name) => node("th", name)), node("th", quality === "accuracy" ? "test split" : `${quality}, test split`));
  const rowOf = (entry, last) => {
    const row = node("tr", undefined, { "data-trial": entry.trial, ...(entry.trial === state.chosen ? { class: "chosen" } : {}) });
    row.append(node("td", entry.trial === 0 ? "0 (f32)" : String(entry.trial)),
      ...columns.map((name) => node("td", shown(name, entry.metrics[name]))), last);
    return row;
  };
  const wide = (tag, text, attributes = {}) => {
    const row = node("tr", undefined, attributes);
    row.append(node(tag, text, { colspan: columns.length + 2 }));
    return row;
  };
  const [thead, members, beside] = [node("thead"), node("tbody"), node("tbody", undefined, { class: "tied" })];
  thead.append(head);
  members.append(...front.front.map((member) => rowOf(member, testCell(member, quality))));
  if (front.front.length === 0) members.append(wide("td", "no feasible trial", { class: "muted" }));
  const tied = front.tied ?? [];
  if (tied.length > 0) beside.append(wide("th", `${tied.length} tied: beaten by less than the noise`));
  const few = state.allTied ? tied : tied.slice(0, mostTied);
  beside.append(...few.map((entry) => rowOf(entry, node("td", `beaten by ${some(entry.with)}`, { class: "muted" }))));
  if (few.length < tied.length) {
    const row = wide("td");
    const button = node("button", `show all ${tied.length}`);
    button.addEventListener("click", () => { state.allTied = true; drawFront(); });
    row.firstChild.append(button);
    beside.append(row);
  }
  $("front").replaceChildren(thead, members, beside);
}

function pick(number) {
  state.chosen = number;
  drawChart();
  drawFront();
  drawTrial(number);
}

function drawTrial(number) {
  const trial = state.trials.find((t) => t.number === number);
  if (!trial) return;
  $("trial").hidden = false;
  $("trial-title").textContent = `Trial ${number} · ${trial.state}`;
  $("download").hidden = trial.state !== "complete";
  $("trial-notes").replaceChildren(...trialNotes(number, state.front).map((text) => node("p", text)));
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
for (const axis of ["x", "y"]) $(axis).addEventListener("change", drawChart);
for (const list of ["plot", "front"]) {
  $(list).addEventListener("click", (event) => {
    const trial = event.target.closest("[data-trial]");
    if (trial) pick(Number(trial.dataset.trial));
  });
}
addEventListener("resize", () => { if (state.front) drawChart(); });
$("server").textContent = location.host;

async function main() {
  try {
    await refreshList();
    await refreshStatus();
    say(null);
  } catch (problem) {
    say(problem);
  }
  setTimeout(main, 4000);
}
main();
