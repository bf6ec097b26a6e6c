// The portal's one module: what it adds to pages that work without it. Templates ask for it by attributes:
//
//   time[datetime]        the reader's time, with UTC in its title; data-relative on it or around it: how long ago
//   [data-copy]           a button that copies the pre before it, or what its value selects; it is hidden without a script
//   form[data-ask]        asks before it is sent: the value is the question
//   [data-key="t"]        what the key t presses or follows
//   [data-live="rows"]    a table's body, with an id, whose rows (tr[data-id]) come in by themselves, the newest first
//   [data-live="all"]     an element, with an id, that is taken anew as a whole

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

// make is an element with attributes, and texts or elements in it.
function make(name, attributes = {}, ...content) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...content);
  return element;
}

// say shows the result of something, and has it read out.
function say(text, kind = "ok") {
  const status = $("#status");
  if (status) status.replaceChildren(make("p", { class: "note " + kind }, text));
}

// A link's code is in the fragment, which no server sees. It is posted when the button is pressed.
function takeCode() {
  const form = $("form[data-open]");
  if (!form || location.hash.length < 2) return;
  form.elements.code.value = location.hash.slice(1);
  $("[data-code]", form).hidden = true;
  history.replaceState(null, "", location.pathname);
}

// What an action left in the address is shown once: a reload or a bookmark does not say it again.
function tidyAddress() {
  const url = new URL(location.href);
  const before = url.search;
  for (const key of ["done", "signed-in"]) url.searchParams.delete(key);
  if (url.search !== before) history.replaceState(null, "", url.pathname + url.search + url.hash);
}

// Times

const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function ago(at) {
  const seconds = Math.round((at - Date.now()) / 1000);
  const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) ?? units.at(-1);
  return relative.format(Math.trunc(seconds / size), unit);
}

function showTimes(within = document) {
  for (const time of $$("time[datetime]", within)) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.title = time.dateTime;
    time.textContent = time.closest("[data-relative]") ? ago(at) : clock.format(at);
  }
}

// Copying

function showCopy(within = document) {
  for (const button of $$("[data-copy]", within)) button.hidden = false;
}

// exact is what an element says, with the invisible characters that its marks stand for.
function exact(element) {
  const copied = element.cloneNode(true);
  for (const mark of $$("[data-char]", copied)) mark.textContent = String.fromCodePoint(mark.dataset.char);
  return copied.textContent;
}

async function copy(button) {
  const from = button.dataset.copy ? $(button.dataset.copy) : $("pre, code, .secret", button.parentElement);
  if (!from) return;
  const label = (button.dataset.label ??= button.textContent); // once more, while it says that it has copied
  const name = (button.dataset.name ??= button.getAttribute("aria-label") ?? label);
  button.removeAttribute("aria-label"); // what it says meanwhile is its name
  try {
    await navigator.clipboard.writeText("value" in from ? from.value : exact(from));
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(from); // where the browser does not allow it, as without https
    button.textContent = "Press Ctrl-C";
  }
  setTimeout(() => {
    button.textContent = label;
    button.setAttribute("aria-label", name);
  }, 2000);
}

// Asking. A dialog gives the focus back to where it was, by itself.

function dialog(title, ...content) {
  const box = make("dialog", { class: "dialog", "aria-label": title }, make("h2", {}, title), ...content);
  box.addEventListener("close", () => box.remove());
  box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  document.body.append(box);
  box.showModal();
  return box;
}

function ask(form, submitter) {
  const yes = make("button", { class: "btn primary", type: "button" }, submitter?.textContent.trim() || "Yes");
  const no = make("button", { class: "btn", type: "button" }, "Cancel");
  const box = dialog(form.dataset.ask, make("div", { class: "actions" }, no, yes));
  no.addEventListener("click", () => box.close());
  yes.addEventListener("click", () => {
    box.close();
    form.dataset.asked = "yes";
    form.requestSubmit(submitter ?? undefined);
    delete form.dataset.asked; // another press asks again, as after a stopped load
  });
  no.focus();
}

// Live: every three seconds while the tab is seen, by an ETag. The answer is read as a document by the browser, in which
// nothing runs.

const liveEvery = 3000;
const liveHeader = "Mathub-Live"; // so that it does not keep an idle session
let tag = "";
let waiting = []; // rows that came while their reader was further down

function fetchPage(done) {
  const request = new XMLHttpRequest();
  request.open("GET", location.href);
  request.responseType = "document";
  request.timeout = 10000;
  request.setRequestHeader(liveHeader, "1");
  if (tag) request.setRequestHeader("If-None-Match", tag);
  request.addEventListener("loadend", () => {
    if (request.status === 200 && request.responseXML && !$("dialog[open]")) { // its form must stay in the page
      tag = request.getResponseHeader("ETag") ?? "";
      update(request.responseXML);
    }
    done(request.status);
  });
  request.send();
}

function update(page) {
  for (const place of $$("[data-live][id]")) {
    const other = page.getElementById(place.id);
    if (!other) continue;
    if (place.dataset.live === "rows") {
      mergeRows(place, other);
    } else if (!(place.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) && text(place) !== text(other)) {
      renew(place, other);
    }
  }
}

// renew puts in what a place says now. What was open stays open, and the focus stays where it was, or at least in the place.
function renew(place, other) {
  const same = (one) => [one.localName, one.textContent.trim(), one.getAttribute("href"), one.form?.action].join(" ");
  const held = place.contains(document.activeElement) && same(document.activeElement);
  const open = $$("details", place).map((one) => one.open);
  place.replaceChildren(...[...other.childNodes].map((node) => document.importNode(node, true)));
  for (const [i, one] of $$("details", place).entries()) one.open = open[i] ?? one.open;
  refresh(place);
  if (!held) return;
  const again = $$("a, button, summary, [tabindex]", place).find((one) => same(one) === held);
  if (!again) place.tabIndex = -1;
  (again ?? place).focus({ preventScroll: true });
}

// text is what an element says, whatever the module has made of its times.
function text(element) {
  const copied = element.cloneNode(true);
  for (const time of $$("time[datetime]", copied)) time.textContent = time.dateTime;
  for (const button of $$("[data-copy]", copied)) button.hidden = true;
  return copied.textContent.replace(/\s+/g, " ");
}

function mergeRows(place, other) {
  const fresh = [];
  for (const row of $$("tr[data-id]", other)) {
    const known = $$("tr[data-id]", place).find((mine) => mine.dataset.id === row.dataset.id);
    if (!known) {
      if (!waiting.some((one) => one.dataset.id === row.dataset.id)) fresh.push(document.importNode(row, true));
    } else if (text(known) !== text(row) && !known.contains(document.activeElement)) {
      const changed = document.importNode(row, true);
      known.replaceWith(changed);
      refresh(changed);
    }
  }
  if (fresh.length === 0) return;
  waiting = [...fresh, ...waiting];
  if (place.getBoundingClientRect().top >= 0 && !place.contains(document.activeElement)) showWaiting(place);
  else offer(place);
}

function offer(place) {
  const table = place.closest("table");
  let button = $("[data-new]");
  if (!button) {
    button = make("button", { class: "btn primary small fresh", type: "button", "data-new": "" });
    button.addEventListener("click", () => {
      showWaiting(place);
      table.scrollIntoView({ block: "start" });
      $("a", place)?.focus({ preventScroll: true });
    });
    table.before(button);
  }
  button.textContent = `${waiting.length} new`;
}

function showWaiting(place) {
  place.prepend(...waiting);
  for (const row of waiting) refresh(row);
  say(`${waiting.length} new`, "info");
  waiting = [];
  $("[data-new]")?.remove();
}

function live() {
  if (!$("[data-live][id]")) return;
  let timer;
  const next = () => { clearTimeout(timer); timer = setTimeout(look, liveEvery); };
  const look = () => {
    if (document.hidden) return;
    fetchPage((status) => {
      if (status === 401 || status === 403) return; // signed out: what is shown stays
      next();
    });
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  next();
}

// Keys

const keys = [
  ["?", "This help"], ["/", "Search or filter"], ["j k", "Next or previous row"], ["Enter", "Open the row"], ["Esc", "Close, or leave a field"],
  ["t", "Send a test"], ["r", "Redeliver (asks)"], ["g w", "Webhooks"], ["g d", "Deliveries"], ["g e", "Events"], ["g s", "Settings"],
];
const places = { w: "webhooks", d: "deliveries", e: "events", s: "settings" };
let afterG = 0; // until when a key follows g

function help() {
  const rows = keys.map(([key, what]) => make("tr", {}, make("td", {}, ...key.split(" ").flatMap((k) => [make("kbd", {}, k), " "])), make("td", {}, what)));
  const close = make("button", { class: "btn", type: "button" }, "Close");
  const box = dialog("Keys", make("table", {}, make("tbody", {}, ...rows)), make("div", { class: "actions" }, close));
  close.addEventListener("click", () => box.close());
  close.focus();
}

function search() {
  const filters = $("details.filters");
  if (filters) filters.open = true;
  const field = $("main input[type=search], .filters input:not([type=hidden]), .filters select");
  field?.focus();
  field?.select?.();
}

function move(step) {
  const rows = $$(".rows a.go, .rows td.main a").filter((link) => link.checkVisibility());
  const at = rows.indexOf(document.activeElement);
  rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + step, 0), rows.length - 1)]?.focus();
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const field = event.target.closest?.("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]");
  if (event.key === "Escape" && field) field.blur();
  if (field || $("dialog[open]")) return;
  if (afterG > Date.now() && places[event.key]) {
    afterG = 0;
    $(`nav a[href$="/${places[event.key]}"]`)?.click();
  } else if (event.key === "g") {
    afterG = Date.now() + 1500;
    return;
  } else if (event.key === "?") help();
  else if (event.key === "/") search();
  else if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else {
    const target = /^[a-z]$/.test(event.key) && $$(`[data-key="${event.key}"]`).find((one) => one.checkVisibility());
    if (!target) return;
    target.focus();
    target.click();
  }
  event.preventDefault();
}

function refresh(within) {
  showTimes(within);
  showCopy(within);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (button) copy(button);
});
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.ask || form.dataset.asked) return;
  event.preventDefault();
  ask(form, event.submitter);
});
document.addEventListener("keydown", pressed);
takeCode();
tidyAddress();
refresh(document);
setInterval(() => { for (const around of $$("[data-relative]")) showTimes(around.parentElement); }, 30000);
live();
