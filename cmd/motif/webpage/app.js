"use strict";

// Text goes into text nodes only: nothing that others wrote is ever parsed as HTML.

const samples = 60; // depths that a sparkline shows
const interval = 3000; // ms from one look at all depths to the next
const intervalOfRuns = 400; // likewise of runs, while one is under way

const at = (id) => document.getElementById(id);

// node makes an element with classes, text or children.
function node(name, classes, ...children) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  made.append(...children.map((c) => (c instanceof Node ? c : document.createTextNode(String(c)))));
  return made;
}

function cell(label, classes, ...children) {
  const made = node("td", classes, ...children);
  if (label) made.dataset.label = label;
  return made;
}

function button(label, classes, act) {
  const made = node("button", classes, label);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

const plural = (n, thing) => n + " " + thing + (n === 1 ? "" : "s");
const known = (n) => (n === undefined ? "?" : n);

// The key came behind the #. This tab keeps it, and shows it no more.
if (location.hash.length > 1) {
  sessionStorage.setItem("key", location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
}

// ask sends a request, and throws what the server says is wrong.
async function ask(path, body) {
  const request = { headers: { Authorization: "Bearer " + (sessionStorage.getItem("key") || "") } };
  if (body !== undefined) {
    request.method = "POST";
    request.headers["Content-Type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch("api/" + path, request);
  } catch {
    throw new Error("motif web does not answer: has it ended?");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function complain(id, problem) {
  at(id).textContent = problem ? problem.message : "";
  at(id).hidden = !problem;
}

// Queues.

let write = false;
const depths = new Map(); // of each queue, the last samples

async function showQueues() {
  const answer = await ask("queues");
  write = answer.write;
  at("broker").textContent = answer.broker;
  at("mode").textContent = write ? "may replay and delete" : "read-only";
  at("mode").hidden = false;
  at("look-note").hidden = !answer.counts_looks;
  const names = new Set(answer.queues.map((q) => q.name));
  for (const name of depths.keys()) if (!names.has(name)) depths.delete(name);
  const focused = document.activeElement.dataset.letters; // which a new row would lose
  at("queues").tBodies[0].replaceChildren(...answer.queues.map(queueRow));
  if (focused) [...document.querySelectorAll("#queues button")].find((b) => b.dataset.letters === focused)?.focus();
  at("queues-note").textContent = answer.more ? plural(answer.more, "more queue") + " not shown." : answer.queues.length ? "" : "There is no queue.";
}

function queueRow(q) {
  const seen = depths.get(q.name) || [];
  if (q.ready !== undefined) seen.push(q.ready);
  if (seen.length > samples) seen.shift();
  depths.set(q.name, seen);
  const dead = cell("Dead letters", "");
  if (q.letters) {
    const count = q.dead === undefined ? q.ready : q.dead;
    const look = button(count === undefined ? "Look" : "Look at " + count, "small", () => {
      at("filter").elements.queue.value = q.letters;
      showDead();
    });
    look.dataset.letters = q.letters;
    look.setAttribute("aria-label", "Look at the dead letters in " + q.letters);
    dead.append(look);
  }
  return node("tr", "",
    cell("Queue", "name", q.label), cell("Ready", "number", known(q.ready)), cell("", "", sparkline(seen)),
    cell("In hand", "number", known(q.in_hand)), cell("Consumers", "number", known(q.consumers)), cell("Age", "number", q.age), dead);
}

function sparkline(values) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const most = Math.max(1, ...values);
  const add = (name, attribute, value) => {
    const part = document.createElementNS(svg.namespaceURI, name);
    part.setAttribute(attribute, value);
    svg.append(part);
  };
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", `0 0 ${samples - 1} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", values.length ? `${values[0]} when the page was opened or ${plural(values.length, "look")} ago, ${Math.max(...values)} at most, ${values.at(-1)} now` : "unknown");
  add("path", "d", `M0 19.5H${samples - 1}`);
  const first = samples - values.length;
  const points = values.map((v, n) => `${first + n},${(19 - (18 * v) / most).toFixed(1)}`);
  if (points.length === 1) points.unshift(`${first - 1},${points[0].split(",")[1]}`);
  add("polyline", "points", points.join(" "));
  return svg;
}

// Dead letters.

let looking = 0; // the last request
let looked = null; // what the list was asked with
let letters = []; // what is shown
let matched = 0;
const chosen = new Set(); // digests

function filterOf() {
  return Object.fromEntries([...new FormData(at("filter"))].filter(([, value]) => value !== ""));
}

async function showDead() {
  const filter = filterOf();
  if (!filter.queue) return;
  const mine = ++looking;
  at("look").disabled = true;
  complain("dead-problem", null);
  try {
    const answer = await ask("dead?" + new URLSearchParams(filter));
    if (mine !== looking) return;
    looked = filter;
    letters = answer.letters;
    matched = answer.matched;
    chosen.clear();
    at("all").checked = at("all-shown").checked = false;
    let count = `${matched} of ${plural(answer.seen + answer.unseen, "letter")} in ${filter.queue}`;
    if (letters.length < matched) count += `, of which the first ${letters.length} are shown`;
    if (answer.unseen) count += `; ${answer.unseen} behind them were not looked at`;
    at("dead-count").textContent = count + ".";
    at("letters").tBodies[0].replaceChildren(...letters.map(letterRow));
  } catch (problem) {
    if (mine !== looking) return;
    complain("dead-problem", problem);
    letters = [];
    matched = 0;
    at("dead-count").textContent = "";
    at("letters").tBodies[0].replaceChildren();
  }
  at("look").disabled = false;
  at("letters").hidden = letters.length === 0;
  at("actions").hidden = !write || letters.length === 0;
  at("all-label").hidden = letters.length >= matched;
  at("all-text").textContent = `All ${matched} that the filter picks`;
  count();
}

function letterRow(l) {
  const box = node("input");
  box.type = "checkbox";
  box.value = l.digest;
  box.setAttribute("aria-label", "Choose letter " + l.ref);
  box.addEventListener("change", () => {
    if (box.checked) chosen.add(l.digest);
    else chosen.delete(l.digest);
    count();
  });
  const explain = button("Explain", "small explain", () => {
    const open = explain.getAttribute("aria-expanded") === "true";
    explain.setAttribute("aria-expanded", String(!open));
    if (open) row.nextSibling.remove();
    else row.after(details(l));
  });
  explain.setAttribute("aria-expanded", "false");
  const row = node("tr", "letter",
    cell("", "choice", ...(write ? [box] : [])), cell("ID", "name", l.ref), cell("Age", "number", l.age), cell("Attempts", "number", l.attempts || "-"),
    cell("From", "", l.from || "?"), cell("Bytes", "number", l.bytes), cell("Reason", "", l.reason || "?"), cell("", "", explain));
  return row;
}

function details(l) {
  const fields = node("dl");
  for (const [name, value] of l.fields) fields.append(node("dt", "", name), node("dd", "", value));
  const all = cell("", "", node("ul", "sentences", ...l.sentences.map((s) => node("li", "", s))), fields,
    node("p", "note", `Payload, ${plural(l.bytes, "byte")}:`), node("pre", "", l.payload));
  all.colSpan = 8;
  if (l.more) all.append(node("p", "note", `… ${plural(l.more, "byte")} more; motif dead show and export have them.`));
  if (l.note) all.append(node("p", "note", l.note));
  return node("tr", "details", all);
}

// count says how many letters are chosen.
function count() {
  const n = at("all").checked ? matched : chosen.size;
  at("chosen").textContent = n ? plural(n, "letter") + " chosen" : "";
  at("replay").disabled = at("drop").disabled = n === 0;
  at("all-shown").checked = chosen.size > 0 && chosen.size === new Set(letters.map((l) => l.digest)).size;
  return n;
}

at("all").addEventListener("change", count);
at("all-shown").addEventListener("change", () => {
  for (const box of document.querySelectorAll("#letters input[type=checkbox]")) {
    box.checked = at("all-shown").checked;
    if (box.checked) chosen.add(box.value);
    else chosen.delete(box.value);
  }
  count();
});
at("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  showDead();
});

// Replay and drop, behind a question.

let order = null; // what "yes" sends

function confirm(verb) {
  const n = count();
  if (!n) return;
  order = { verb, body: { queue: looked.queue, limit: n } };
  if (at("all").checked) {
    const { header, path, queue, ...rest } = looked;
    Object.assign(order.body, rest, { all: true, header: header ? [header] : [], path: path ? [path] : [] });
  } else {
    order.body.refs = [...chosen];
  }
  const drop = verb === "drop";
  at("confirm-head").textContent = `${drop ? "Delete" : "Replay"} ${plural(n, "letter")}?`;
  at("confirm-text").textContent = drop
    ? `What is deleted from ${looked.queue} is gone for good: nothing brings it back.`
    : `Each is sent to the queue that it died in, and leaves ${looked.queue} when the broker has confirmed it there.`;
  at("confirm-replay").hidden = drop;
  at("to").value = at("rate").value = "";
  at("yes").textContent = drop ? `Delete ${plural(n, "letter")}` : `Replay ${plural(n, "letter")}`;
  at("yes").className = drop ? "go danger" : "go";
  complain("confirm-problem", null);
  at("confirm").showModal();
  at("cancel").focus();
}

at("replay").addEventListener("click", () => confirm("replay"));
at("drop").addEventListener("click", () => confirm("drop"));
at("cancel").addEventListener("click", () => at("confirm").close());
at("yes").addEventListener("click", async () => {
  const body = { ...order.body };
  if (!at("rate").validity.valid) return complain("confirm-problem", new Error("The rate is a number of letters a second."));
  if (order.verb === "replay") {
    if (at("to").value) body.to = at("to").value;
    if (at("rate").value) body.rate = Number(at("rate").value);
  }
  at("yes").disabled = true;
  try {
    began.add((await ask(order.verb, body)).id);
    at("confirm").close();
    await showRuns();
  } catch (problem) {
    complain("confirm-problem", problem);
  }
  at("yes").disabled = false;
});

// Outcomes.

const ended = new Set(); // ids of runs that have been seen to end
const began = new Set(); // those that began on this page
let timer = 0;

async function showRuns() {
  clearTimeout(timer);
  const { totals, runs } = await ask("runs");
  const total = (name, n, bad) => node("div", bad && n ? "bad" : "", node("dt", "", name), node("dd", "", n));
  at("totals").replaceChildren(
    total("Sent", totals.sent), total("Deleted", totals.removed), total("Died again", totals.came_back, true),
    total("Failed", totals.failed, true), total("May be double", totals.doubtful, true));
  at("runs").replaceChildren(...runs.map(runItem));
  const news = runs.filter((r) => r.ended && !ended.has(r.id));
  for (const r of news) ended.add(r.id);
  if (news.some((r) => began.has(r.id) && r.queue === looked?.queue)) showDead();
  if (news.length) showQueues().catch(() => {});
  if (runs.some((r) => !r.ended)) timer = setTimeout(() => showRuns().catch((p) => complain("problem", p)), intervalOfRuns);
}

function runItem(r) {
  const item = node("li", "", `${r.ended ? (r.error || r.failed ? "✗" : "✓") : "…"} ${r.verb === "drop" ? "Deleting" : "Replaying"} from ${r.label}: `);
  const counts = [r.verb === "drop" ? `${r.removed} deleted` : `${r.sent} sent`];
  if (r.recognized) counts.push(`${r.recognized} came again though they had been sent, and were taken away`);
  if (r.came_back) counts.push(`${r.came_back} died again and left`);
  if (r.failed) counts.push(`${r.failed} failed and left`);
  if (r.doubtful) counts.push(`${r.doubtful} may be double`);
  item.append(counts.join(", ") + (r.ended ? "." : " so far."));
  if (!r.ended && write) item.append(button("Stop", "small", () => ask("stop", { id: r.id }).catch((p) => complain("problem", p))));
  const lines = [r.error, r.notes, ...(r.failures || []).map((f) => "Failed: " + f), ...(r.doubts || []).map((d) => "May be double: " + d)].filter(Boolean);
  if (lines.length) item.append(node("ul", "", ...lines.map((l) => node("li", "", l))));
  return item;
}

// tick looks at the queues again and again, while the page can be seen.
async function tick() {
  if (!document.hidden) {
    try {
      await showQueues();
      await showRuns();
      complain("problem", null);
    } catch (problem) {
      complain("problem", problem);
    }
  }
  setTimeout(tick, interval);
}
tick();
