"use strict";
const table = document.getElementById("table");
const body = table.tBodies[0];
const rows = [...body.rows];
const heads = [...table.tHead.rows[0].cells];
const form = document.querySelector(".filter");
const search = document.getElementById("name");
const below = document.getElementById("below");

// Numbers sort as numbers, all else as text; what has no number comes last.
const value = (row, column) => {
  const text = row.cells[column].textContent;
  const number = parseFloat(text);
  return column === 0 || text === "yes" || text === "no" ? text : Number.isNaN(number) ? Infinity : number;
};

heads.forEach((head, column) => {
  const button = document.createElement("button");
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const down = head.ariaSort === "ascending";
    heads.forEach((other) => { other.ariaSort = null; });
    head.ariaSort = down ? "descending" : "ascending";
    const keys = new Map(rows.map((row) => [row, value(row, column)]));
    const sign = down ? -1 : 1;
    rows.sort((a, b) => (keys.get(a) < keys.get(b) ? -sign : keys.get(a) > keys.get(b) ? sign : 0));
    body.append(...rows);
  });
});

const filter = () => {
  const wanted = search.value.trim().toLowerCase();
  let shown = 0;
  for (const row of rows) {
    row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted)
      || (below.checked && parseFloat(row.cells[1].textContent) >= Number(table.dataset.failure));
    shown += !row.hidden;
  }
  document.getElementById("shown").textContent = `${shown} of ${rows.length} images`;
};
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
filter();

// A link to a row that the filter hides shows all rows again.
window.addEventListener("hashchange", () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target && target.hidden) {
    form.reset();
    filter();
    target.scrollIntoView();
  }
});
