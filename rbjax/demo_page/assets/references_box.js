// The box on a reference's picture; one script with references.js.
function setBox(index, box) {
  items[index] = { ...items[index], box };
  publish();
  drawBox(index);
  showCrop(index);
}

function drawBox(index) {
  const slot = slots.children[index];
  const picture = slot.querySelector(".rb-draw img");
  const frame = slot.querySelector(".rb-box");
  const { naturalWidth: width, naturalHeight: height } = picture;
  if (!width) return;
  const box = items[index].box || [0, 0, width, height];
  frame.hidden = !items[index].box;
  const share = [box[0] / width, box[1] / height, box[2] / width, box[3] / height];
  ["left", "top", "width", "height"].forEach((side, i) => (frame.style[side] = `${100 * share[i]}%`));
  slot.querySelectorAll(".rb-numbers input").forEach((input, i) => {
    if (document.activeElement !== input) input.value = box[i];
    input.max = i % 2 ? height : width;
  });
}

function startDrawing(index, event) {
  const picture = slots.children[index].querySelector(".rb-draw img");
  if (!picture.naturalWidth) return;
  event.preventDefault();
  const area = picture.getBoundingClientRect();
  const place = (e) => [
    Math.round(Math.min(Math.max((e.clientX - area.left) / area.width, 0), 1) * picture.naturalWidth),
    Math.round(Math.min(Math.max((e.clientY - area.top) / area.height, 0), 1) * picture.naturalHeight),
  ];
  const from = place(event);
  const before = items[index];
  const boxTo = (e) => {
    const to = place(e);
    return [
      Math.min(from[0], to[0]),
      Math.min(from[1], to[1]),
      Math.abs(to[0] - from[0]),
      Math.abs(to[1] - from[1]),
    ];
  };
  const move = (e) => {
    items[index] = { ...before, box: boxTo(e) };
    drawBox(index);
  };
  const end = (e) => {
    window.removeEventListener("pointermove", move);
    window.removeEventListener("pointerup", end);
    window.removeEventListener("pointercancel", end);
    const box = boxTo(e);
    items[index] = before;
    if (e.type === "pointerup" && Math.min(box[2], box[3]) >= 2) setBox(index, box);
    else drawBox(index); // a click draws nothing
  };
  window.addEventListener("pointermove", move);
  window.addEventListener("pointerup", end);
  window.addEventListener("pointercancel", end);
}
