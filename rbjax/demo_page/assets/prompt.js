// The prompt: completes tags and marks those that a reference decides or the model does not know.
const input = element.querySelector("#rb-prompt-input");
const list = element.querySelector("#rb-suggestions");
const marks = element.querySelector(".rb-marks");
let chosen = -1;
let timer = null;
let call = 0;

async function mark() {
  const number = ++call;
  const found = await server.mark({ prompt: input.value, concepts: document.rbjaxConcepts || [] });
  if (number !== call) return;
  marks.replaceChildren(
    ...found.map(({ tag, mark, note }) => {
      const node = document.createElement("li");
      node.className = `rb-mark rb-${mark}`;
      node.textContent = note ? `${tag}: ${note}` : tag;
      return node;
    }),
  );
}

async function suggest() {
  const text = input.value;
  const found = await server.complete({ prompt: text });
  if (text !== input.value || document.activeElement !== input) return;
  show(found);
}

function show(tags) {
  chosen = -1;
  input.removeAttribute("aria-activedescendant");
  list.replaceChildren(
    ...tags.map((tag, index) => {
      const node = document.createElement("li");
      node.id = `rb-suggestion-${index}`;
      node.setAttribute("role", "option");
      node.setAttribute("aria-selected", "false");
      node.textContent = tag;
      node.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        accept(tag);
      });
      return node;
    }),
  );
  list.hidden = !tags.length;
  input.setAttribute("aria-expanded", String(!list.hidden));
}

function select(index) {
  const options = [...list.children];
  chosen = (index + options.length) % options.length;
  options.forEach((node, i) => node.setAttribute("aria-selected", String(i === chosen)));
  input.setAttribute("aria-activedescendant", options[chosen].id);
}

function accept(tag) {
  const done = input.value.split(",").slice(0, -1).map((part) => part.trim());
  input.value = [...done, tag].join(", ") + ", ";
  show([]);
  changed();
}

function changed() {
  props.value = input.value;
  clearTimeout(timer);
  timer = setTimeout(mark, 120);
}

input.addEventListener("input", () => {
  changed();
  suggest();
});
input.addEventListener("blur", () => show([]));
input.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (list.hidden || chosen < 0)) trigger("submit");
  if (list.hidden) return;
  if (event.key === "ArrowDown") select(chosen + 1);
  else if (event.key === "ArrowUp") select(chosen < 0 ? -1 : chosen - 1);
  else if ((event.key === "Enter" || event.key === "Tab") && chosen >= 0) accept(list.children[chosen].textContent);
  else if (event.key === "Escape") show([]);
  else return;
  event.preventDefault();
});
document.addEventListener("rbjax-references", changed);
watch("value", () => {
  input.value = props.value || "";
  mark();
});
input.value = props.value || "";
mark();
