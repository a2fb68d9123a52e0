// Hands a picture that was made here to the server, which reads its settings.
const input = element.querySelector("input");
const area = element.querySelector(".rb-restore");

function take(file) {
  if (!file) return;
  const reader = new FileReader();
  reader.onload = () => {
    props.value = reader.result;
    trigger("change");
  };
  reader.readAsDataURL(file);
}

input.addEventListener("change", () => {
  take(input.files[0]);
  input.value = "";
});
area.addEventListener("dragover", () => area.classList.add("rb-over"));
area.addEventListener("dragleave", () => area.classList.remove("rb-over"));
area.addEventListener("drop", () => area.classList.remove("rb-over"));
// Anywhere but at the references; the browser would leave the page and show the picture.
const isFile = (event) => !event.defaultPrevented && event.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (isFile(event)) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  if (!isFile(event)) return;
  event.preventDefault();
  take(event.dataTransfer.files[0]);
});
