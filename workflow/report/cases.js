"use strict";
// The page of cases: filters, a list in pages, a case's prompt and answers. Data are shown as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { cases, labels, runs, rules, suites, conditions } = data;
  const n = cases.id.length, PAGE = 25, NOT_ASKED = -2, INVALID = -1;
  const byId = new Map(cases.id.map((id, i) => [String(id), i]));
  const decodings = [...new Set(runs.map((run) => run.decoding))];
  const words = { structured: "structured decoding", free: "free decoding" };

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null) element.setAttribute(name, value);
    }
    for (const child of children.flat(Infinity)) if (child !== null) element.append(child); // strings become text nodes
    return element;
  }
  const isolated = (text, tag = "bdi") => make(tag, { dir: "auto" }, text); // text of a file keeps its direction
  const labelOf = (place) => (place === INVALID ? "invalid" : labels[place]);
  const ruleOf = (i) => (cases.rule[i] < 0 ? null : rules[cases.rule[i]]);

  // ---- filters

  const form = document.getElementById("filters");
  const control = {};
  function option(value, text) { return make("option", { value }, text); }
  function choice(key, title, options) {
    control[key] = make("select", { id: `filter-${key}`, name: key }, options.map(([value, text]) => option(value, text)));
    return make("label", { class: "block", for: `filter-${key}` }, title, control[key]);
  }
  function tick(key, title, checked = false) {
    control[key] = make("input", { type: "checkbox", id: `filter-${key}`, name: key, checked });
    return make("label", { for: `filter-${key}` }, control[key], " ", title);
  }
  const places = (texts, any) => [["", any], ...texts.map((text, place) => [String(place), text])];

  function featureControl(feature, j) {
    const key = `feature-${j}`, title = feature.unit ? `${feature.name} (${feature.unit})` : feature.name;
    if (feature.kind === "number") {
      const ends = ["min", "max"].map((end) => {
        control[`${key}-${end}`] = make("input", { type: "number", step: "any", name: `${key}-${end}`, placeholder: end,
          "aria-label": `${feature.name}: ${end === "min" ? "at least" : "at most"}` });
        return control[`${key}-${end}`];
      });
      return make("div", {}, make("label", { class: "block" }, title), make("div", { class: "range" }, ends));
    }
    const values = [...new Set(cases.values[j].filter((value) => value !== null))].sort();
    if (feature.kind === "choice" && values.length <= 100) {
      return choice(key, title, [["", "any"], ...values.map((value) => [`=${value}`, value])]);
    }
    control[key] = make("input", { type: "search", id: `filter-${key}`, name: key, placeholder: "contains" });
    return make("label", { class: "block", for: `filter-${key}` }, title, control[key]);
  }

  function buildFilters() {
    control.text = make("input", { type: "search", id: "filter-text", name: "text", placeholder: "in prompts and replies" });
    const hidden = rules.map((rule, place) => [String(place), `${rule.name}${rule.hidden ? " (hidden)" : ""}`]);
    const answers = [["", "any"], ...labels.map((label, place) => [String(place), label]), ["-1", "no valid decision"]];
    const boxes = conditions.map((name, c) => tick(`condition-${c}`, isolated(name), true));
    const all = make("button", { type: "button" }, "All"), none = make("button", { type: "button" }, "None");
    all.addEventListener("click", () => setConditions(true));
    none.addEventListener("click", () => setConditions(false));
    const clear = make("button", { type: "button", id: "clear" }, "Clear filters");
    clear.addEventListener("click", () => { form.reset(); apply(); });
    const parts = [
      make("fieldset", {}, make("legend", {}, "Show"),
        tick("wrong", "wrong (invalid included)"), tick("invalid", "invalid replies"),
        tick("disagree", "conditions disagree"), tick("hidden", "a hidden rule fires"),
        make("label", { class: "block", for: "filter-text" }, "Text", control.text),
        choice("suite", "Suite", places(suites, "any")),
        decodings.length > 1 ? choice("decoding", "Decoding", [["", "any"], ...decodings.map((d) => [d, words[d] || d])]) : null,
        data.seeds.length > 1 ? choice("seed", "Seed", [["", "any"], ...data.seeds.map((s) => [String(s), String(s)])]) : null,
        choice("label", "True decision", places(labels, "any")),
        choice("answer", "Answered", answers),
        choice("rule", "Rule that fired", [["", "any"], ...hidden])),
      make("fieldset", {}, make("legend", {}, "Conditions"), boxes, make("div", {}, all, " ", none)),
      make("details", {}, make("summary", {}, "Feature values"), data.features.map(featureControl)),
      make("p", {}, clear),
    ];
    if (window.matchMedia("(max-width: 52rem)").matches) {
      form.append(make("details", {}, make("summary", {}, "Filters"), parts));
    } else form.append(...parts);
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
  }
  function setConditions(checked) {
    conditions.forEach((_, c) => { control[`condition-${c}`].checked = checked; });
    apply();
  }

  const texts = []; // lower case, made when the text filter first needs them
  function textOf(i) {
    if (texts[i] === undefined) {
      const said = new Set(runs.filter((run) => run.reply[i] >= 0).map((run) => data.replies[run.reply[i]]));
      texts[i] = [cases.id[i], cases.prompt[i], ...said].join("\n").toLowerCase();
    }
    return texts[i];
  }
  const value = (key) => (control[key] ? control[key].value : "");
  function considered() {
    return runs.filter((run) => control[`condition-${run.condition}`].checked
      && (!value("decoding") || run.decoding === value("decoding")) && (!value("seed") || String(run.seed) === value("seed")));
  }
  function disagree(i, used) { // under one seed and decoding, two conditions that answer otherwise
    const first = new Map();
    for (const run of used) {
      const answer = run.answer[i], key = `${run.seed} ${run.decoding}`;
      if (answer === NOT_ASKED) continue;
      if (first.has(key) && first.get(key) !== answer) return true;
      first.set(key, answer);
    }
    return false;
  }
  function featureHolds(i) {
    return data.features.every((feature, j) => {
      const key = `feature-${j}`, held = cases.values[j][i];
      if (feature.kind === "number") {
        const low = value(`${key}-min`), high = value(`${key}-max`);
        return (low === "" || (held !== null && held >= Number(low))) && (high === "" || (held !== null && held <= Number(high)));
      }
      const wanted = value(key);
      if (wanted === "") return true;
      if (control[key].tagName === "SELECT") return `=${held}` === wanted;
      return held !== null && String(held).toLowerCase().includes(wanted.toLowerCase());
    });
  }
  function matches(i, used) {
    const asked = used.filter((run) => run.answer[i] !== NOT_ASKED), rule = ruleOf(i);
    return (asked.length > 0 || !runs.some((run) => run.answer[i] !== NOT_ASKED))
      && (value("suite") === "" || cases.suite[i] === Number(value("suite")))
      && (value("label") === "" || cases.label[i] === Number(value("label")))
      && (value("rule") === "" || cases.rule[i] === Number(value("rule")))
      && (value("answer") === "" || asked.some((run) => run.answer[i] === Number(value("answer"))))
      && (!control.hidden.checked || (rule !== null && rule.hidden))
      && (!control.wrong.checked || asked.some((run) => run.answer[i] !== cases.label[i]))
      && (!control.invalid.checked || asked.some((run) => run.answer[i] === INVALID))
      && (!control.disagree.checked || disagree(i, asked))
      && featureHolds(i)
      && (value("text") === "" || textOf(i).includes(value("text").toLowerCase()));
  }

  // ---- the list

  let found = [], page = 0;
  function apply() {
    const used = considered();
    found = [];
    for (let i = 0; i < n; i++) if (matches(i, used)) found.push(i);
    page = 0;
    show();
  }
  function show() {
    const used = considered(), last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    page = Math.min(page, last);
    const count = (k) => `${k.toLocaleString("en")} ${k === 1 ? data.one : data.many}`;
    document.getElementById("count").textContent = found.length === n ? count(n) : `${count(found.length)} of ${n.toLocaleString("en")}`;
    const shown = found.slice(page * PAGE, (page + 1) * PAGE);
    document.getElementById("list").replaceChildren(...shown.map((i) => card(i, used)),
      ...(shown.length ? [] : [make("p", { class: "note" }, "Nothing matches these filters.")]));
    const turn = (text, by) => {
      const button = make("button", { type: "button", disabled: page + by < 0 || page + by > last }, text);
      button.addEventListener("click", () => { page += by; show(); window.scrollTo(0, 0); });
      return button;
    };
    document.getElementById("pages").replaceChildren(
      turn("Previous", -1), make("span", {}, `${page + 1} of ${last + 1}`), turn("Next", 1));
  }

  function kindOf(answer, truth) { return answer === INVALID ? "invalid" : answer === truth ? "right" : "wrong"; }
  const MARK = { right: "✓", wrong: "✗", invalid: "∅" };

  function chip(i, c, used) {
    const asked = used.filter((run) => run.condition === c && run.answer[i] !== NOT_ASKED);
    if (!asked.length) return null;
    const kinds = asked.map((run) => kindOf(run.answer[i], cases.label[i])), right = kinds.filter((kind) => kind === "right").length;
    const same = new Set(asked.map((run) => run.answer[i])).size === 1;
    if (same) {
      const said = kinds[0] === "right" ? "" : ` ${labelOf(asked[0].answer[i])}`;
      return make("span", { class: `chip ${kinds[0]}` }, `${MARK[kinds[0]]} `, isolated(conditions[c]), isolated(said));
    }
    return make("span", { class: right ? "chip mixed" : "chip wrong" }, `${right}/${kinds.length} `, isolated(conditions[c]));
  }

  function card(i, used) {
    const rule = ruleOf(i), id = String(cases.id[i]);
    const why = rule === null ? "" : ` (${rule.name}${rule.hidden ? ", hidden" : ""})`;
    const element = make("details", { class: "case", id: `case-${id}` },
      make("summary", {}, make("strong", {}, id), ` · ${suites[cases.suite[i]]} · true decision `,
        make("strong", {}, isolated(labels[cases.label[i]])), isolated(why),
        make("div", { class: "chips" }, conditions.map((_, c) => chip(i, c, used)))));
    element.addEventListener("toggle", () => {
      if (element.open && element.children.length === 1) element.append(inside(i, used));
    });
    return element;
  }

  function pair(term, text) { return [make("dt", {}, isolated(term)), make("dd", {}, isolated(text))]; }
  function inside(i, used) {
    const rule = ruleOf(i), id = String(cases.id[i]);
    const facts = [pair("true decision", labels[cases.label[i]])];
    if (rule !== null) facts.push(pair("rule that fired", `${rule.name}${rule.hidden ? " (hidden)" : ""}${rule.when ? `: ${rule.when}` : ""}`));
    facts.push(pair("without hidden rules", cases.without[i] < 0 ? "nothing is stated" : labels[cases.without[i]]));
    if (cases.role && cases.role[i]) facts.push(pair("role in its family", `${cases.role[i]} (family ${cases.family[i]})`));
    const values = data.features.map((feature, j) => pair(feature.name, cases.values[j][i] === null ? "missing" : String(cases.values[j][i])));
    const own = Object.entries(data.prompts).map(([name, what]) => `${name}: ${what}`).join("; ");
    return make("div", { class: "inside" },
      make("p", { class: "note" }, make("a", { href: `#case-${id}` }, `Link to ${data.one} ${id}`)),
      make("h2", {}, "Decision"), make("dl", {}, facts),
      make("h2", {}, "Prompt"), make("pre", { tabindex: "0", role: "group", "aria-label": "system message", dir: "auto" }, data.system[cases.system[i]]),
      make("pre", { tabindex: "0", role: "group", "aria-label": "user message", dir: "auto" }, cases.prompt[i]),
      own ? make("p", { class: "note" }, "With a prompt of their own: ", isolated(own), ".") : null,
      make("details", {}, make("summary", {}, "Feature values"), make("dl", {}, values)),
      make("h2", {}, "Answers"), answers(i, used));
  }

  function answers(i, used) {
    const asked = used.filter((run) => run.answer[i] !== NOT_ASKED);
    const several = { seed: data.seeds.length > 1, decoding: decodings.length > 1 };
    const known = labels.map((_, l) => l).filter((l) => asked.some((run) => share(run, i, l) !== null));
    const head = ["condition", ...(several.seed ? ["seed"] : []), ...(several.decoding ? ["decoding"] : []), "answer", "reply",
      ...known.map((l) => `p(${labels[l]})`)];
    const rows = asked.map((run) => {
      const kind = kindOf(run.answer[i], cases.label[i]);
      const cells = [make("th", { scope: "row" }, isolated(conditions[run.condition]))];
      if (several.seed) cells.push(make("td", {}, String(run.seed)));
      if (several.decoding) cells.push(make("td", {}, run.decoding));
      cells.push(make("td", { class: kind }, `${MARK[kind]} `, isolated(labelOf(run.answer[i]))));
      cells.push(make("td", { class: "reply", dir: "auto" }, run.reply[i] < 0 ? "–" : data.replies[run.reply[i]]));
      return make("tr", {}, cells, known.map((l) => shareCell(share(run, i, l))));
    });
    const table = make("table", {}, make("thead", {}, make("tr", {}, head.map((text) => make("th", { scope: "col" }, isolated(text))))),
      make("tbody", {}, rows));
    return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `answers to ${cases.id[i]}` }, table);
  }
  function share(run, i, l) { const p = run.p[i * (run.p.length / n) + l]; return p === undefined ? null : p; }
  function shareCell(p) {
    if (p === null) return make("td", {}, "–");
    const bar = make("span");
    bar.style.width = `${p / 10}%`;
    return make("td", { class: "share number" }, `${(p / 10).toFixed(1)}%`, bar);
  }

  // ---- links to a case

  function follow() {
    const id = /^#case-(-?\d+)$/.exec(window.location.hash);
    if (!id) return;
    if (!byId.has(id[1])) {
      document.getElementById("count").textContent = `${data.one} ${id[1]} is not in this file.`;
      return;
    }
    const i = byId.get(id[1]);
    if (!found.includes(i)) { form.reset(); apply(); }
    page = Math.floor(found.indexOf(i) / PAGE);
    show();
    const element = document.getElementById(`case-${id[1]}`);
    element.open = true;
    element.scrollIntoView();
    element.querySelector("summary").focus({ preventScroll: true });
  }

  buildFilters();
  apply();
  follow();
  window.addEventListener("hashchange", follow);
})();
