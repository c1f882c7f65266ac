for (const head of document.querySelectorAll(".sortable thead th")) {
  head.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0], column = head.cellIndex;
    const down = head.dataset.order !== "down";
    for (const other of head.parentNode.children) delete other.dataset.order;
    head.dataset.order = down ? "down" : "up";
    const value = row => {
      const cell = row.cells[column];
      if (column === 0) return cell.textContent;
      return cell.dataset.value === "" ? NaN : Number(cell.dataset.value);
    };
    const rows = [...body.rows].sort((a, b) => {
      const x = value(a), y = value(b);
      if (column === 0) return down ? x.localeCompare(y) : y.localeCompare(x);
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
      return down ? y - x : x - y;
    });
    body.append(...rows);
  });
}
