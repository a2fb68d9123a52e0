// The retrieval map: paints what each region was read from, and the places in the references.
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const states = new WeakMap();

function stateOf(map) {
  const key = map.dataset.weights;
  let state = states.get(map);
  if (!state || state.key !== key) {
    const d = map.dataset;
    const size = ["height", "width", "rows", "columns"].map((name) => Number(d[name]));
    const [height, width, rows, columns] = size;
    state = { key, height, width, rows, columns, shares: bytes(d.shares), weights: bytes(key) };
    state.colors = d.colors.split(" ");
    state.names = d.names.split("|");
    state.at = null;
    states.set(map, state);
    paintShares(map, state);
  }
  return state;
}

function cell(canvas, rows, columns) {
  canvas.width = columns;
  canvas.height = rows;
  return canvas.getContext("2d");
}

function paintShares(map, state) {
  const context = cell(map.querySelector("canvas"), state.height, state.width);
  const count = state.names.length;
  for (let region = 0; region < state.height * state.width; region++) {
    const shares = [...state.shares.slice(region * count, (region + 1) * count)];
    const best = shares.indexOf(Math.max(...shares));
    context.globalAlpha = 0.15 + 0.6 * (shares[best] / 100);
    context.fillStyle = state.colors[best];
    context.fillRect(region % state.width, Math.floor(region / state.width), 1, 1);
  }
}

function show(map, y, x) {
  const state = stateOf(map);
  const { height, width, rows, columns, names } = state;
  state.at = [y, x];
  const frame = map.querySelector(".rb-region");
  frame.hidden = false;
  frame.style.cssText = `left:${(100 * x) / width}%;top:${(100 * y) / height}%;width:${100 / width}%;height:${100 / height}%`;
  const region = y * width + x;
  const said = [];
  const canvases = map.parentElement.querySelectorAll(".rb-source canvas");
  const all = state.weights.subarray(region * names.length * rows * columns);
  const most = Math.max(1, ...all.subarray(0, names.length * rows * columns));
  names.forEach((name, r) => {
    const context = cell(canvases[r], rows, columns);
    const start = r * rows * columns;
    let best = 0;
    for (let place = 0; place < rows * columns; place++) {
      const weight = all[start + place];
      if (weight > all[start + best]) best = place;
      context.globalAlpha = 0.85 * (weight / most);
      context.fillStyle = state.colors[r];
      context.fillRect(place % columns, Math.floor(place / columns), 1, 1);
    }
    const share = state.shares[region * names.length + r];
    const where = share ? `, most at row ${Math.floor(best / columns) + 1}, column ${(best % columns) + 1}` : "";
    said.push(`${share} % from ${name}${where}`);
  });
  map.parentElement.querySelector(".rb-said").textContent =
    `Row ${y + 1} of ${height}, column ${x + 1} of ${width}: ${said.join("; ")}.`;
}

element.addEventListener("pointermove", (event) => {
  const button = event.target.closest(".rb-explore");
  if (!button) return;
  const map = button.closest(".rb-map");
  const { height, width } = stateOf(map);
  const area = button.getBoundingClientRect();
  const place = (value, size) => Math.min(Math.max(Math.floor(value * size), 0), size - 1);
  show(map, place((event.clientY - area.top) / area.height, height), place((event.clientX - area.left) / area.width, width));
});
element.addEventListener("keydown", (event) => {
  const button = event.target.closest(".rb-explore");
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!button || !step) return;
  event.preventDefault();
  const map = button.closest(".rb-map");
  const { height, width, at } = stateOf(map);
  const [y, x] = at ? [at[0] + step[0], at[1] + step[1]] : [0, 0];
  show(map, Math.min(Math.max(y, 0), height - 1), Math.min(Math.max(x, 0), width - 1));
});
element.addEventListener("focusin", (event) => {
  const map = event.target.closest(".rb-map");
  if (map && !stateOf(map).at) show(map, 0, 0);
});
function paint() { // new results take the old ones' place, and empty their canvases
  element.querySelectorAll(".rb-image").forEach((image) => { // each picture is sent once
    const url = image.querySelector(".rb-made").src;
    image.querySelector("a[download]").href = url;
    const copy = image.querySelector(".rb-explore img");
    if (copy) copy.src = url;
  });
  element.querySelectorAll(".rb-map").forEach((map) => {
    const at = states.get(map)?.at;
    states.delete(map);
    stateOf(map);
    if (at) show(map, ...at);
  });
}
watch("value", paint);
paint();
