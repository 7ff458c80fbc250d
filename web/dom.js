// Nodes of the page. Everything that comes from the server is put in as text, never as markup.
export const $ = (id) => document.getElementById(id);

function filled(made, text, attributes) {
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export const node = (name, text, attributes = {}) => filled(document.createElement(name), text, attributes);
export const svgNode = (name, attributes = {}, text) =>
  filled(document.createElementNS("http://www.w3.org/2000/svg", name), text, attributes);

// A list of names and values, as what stands in a <dl>.
export const entries = (pairs) => pairs.map(([name, value, attributes = {}]) => {
  const entry = node("div", undefined, attributes);
  entry.append(node("dt", name), node("dd", String(value)));
  return entry;
});
