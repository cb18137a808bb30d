// The page's own script: opens what is linked to or printed, sorts tables, explains terms, draws interactive charts.
// Without it everything is there: images of charts, tables in their order, terms in titles. Texts are set as text only.
"use strict";
(() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

  // Sections: a link opens what it leads to; print opens everything.
  const reveal = () => {
    let target = null;
    try {
      target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    } catch {
      return; // no valid address
    }
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  for (const link of all('a[href^="#"]')) link.addEventListener("click", () => setTimeout(reveal));
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
  });
  const expand = document.getElementById("expand");
  expand.hidden = false;
  expand.addEventListener("click", () => {
    const closed = all("details.section:not([open])").length > 0;
    for (const one of all("details.section")) one.open = closed;
    expand.textContent = closed ? "Close all" : "Open all";
  });

  // Tables: a button in each heading sorts by it, numbers by their size.
  const key = (cell) => {
    if (cell.dataset.sort !== undefined) return Number(cell.dataset.sort);
    const text = cell.textContent.trim();
    const number = /^[+−-]?\d[\d,]*(\.\d+)?/.exec(text);
    return number ? Number(number[0].replace(/,/g, "").replace("−", "-")) : text === "–" ? "" : text.toLowerCase();
  };
  const order = (a, b) => {
    if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
    return typeof a === "number" ? -1 : 1;
  };
  const sort = (table, column, head) => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = all("tbody tr", table).map((row) => [key(row.cells[column]), row]);
    rows.sort((a, b) => (down ? order(b[0], a[0]) : order(a[0], b[0])));
    table.tBodies[0].append(...rows.map((row) => row[1]));
  };
  for (const table of all("table.sortable")) {
    if (table.tBodies[0].rows.length < 3) continue;
    all("thead th", table).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.setAttribute("aria-label", `Sort by ${head.textContent || "name"}`);
      button.addEventListener("click", () => sort(table, column, head));
      head.append(button);
    });
  }

  // Terms: what they mean, on hover and on focus, within the window.
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.id = "tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.append(tip);
  const hide = () => {
    tip.hidden = true;
  };
  for (const term of all("abbr[title]")) {
    const words = term.title;
    term.removeAttribute("title");
    term.setAttribute("aria-description", words);
    const tell = () => {
      tip.textContent = words;
      tip.hidden = false;
      const at = term.getBoundingClientRect();
      tip.style.left = `${Math.max(8, Math.min(at.left, innerWidth - tip.offsetWidth - 8))}px`;
      tip.style.top = `${at.bottom + 6 + tip.offsetHeight > innerHeight ? at.top - tip.offsetHeight - 6 : at.bottom + 6}px`;
    };
    term.addEventListener("mouseenter", tell);
    term.addEventListener("focus", tell);
    term.addEventListener("mouseleave", hide);
    term.addEventListener("blur", hide);
  }
  addEventListener("keydown", (event) => event.key === "Escape" && hide());
  addEventListener("scroll", hide, { passive: true });

  // Charts: each is drawn when it comes into view, in the place of its image, which stays if that fails.
  const held = document.getElementById("chart-data");
  if (!held) return;
  const { charts, datasets } = JSON.parse(held.textContent);
  const rowsOf = (table) => {  // tables are held by columns: values, and where each stands if they recur
    if (Array.isArray(table)) return structuredClone(table);
    const columns = Object.entries(table.columns);
    const row = (i) => columns.map(([name, [values, at]]) => [name, at ? values[at[i]] : values[i]]);
    return Array.from({ length: table.n }, (_, i) => Object.fromEntries(row(i)));
  };
  const specOf = (name) => {
    const { datasets: names, ...spec } = charts[name][phone.matches ? "narrow" : "wide"];
    return { ...structuredClone(spec), datasets: Object.fromEntries(names.map((one) => [one, rowsOf(datasets[one])])) };
  };
  const phone = matchMedia("(max-width: 40rem)");
  const draw = async (figure) => {
    const image = figure.querySelector("picture");
    const live = document.createElement("div");
    live.className = "live";
    live.setAttribute("aria-hidden", "true");
    const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true };
    try {
      await vegaEmbed(live, specOf(figure.dataset.chart), options);
    } catch (error) {
      console.error(error);
      return;
    }
    for (const old of all(".live", figure)) old.remove();
    image.after(live);
    image.hidden = true;
    figure.classList.add("drawn");
  };
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "200px" });
  for (const figure of all("figure[data-chart]")) seen.observe(figure);
  phone.addEventListener("change", () => all("figure.drawn").forEach(draw));
  reveal();
})();
