"use strict";

// Columns of a table sort when their heading is pressed: a first time upwards, a second time downwards.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? parseFloat(cell.dataset.value) : cell.textContent.trim();
  };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [key(row, column), row]);
      rows.sort(([a], [b]) => {
        // What has no number comes last, whichever way.
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        const order = typeof a === "number" ? a - b : a.localeCompare(b);
        return down ? -order : order;
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}

// The controls of small videos hide half of them: one button for all clips, and a click on one, take their place.
const videos = [...document.querySelectorAll("#clips video")];
if (videos.length > 0) {
  const button = document.createElement("button");
  button.type = "button";
  const play = (on) => {
    button.textContent = on ? "Pause the clips" : "Play the clips";
    button.onclick = () => play(!on);
    for (const video of videos) {
      if (on) video.play().catch(() => {});
      else video.pause();
    }
  };
  for (const video of videos) {
    video.controls = false;
    video.addEventListener("click", () => (video.paused ? video.play() : video.pause()));
  }
  document.getElementById("clips").before(button);
  // Whoever asks for less motion starts them himself.
  play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
}
