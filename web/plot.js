// The chart: all trials across two metrics, those of the front and those beside it marked.
import { svgNode } from "./dom.js";
import { shown } from "./words.js";

function scale(values, from, to) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = high > low ? 0.06 * (high - low) : Math.abs(high) * 0.1 || 1;
  low = low >= 0 ? Math.max(0, low - margin) : low - margin;
  high += margin;
  return { low, high, at: (v) => from + ((v - low) / (high - low)) * (to - from) };
}

// What a trial is to the front: decides how it is drawn, and what lies above what.
function marks(front) {
  const found = new Map();
  for (const tied of front.tied ?? []) found.set(tied.trial, { name: "tied", says: ", beaten by less than the noise", radius: 4, order: 1 });
  if (front.nearest_miss) found.set(front.nearest_miss.trial, { name: "miss", says: ", the nearest miss", radius: 7, order: 3 });
  for (const member of front.front) {
    const kept = member.holds !== false;
    found.set(member.trial, { name: kept ? "front" : "front unkept", says: kept ? ", on the front" : ", on the front; doesn’t hold on the test split",
      radius: 6, order: 2, front: true });
  }
  return found;
}

function drawAxes(plot, sx, sy, box, xName, yName) {
  const [across, up] = [Math.max(2, Math.min(5, Math.floor((box.right - box.left) / 110))), 5];
  for (let i = 0; i <= across; i++) {
    const value = sx.low + ((sx.high - sx.low) * i) / across;
    plot.append(svgNode("line", { class: "grid", x1: sx.at(value), x2: sx.at(value), y1: box.top, y2: box.bottom }),
      svgNode("text", { x: sx.at(value), y: box.bottom + 18, "text-anchor": "middle" }, shown(xName, value)));
  }
  for (let i = 0; i <= up; i++) {
    const value = sy.low + ((sy.high - sy.low) * i) / up;
    plot.append(svgNode("line", { class: "grid", x1: box.left, x2: box.right, y1: sy.at(value), y2: sy.at(value) }),
      svgNode("text", { x: box.left - 8, y: sy.at(value) + 4, "text-anchor": "end" }, shown(yName, value)));
  }
  plot.append(svgNode("text", { x: (box.left + box.right) / 2, y: box.bottom + 42, "text-anchor": "middle" }, xName));
}

export function drawPlot(plot, { trials, front, chosen }, xName, yName) {
  // As wide as it stands there, so that its letters keep their size on a phone.
  const width = Math.max(300, plot.clientWidth || 860);
  const height = Math.max(300, Math.min(430, width / 2));
  plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
  plot.replaceChildren();
  const points = trials.map((t) => ({ number: t.number, x: t.metrics?.[xName], y: t.metrics?.[yName] }))
    .filter((p) => typeof p.x === "number" && typeof p.y === "number");
  if (points.length === 0) {
    plot.append(svgNode("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no finished trial yet"));
    return;
  }
  const box = { left: 80, right: width - 35, top: 16, bottom: height - 50 };
  const sx = scale(points.map((p) => p.x), box.left, box.right);
  const sy = scale(points.map((p) => p.y), box.bottom, box.top);
  drawAxes(plot, sx, sy, box, xName, yName);
  const plain = { name: "", says: "", radius: 4, order: 0 };
  const found = marks(front);
  for (const p of points) p.mark = found.get(p.number) ?? plain;
  const line = points.filter((p) => p.mark.front).sort((a, b) => a.x - b.x)
    .map((p, i) => `${i ? "L" : "M"}${sx.at(p.x)},${sy.at(p.y)}`).join(" ");
  if (line) plot.append(svgNode("path", { class: "step", d: line }));
  for (const p of points.sort((a, b) => (a.number === chosen) - (b.number === chosen) || a.mark.order - b.mark.order)) {
    const { name, says, radius: r } = p.mark;
    const [x, y] = [sx.at(p.x), sy.at(p.y)];
    const classes = [name, p.number === 0 && "base", p.number === chosen && "chosen"].filter(Boolean).join(" ");
    const attributes = { class: `trial ${classes}`, "data-trial": p.number };
    const mark = name === "miss" ? svgNode("path", { ...attributes, d: `M${x},${y - r}L${x + r},${y}L${x},${y + r}L${x - r},${y}Z` })
      : svgNode("circle", { ...attributes, cx: x, cy: y, r });
    mark.append(svgNode("title", {}, `trial ${p.number}${says}: ${yName} ${shown(yName, p.y)}, ${xName} ${shown(xName, p.x)}`));
    plot.append(mark);
  }
}
