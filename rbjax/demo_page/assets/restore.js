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
area.addEventListener("dragover", (event) => {
  event.preventDefault();
  area.classList.add("rb-over");
});
area.addEventListener("dragleave", () => area.classList.remove("rb-over"));
area.addEventListener("drop", (event) => {
  event.preventDefault();
  event.stopPropagation();
  area.classList.remove("rb-over");
  take(event.dataTransfer.files[0]);
});
