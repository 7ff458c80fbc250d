// What a study's documents say, in words. Text alone: nothing here touches the page.
const shares = new Set(["accuracy", "top5", "accuracy_drop", "agreement"]);

// A number and its unit stay in one line.
export function shown(metric, value) {
  if (value === undefined || value === null) return "";
  if (shares.has(metric)) return `${(100 * value).toFixed(2)}\u00a0%`;
  if (metric.endsWith("_bytes")) {
    if (Math.abs(value) >= 1048576) return `${(value / 1048576).toFixed(2)}\u00a0MiB`;
    return Math.abs(value) >= 1024 ? `${(value / 1024).toFixed(1)}\u00a0KiB` : `${Math.round(value)}\u00a0B`;
  }
  if (metric.endsWith("_us")) return `${value.toFixed(Math.abs(value) < 10 ? 2 : 1)}\u00a0µs`;
  return Number.isInteger(value) ? String(value) : value.toPrecision(4);
}

// How far apart two values are; of shares in points, as percent of percent would be something else.
export function apart(metric, value) {
  if (!shares.has(metric)) return value < 0.01 && metric.endsWith("_us") ? `${value.toPrecision(1)}\u00a0µs` : shown(metric, value);
  const points = 100 * value;
  return `${points >= 0.01 ? points.toFixed(2) : points.toPrecision(1)}\u00a0points`;
}

export function duration(seconds) {
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 120) return `${seconds.toPrecision(3)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

const counted = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;

// "3, 7, 9 and 4 more"
export function some(numbers, most = 3) {
  const first = numbers.slice(0, most).join(", ");
  return numbers.length > most ? `${first} and ${numbers.length - most} more` : first;
}

const phases = {
  inspect: "reading the model", baseline: "measuring the f32 baseline", profile: "taking looks", search: "searching",
  drain: "finishing what is in work", verify: "measuring the front on the test split",
};

// What a study that runs does now, or what keeps it from that.
export function nowText(study) {
  const progress = study.progress;
  if (study.state !== "running" || !progress) return "";
  return progress.blocked ? `waits: ${progress.blocked}` : phases[progress.phase] ?? progress.phase;
}

// While looks are being taken: what they are, and who is at it.
export function looksText(study, workers) {
  const progress = study.progress;
  if (progress?.phase !== "profile" || !["running", "paused"].includes(study.state)) return "";
  const what = "Each value of each layer is looked at alone, on a few samples, before the search begins.";
  if (study.state === "paused") return `${what} Paused meanwhile.`;
  if (progress.blocked) return `${what} Waits: ${progress.blocked}.`;
  const here = workers.filter((w) => w.work?.study === study.id && w.work.kind === "profile");
  if (here.length === 0) return what;
  const parts = here.map((w) => `part ${w.work.number}${typeof w.share === "number" ? ` at ${Math.round(100 * w.share)} %` : ""}`);
  return `${what} ${counted(here.length, "worker")} at it: ${some(parts, 8)}.`;
}

// What the looks cost; empty where none were taken.
export function profileNumbers(study) {
  const profile = study.profile;
  if (!profile) return [];
  const charged = profile.charged_trials ?? study.progress?.charged_trials ?? 0;
  const budget = study.definition.budget?.trials;
  return [["looks taken", profile.probes], ["reused from earlier studies", profile.reused], ["unknown", profile.unknown],
    ...(profile.labelled > 0 ? [["compared by labels", profile.labelled]] : []),
    ["worker time", duration(profile.seconds)], ["charged", budget ? `${charged} of ${counted(budget, "trial")}` : counted(charged, "trial")]];
}

// A constraint that the nearest miss breaks, and by how much.
export function missText(missed) {
  const upper = missed.max !== undefined;
  const bound = upper ? missed.max : missed.min;
  const by = Math.abs(missed.value - bound);
  const share = bound === 0 ? "" : ` (${Number((100 * by / Math.abs(bound)).toPrecision(3))} % of the bound)`;
  return `${missed.metric} ${shown(missed.metric, missed.value)}, ${upper ? "at most" : "at least"} ` +
    `${shown(missed.metric, bound)} asked for: ${apart(missed.metric, by)} too ${upper ? "much" : "little"}${share}`;
}

// A promise that the test split takes back.
export function brokenText(broken) {
  const [low, high] = broken.interval;
  return `${broken.metric} ${shown(broken.metric, broken.measured)}, promised ${shown(broken.metric, low)} … ` +
    `${shown(broken.metric, high)}: doesn’t hold${broken.bound ? ", and breaks a constraint" : ""}`;
}

// What there is to say of a trial besides its numbers.
export function trialNotes(number, front) {
  const notes = [];
  const member = front.front.find((m) => m.trial === number);
  for (const broken of member?.broken ?? []) notes.push(`On the test split: ${brokenText(broken)}.`);
  const tied = front.tied?.find((t) => t.trial === number);
  if (tied) notes.push(`Beaten by ${some(tied.with, 8)} of the front, but by less than the noise.`);
  if (front.nearest_miss?.trial === number) {
    notes.push("Not feasible, but nearest to it:", ...front.nearest_miss.missed.map(missText));
  }
  return notes;
}
