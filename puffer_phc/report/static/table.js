// Tables whose headings sort and whose boxes above filter; numbers stand in data-value, so that "–" sorts last either way.
function sortable(table) {
  const body = table.tBodies[0];
  table.querySelectorAll("th[data-sort]").forEach((heading) => {
    heading.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") ? heading.getAttribute("aria-sort") !== "ascending" : heading.dataset.sort === "up";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      sort();
    });
  });
  const sort = () => {
    const heading = table.querySelector("th[aria-sort]");
    if (!heading) return;
    const column = heading.cellIndex, sign = heading.getAttribute("aria-sort") === "ascending" ? 1 : -1;
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    [...body.rows].map((row) => [value(row), row]).sort(([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      const x = Number(a), y = Number(b);
      return sign * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y);
    }).forEach(([, row]) => body.append(row));
  };
  return sort;
}
function filterable(table, search, select, count) {
  const show = () => {
    const words = (search?.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const name = row.cells[0].textContent.toLowerCase(), kinds = (row.dataset.kinds || "").split(" ");
      row.hidden = !(words.every((word) => name.includes(word)) && (!select.value || kinds.includes(select.value)));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${table.tBodies[0].rows.length} ${table.id}`;
  };
  search?.addEventListener("input", show);
  select.addEventListener("change", show);
  show();
  return show;
}
