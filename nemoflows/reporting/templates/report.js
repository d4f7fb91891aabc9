// Shows the filter only where it works: without scripts the table is whole.
const box = document.getElementById("filter");
const rows = [...document.querySelectorAll("#calls tbody tr")];
if (box) {
  box.closest("[hidden]").hidden = false;
  const texts = rows.map((row) => row.textContent.toLowerCase());
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/);
    let n = 0;
    rows.forEach((row, at) => {
      row.hidden = !words.every((word) => texts[at].includes(word));
      n += !row.hidden;
    });
    document.getElementById("shown").textContent = n.toLocaleString("en") + " calls";
  });
}
