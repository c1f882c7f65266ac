const cards = [...document.querySelectorAll("article")], box = document.querySelector("dialog");
const kinds = ["image", "mask", "overlay"];
let at = 0, kind = "overlay";
document.querySelector("#opacity").oninput = e =>
  document.documentElement.style.setProperty("--opacity", e.target.value / 100);
function show() {
  const picture = cards[at].querySelector(`[data-kind=${kind}]`).cloneNode(true);
  const line = document.createElement("p");
  const name = cards[at].querySelector("h2").textContent, keys = "arrows: other samples, 1 2 3: image, mask, overlay";
  line.textContent = `${name} \u2013 ${kind} (${at + 1} of ${cards.length}; ${keys})`;
  picture.onclick = () => box.close();
  box.replaceChildren(line, picture);
  if (!box.open) box.showModal();
}
cards.forEach((card, place) => card.querySelectorAll(".pic").forEach(p => p.onclick = () => {
  at = place; kind = p.dataset.kind; show();
}));
addEventListener("keydown", e => {
  if (!box.open) return;
  if (e.key === "ArrowRight" || e.key === "ArrowLeft")
    at = (at + (e.key === "ArrowRight" ? 1 : cards.length - 1)) % cards.length;
  else if ("123".includes(e.key)) kind = kinds[e.key - 1];
  else return;
  e.preventDefault(); show();
});
