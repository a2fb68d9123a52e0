// The reference slots: element, props, trigger, server and watch are Gradio's (gr.HTML, js_on_load).
const TYPES = props.types;
const MAX = props.max_references;
const MAX_BYTES = props.max_bytes;
let items = [];
let crops = [];
const slots = element.querySelector(".rb-slots");
const problem = element.querySelector(".rb-problem");
const chosenType = () => element.querySelector("input[name=rb-type]:checked").value;

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

function say(text) {
  problem.textContent = text;
  problem.hidden = !text;
}

function publish() {
  props.value = items.map((item) => ({ ...item }));
  document.rbjaxConcepts = items.map((item) => item.concept); // the prompt may load later
  document.dispatchEvent(new CustomEvent("rbjax-references"));
}

function changed(moved = null) {
  publish();
  const restoreFocus = keepFocus(moved);
  render();
  restoreFocus();
}

function controlsOf(slot) {
  return [...slot.querySelectorAll("button, select, input")];
}

// Who uses the keyboard stays at the same control, of the slot `moved` where the slot has moved.
function keepFocus(moved) {
  const slot = document.activeElement?.closest(".rb-slot");
  if (!slot || !slots.contains(slot)) return () => {};
  const index = moved ?? [...slots.children].indexOf(slot);
  const control = controlsOf(slot).indexOf(document.activeElement);
  return () => {
    const target = slots.children[Math.min(index, items.length - 1)];
    const controls = target ? controlsOf(target) : [element.querySelector(".rb-upload")];
    const wanted = target ? controls[control] : controls[0];
    (wanted.disabled ? controls.find((node) => node.matches("button:enabled")) : wanted).focus();
  };
}

async function showCrop(index) {
  const item = items[index];
  const slot = slots.children[index];
  if (!slot || !item.picture) return;
  const answer = await server.preview({ item, number: index + 1 });
  if (items[index] !== item || slots.children[index] !== slot) return; // changed meanwhile
  slot.querySelector(".rb-slot-problem").textContent = answer.error || "";
  const crop = slot.querySelector(".rb-crop img");
  crop.hidden = !answer.crop;
  if (answer.crop) crop.src = answer.crop;
}

function numbers(index) {
  const names = ["Left", "Top", "Width", "Height"];
  const fields = names.map((name, i) => {
    const input = make("input", {
      type: "number",
      min: i < 2 ? 0 : 1,
      step: 1,
      onchange: () => {
        const values = fields.map((field) => Math.round(Number(field.querySelector("input").value)));
        setBox(index, values);
      },
    });
    return make("label", {}, name, input);
  });
  return make("div", { class: "rb-numbers", role: "group", "aria-label": "Box in pixels" }, ...fields);
}

function button(text, label, action, disabled = false) {
  return make("button", { type: "button", "aria-label": label, title: label, disabled, onclick: action }, text);
}

function slotOf(item, index) {
  const name = `Reference ${index + 1}`;
  const select = make("select", {
    onchange: (event) => {
      items[index] = { ...items[index], concept: event.target.value };
      changed();
    },
  });
  for (const type of TYPES) select.append(make("option", { value: type, selected: type === item.concept }, type));
  const picture = make("img", { alt: `${name}, the picture`, draggable: "false" });
  picture.addEventListener("load", () => drawBox(index));
  picture.addEventListener("error", () => picture.removeAttribute("src"));
  if (item.picture) picture.src = item.picture;
  const file = make("input", {
    type: "file",
    accept: "image/*",
    class: "rb-file",
    "aria-label": `Choose another picture for reference ${index + 1}`,
    onchange: (event) => take(event.target.files, index),
  });
  const mask = make("input", {
    type: "file",
    accept: "image/*",
    class: "rb-mask-file",
    "aria-label": `Choose a mask for reference ${index + 1}, white where the ${item.concept} is`,
    onchange: (event) => {
      takeMask(event.target.files[0], index);
      event.target.value = "";
    },
  });
  const area = make(
    "div",
    { class: "rb-area", onpointerdown: (event) => startDrawing(index, event) },
    picture,
    make("div", { class: "rb-box", hidden: true }),
  );
  const slot = make(
    "li",
    { class: "rb-slot", "aria-label": `${name}: ${item.concept}` },
    make(
      "div",
      { class: "rb-slot-head" },
      make("strong", {}, name),
      make("label", {}, "Type ", select),
      make(
        "span",
        { class: "rb-buttons" },
        button("↑", `Move reference ${index + 1} up`, () => swap(index, index - 1), index === 0),
        button("↓", `Move reference ${index + 1} down`, () => swap(index, index + 1), index === items.length - 1),
        button("Remove", `Remove reference ${index + 1}`, () => remove(index)),
      ),
    ),
    make(
      "div",
      { class: "rb-slot-body" },
      make("figure", { class: "rb-draw" }, area, make("figcaption", {}, `Drag a box around the ${item.concept}`)),
      make(
        "figure",
        { class: "rb-crop" },
        make("img", { alt: `${name}, what the model sees`, hidden: true }),
        make("figcaption", {}, "What the model sees"),
      ),
    ),
    numbers(index),
    make(
      "div",
      { class: "rb-slot-foot" },
      button("Entire picture", `Use the entire picture of reference ${index + 1}`, () => setBox(index, null)),
      make("label", { class: "rb-choose" }, "Other picture", file),
      make("label", { class: "rb-choose" }, `Mask of the ${item.concept}`, mask),
    ),
    make("p", { class: "rb-slot-problem", role: "alert" }),
  );
  onDrop(slot, (files) => take(files, index));
  return slot;
}

function render() {
  slots.replaceChildren(...items.map(slotOf));
  items.forEach((_, index) => showCrop(index));
  element.querySelector(".rb-none").hidden = items.length > 0;
}

function swap(a, b) {
  [items[a], items[b]] = [items[b], items[a]];
  changed(b);
}

function remove(index) {
  items.splice(index, 1);
  say("");
  changed();
}

function add(item) {
  if (items.length >= MAX) {
    say(`There are ${MAX} references already, which is the most: remove one first.`);
    return;
  }
  say("");
  items.push(item);
  changed();
}

function read(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

async function takeMask(file, index) {
  if (!file) return;
  const item = items[index];
  const answer = await server.mask({ item, mask: await read(file), number: index + 1 });
  if (items[index] !== item) return; // changed meanwhile
  if (answer.box) setBox(index, answer.box);
  else slots.children[index].querySelector(".rb-slot-problem").textContent = answer.error;
}

async function take(files, index = null) {
  for (const file of files) {
    if (!file.type.startsWith("image/")) {
      say(`${file.name} is no picture: use a PNG, JPEG or WebP file.`);
      continue;
    }
    if (file.size > MAX_BYTES) {
      say(`${file.name} has more than ${MAX_BYTES >> 20} MB: make it smaller.`);
      continue;
    }
    const picture = await read(file);
    if (index === null) add({ concept: chosenType(), picture, box: null });
    else {
      say("");
      items[index] = { ...items[index], picture, box: null };
      changed();
    }
  }
}

function onDrop(node, receive) {
  node.addEventListener("dragover", (event) => {
    event.preventDefault();
    node.classList.add("rb-over");
  });
  node.addEventListener("dragleave", () => node.classList.remove("rb-over"));
  node.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    node.classList.remove("rb-over");
    if (event.dataTransfer.files.length) receive(event.dataTransfer.files);
    else say("Drop picture files: links to pictures of other pages are not opened.");
  });
}

element.querySelector(".rb-upload").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = "";
});
onDrop(element.querySelector(".rb-drop"), (files) => take(files));
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files || [])];
  if (files.length && element.offsetParent) take(files);
});
element.querySelector(".rb-gallery").addEventListener("click", (event) => {
  const portrait = event.target.closest("button[data-index]");
  if (!portrait) return;
  const { picture, boxes } = props.gallery[Number(portrait.dataset.index)];
  const concept = chosenType();
  add({ concept, picture, box: boxes[concept] || null });
});
watch("value", () => {
  items = (props.value || []).map((item) => ({ ...item }));
  say("");
  publish();
  render();
});
items = (props.value || []).map((item) => ({ ...item }));
publish();
render();
