"use strict";
// Tables of rows with keys come from /live: all of them first, then what has changed. Each is drawn from them, row by row.
const T = {};
const rates = {};
const history = [];
const SAMPLES = 600, ROWS = 200, COLOURS = 8;
const $ = (id) => document.getElementById(id);
const rows = (table) => Object.entries(T[table] ?? {});
const row = (table, key = "") => (T[table] ?? {})[key];
let atMs = 0, token = sessionStorage.getItem("token"), dirty = false;

// Elements. Text is only ever text: nothing here is read as HTML.
function h(tag, of = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(of)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const n = (value) => (value === null || value === undefined ? "–" : Math.abs(value) < 1e5 ? number.format(value) : short.format(value));
const rate = (value) => (value === undefined ? "–" : value > 0 && value < 10 ? value.toFixed(1) : n(value));
function age(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  return s < 172800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;
}
const GOOD = ["up", "listening", "owner", "empty", "transfer-only"], BAD = ["lost", "dead", "never-seen", "unreachable", "address-conflict", "not-listening", "no-routing-application", "not-reported", "failing", "stalled", "full"];
const badge = (word, text = word) => h("span", { className: `state ${GOOD.includes(word) ? "good" : BAD.includes(word) ? "bad" : word === "backup" ? "plain" : ""}` }, text);

// What comes.
function take({ at_ms: at, all, changed }) {
  const seconds = (at - atMs) / 1000;
  if (all) for (const table of Object.keys(T)) delete T[table];
  for (const [table, news] of Object.entries(all ?? changed)) {
    const known = (T[table] ??= {});
    for (const [key, value] of Object.entries(news)) {
      if (table === "counters" && changed && key in known) rates[key] = Math.max(0, value - known[key]) / seconds;
      if (table === "shares" && changed && known[key] && value) rates[`share ${key}`] = value.map((now, i) => Math.max(0, now - known[key][i]) / seconds);
      if (value === null) delete known[key]; else known[key] = value;
    }
  }
  if (changed) {
    for (const key of Object.keys(T.counters ?? {})) if (!(key in (changed.counters ?? {}))) rates[key] = 0;
    for (const key of Object.keys(T.shares ?? {})) if (!(key in (changed.shares ?? {}))) rates[`share ${key}`] = [];
    history.push({ at, of: { ...T.connections } });
    if (history.length > SAMPLES) history.shift();
  }
  atMs = at;
  if (!dirty) { dirty = true; requestAnimationFrame(draw); }
}

// Tables: columns are [title, class, row => text or element], and what the cell depends on, if it is an element.
const drawn = new Map();
function table(id, columns, list, empty) {
  const element = $(id), filter = $("filter").value.toLowerCase();
  let state = drawn.get(id);
  if (!state) {
    const head = h("thead", {}, h("tr", {}, ...columns.map(([title, kind]) => h("th", { scope: "col", className: kind }, title))));
    const body = h("tbody");
    element.replaceChildren(head, body);
    drawn.set(id, (state = { body, lines: new Map() }));
  }
  const passing = filter ? list.filter((item) => JSON.stringify(item).toLowerCase().includes(filter)) : list;
  const shown = passing.slice(0, ROWS), keys = new Set();
  let place = state.body.firstElementChild;
  for (const item of shown) {
    keys.add(item[0]);
    let line = state.lines.get(item[0]);
    if (!line) {
      line = { tr: h("tr"), cells: columns.map(([title, kind]) => h("td", { className: kind, "data-title": title })), seen: [] };
      line.tr.append(...line.cells);
      state.lines.set(item[0], line);
    }
    columns.forEach(([, , text, depends], i) => {
      const value = depends ? JSON.stringify(depends(item)) : text(item);
      if (line.seen[i] === value) return;
      line.seen[i] = value;
      line.cells[i].replaceChildren(...[depends ? text(item) : value].flat().filter((part) => part !== null));
    });
    if (place === line.tr) place = place.nextElementSibling; else state.body.insertBefore(line.tr, place);
  }
  for (const [key, line] of state.lines) if (!keys.has(key)) { line.tr.remove(); state.lines.delete(key); }
  state.none?.remove();
  const more = passing.length - shown.length;
  const text = more > 0 ? `${n(more)} more; filter to see them` : shown.length ? "" : filter ? "none passes the filter" : empty;
  state.none = text ? h("tr", { className: "none" }, h("td", { colSpan: columns.length }, text)) : null;
  if (state.none) state.body.append(state.none);
}

const act = (text, label, what) => h("button", { type: "button", "aria-label": label, title: token ? "" : "Unlock orders first", onclick: what }, text);

function draw() {
  dirty = false;
  const node = row("node") ?? {}, crt = row("crt") ?? {}, stacks = rows("stacks");
  document.title = node.stack ? `baton ${node.stack}` : "baton";
  $("node").textContent = node.stack ?? "";
  $("facts").textContent = node.version ? `${node.version} · owners decided by ${node.decided_by} · certificate until ${node.certificate?.date ?? "–"}${node.leaving ? " · leaving" : ""}` : "";
  drawTiles(crt, stacks);
  drawChart();
  drawServices(node);
  drawStacks(stacks);
  table("t-dvipas", [
    ["DVIPA", "", ([key]) => key],
    ["Role", "", ([, d]) => badge(d.role), ([, d]) => d.role],
    ["Owner", "", ([, d]) => d.owner ?? "none known"],
    ["Epoch", "n wide", ([, d]) => (d.epoch ? String(d.epoch) : "–")],
    ["Leased by", "wide", ([, d]) => (d.lease ? `${d.lease.by} of ${d.lease.of}` : "–")],
    ["Distributes", "long wide", ([, d]) => d.distributions.map((of) => `${of.ports.join(", ") || "all ports"}/${of.protocol} ${of.method}`).join("; ") || "nothing"],
    ["Contradiction", "wide", ([, d]) => (d.contradiction ?? []).join(", ") || "–"],
    ["", "act", ([key, d]) => (d.role === "owner" ? act("Move…", `Move ${key} to another routing node`, () => moveDvipa(key)) : null), ([, d]) => [d.role, !!token]],
  ], rows("dvipas"), "no DVIPA is defined or backed up here");
  drawTransfers();
  const value = (key) => row("counters", key) ?? 0;
  const faults = rows("meanings").filter(([key, [fault]]) => (fault || key.startsWith("packets.refused")) && !key.startsWith("transfers.") && value(key) > 0);
  faults.sort(([a], [b]) => (rates[b] ?? 0) - (rates[a] ?? 0) || value(b) - value(a));
  table("t-drops", [
    ["What", "", ([key]) => key.split(".")[1]],
    ["Each second", "n", ([key]) => rate(rates[key])],
    ["In all", "n", ([key]) => n(value(key))],
    ["At fault", "", ([, [fault]]) => ({ us: "this node" })[fault] ?? fault ?? "–"],
    ["What it means", "long", ([, [, sentence]]) => sentence],
  ], faults, "nothing was dropped, refused or lost since the start");
  table("t-events", [
    ["Time", "", ([, e]) => new Date(e.unix_ms).toLocaleTimeString()],
    ["Event", "", ([, e]) => e.event],
    ["About", "", ([, e]) => e.about],
    ["", "long", ([, e]) => e.text],
  ], rows("events").sort(([a], [b]) => (a < b ? 1 : -1)), "nothing has happened yet");
  $("unlock").textContent = token ? "Orders: unlocked" : "Orders: locked";
}

function drawTiles(crt, stacks) {
  const sum = (keys) => keys.reduce((all, key) => all + (rates[key] ?? 0), 0);
  const packets = rows("meanings").filter(([key]) => key.startsWith("packets."));
  const forwarded = packets.map(([key]) => key).filter((key) => key.startsWith("packets.forwarded"));
  const dropped = packets.filter(([, [fault]]) => fault).map(([key]) => key);
  const other = stacks.filter(([, s]) => s.session !== "up").length, drops = sum(dropped);
  const tiles = [
    ["Connections", n((crt.entries_v4 ?? 0) + (crt.entries_v6 ?? 0))],
    ["New/s", rate(rates["packets.forwarded_new"] ?? 0)],
    ["UDP flows", n(crt.flows_udp)],
    ["Half-open", n(crt.half_open)],
    ["Packets/s", rate(sum(forwarded))],
    ["Drops/s", rate(drops), drops > 0],
    ["Moving now", n(row("node")?.moving)],
    ["Stacks up", `${stacks.length - other} of ${stacks.length}`, other > 0],
  ];
  if ($("tiles").children.length !== tiles.length) $("tiles").replaceChildren(...tiles.map(() => h("div", {}, h("dt"), h("dd"))));
  tiles.forEach(([title, text, bad], i) => {
    const [dt, dd] = $("tiles").children[i].children;
    dt.textContent = title;
    dd.textContent = text;
    dd.parentElement.className = bad ? "bad" : "";
  });
}

// The stacks with most connections have a line each, the others one together. A stack keeps its colour.
const colours = new Map();
function drawChart() {
  const now = Object.entries(T.connections ?? {}).sort(([, a], [, b]) => b - a).map(([name]) => name);
  const own = now.slice(0, COLOURS - 1).sort(), others = now.slice(COLOURS - 1);
  for (const name of colours.keys()) if (!own.includes(name)) colours.delete(name);
  for (const name of own) {
    const used = new Set(colours.values());
    if (!colours.has(name)) colours.set(name, [...Array(COLOURS - 1).keys()].find((k) => !used.has(k)));
  }
  const lines = own.map((name) => [name, colours.get(name), (of) => of[name] ?? 0]);
  if (others.length) lines.push([`${others.length} others`, COLOURS - 1, (of) => others.reduce((sum, name) => sum + (of[name] ?? 0), 0)]);
  const most = Math.max(1, ...history.flatMap(({ of }) => lines.map(([, , value]) => value(of))));
  const from = history[0]?.at ?? 0, to = Math.max(history.at(-1)?.at ?? 0, from + 60000);
  const x = (at) => (((at - from) / (to - from)) * 600).toFixed(1), y = (value) => (158 - (value / most) * 152).toFixed(1);
  const svg = (tag, of) => { const e = document.createElementNS("http://www.w3.org/2000/svg", tag); for (const k in of) e.setAttribute(k, of[k]); return e; };
  $("chart").replaceChildren(
    ...[0, 0.5, 1].map((part) => svg("line", { x1: 0, x2: 600, y1: y(most * part), y2: y(most * part) })),
    ...lines.map(([, k, value]) => svg("path", { class: `k${k}`, d: history.map(({ at, of }, i) => `${i ? "L" : "M"}${x(at)} ${y(value(of))}`).join("") })));
  $("span").textContent = history.length > 1 ? `the last ${age((atMs - from) / 1000)}, 0 to ${n(most)}` : "since this page was opened";
  $("legend").replaceChildren(...lines.map(([name, k, value]) => h("li", { className: `k${k}` }, `${name} ${n(value(T.connections ?? {}))}`)));
}

function drawServices(node) {
  $("left-out").hidden = !node.left_out;
  $("left-out").textContent = `${n(node.left_out)} more services are not shown here; baton dpt has them all.`;
  const share = (key) => row("shares", key), drained = (t) => t.state === "draining";
  const bare = rows("services").filter(([, s]) => !s.targets).map(([key]) => [`${key} `, { service: key, target: "no candidate", state: "never-seen", weight: null, source: "" }]);
  const list = [...rows("targets"), ...bare].sort(([a], [b]) => (a < b ? -1 : 1));
  const kind = (service) => { const s = row("services", service) ?? {}; return `${s.method ?? ""}${s.content_routed ? ", content-routed" : ""}${s.direct ? ", one host's own port" : ""}`; };
  table("t-targets", [
    ["Service", "", ([, t]) => t.service],
    ["Method", "wide", ([, t]) => kind(t.service)],
    ["Target", "", ([, t]) => t.target],
    ["State", "", ([, t]) => [badge(t.state), t.why ? ` ${t.why}` : ""], ([, t]) => [t.state, t.why]],
    ["Weight", "n", ([, t]) => (t.share_percent ? `${t.share_percent} % of ${n(t.weight)}` : n(t.weight))],
    ["From", "wide", ([, t]) => t.source],
    ["Connections", "n", ([key]) => n(share(key)?.[1])],
    ["New/s", "n", ([key]) => (share(key) ? rate(rates[`share ${key}`]?.[0] ?? 0) : "–")],
    ["Bytes/s", "n wide", ([key]) => (share(key) ? rate(rates[`share ${key}`]?.[2] ?? 0) : "–")],
    ["Bytes", "n wide", ([key]) => n(share(key)?.[2])],
    ["Load", "wide short", ([, t]) => load(t.target), ([, t]) => row("stacks", t.target)?.load],
    ["", "act", ([, t]) => (row("stacks", t.target) ? [act(drained(t) ? "Resume" : "Drain…", `${drained(t) ? "Resume" : "Drain"} ${t.target} for ${t.service}`, () => drain(t.target, t.service, drained(t))), " ",
      act("Weight…", `Set the weight of ${t.target} for ${t.service}`, () => weigh(t))] : null), ([, t]) => [t, !!token, !!row("stacks", t.target)]],
  ], list, "no service is distributed");
}

function load(stack) {
  const l = row("stacks", stack)?.load;
  if (!l) return "–";
  const queue = l.accept_queue_permille > 0 ? `, queue ${Math.round(l.accept_queue_permille / 10)} %` : "";
  return [h("meter", { max: 1000, high: 800, value: l.cpu_permille, title: "CPU" }), ` ${Math.round(l.cpu_permille / 10)} %${queue}`];
}

function drawStacks(stacks) {
  table("t-stacks", [
    ["Stack", "", ([key]) => key],
    ["Session", "", ([, s]) => badge(s.session), ([, s]) => s.session],
    ["Up for", "n wide", ([, s]) => (s.since_s ? age(atMs / 1000 - s.since_s) : "–")],
    ["Connections", "n", ([key]) => n(row("connections", key) ?? 0)],
    ["Listens", "n wide", ([, s]) => n(s.listens)],
    ["Load", "short", ([key]) => load(key), ([, s]) => s.load],
    ["Carried by", "wide", ([, s]) => s.encapsulation ?? "own kernel"],
    ["Version", "wide", ([, s]) => s.version || "–"],
    ["Drained", "", ([, s]) => (s.draining ? badge("draining") : "–"), ([, s]) => s.draining],
    ["", "act", ([key, s]) => act(s.draining ? "Resume" : "Drain…", `${s.draining ? "Resume" : "Drain"} ${key}`, () => drain(key, null, s.draining)), ([, s]) => [s.draining, !!token]],
  ], stacks, "no stack is known yet");
}

function drawTransfers() {
  table("t-moving", [
    ["Client", "", ([key]) => key.split(" ")[0]],
    ["To", "", ([key]) => key.split(" ")[1]],
    ["From", "", ([, t]) => t.source],
    ["Target", "", ([, t]) => t.target],
    ["Step", "", ([, t]) => badge(t.step), ([, t]) => t.step],
    ["Way", "wide", ([, t]) => t.way],
  ], rows("moving"), "no connection moves now");
  const each = (list) => list.map(({ reason, connections }) => `${n(connections)} ${reason ?? "not tried yet"}`).join(", ") || "–";
  table("t-drains", [
    ["Stack", "", ([key]) => key],
    ["State", "", ([, d]) => badge(d.state), ([, d]) => d.state],
    ["Left", "n", ([, d]) => n(d.connections)],
    ["Moved", "n", ([, d]) => n(d.moved)],
    ["Under way", "n", ([, d]) => n(d.under_way)],
    ["Waiting", "long", ([, d]) => each(d.waiting)],
    ["Can't move", "long", ([, d]) => each(d.refused)],
  ], rows("drains"), "no stack's connections are moved");
  const value = (key) => row("counters", key) ?? 0;
  table("t-moved", [
    ["Outcome", "", ([key]) => key.split(".")[1]],
    ["Each second", "n", ([key]) => rate(rates[key])],
    ["In all", "n", ([key]) => n(value(key))],
    ["What it means", "long", ([, [, sentence]]) => sentence],
  ], rows("meanings").filter(([key]) => key.startsWith("transfers.") && value(key) > 0), "no connection was to move since the start");
}

// Orders.
async function order(method, path, body) {
  const answer = await fetch(path, {
    method, credentials: "omit", headers: { "content-type": "application/json", authorization: `Bearer ${token}` }, body: body && JSON.stringify(body),
  });
  const text = await answer.json().catch(() => ({ error: `${answer.status} ${answer.statusText}` }));
  if (answer.status === 401) setToken(null);
  if (!answer.ok) throw new Error(text.error);
  return text;
}

function setToken(text) {
  token = text;
  if (text) sessionStorage.setItem("token", text); else sessionStorage.removeItem("token");
  draw();
}

let quiet;
function say(text) {
  $("said").textContent = text;
  $("said").hidden = false;
  clearTimeout(quiet);
  quiet = setTimeout(() => { $("said").hidden = true; }, 6000);
}

// Asks before it does; without the token it asks for that first. `fields` are [name, label, attributes of the input].
function ask(title, text, fields, doText, what) {
  if (!token && what) return unlock(() => ask(title, text, fields, doText, what));
  const dialog = $("dialog");
  $("dialog-title").textContent = title;
  $("dialog-text").textContent = text;
  $("dialog-error").textContent = "";
  $("dialog-do").textContent = doText;
  const inputs = {};
  $("dialog-fields").replaceChildren(...fields.map(([name, label, of]) => {
    const options = of.options && h("select", { name }, ...of.options.map((option) => h("option", {}, option)));
    const input = (inputs[name] = options || h("input", { name, autocomplete: "off", ...of }));
    return of.type === "checkbox" ? h("label", {}, input, ` ${label}`) : h("label", { className: "text" }, label, input);
  }));
  dialog.querySelector("form").onsubmit = async (event) => {
    event.preventDefault();
    $("dialog-do").disabled = true;
    const read = (input) => (input.type === "checkbox" ? input.checked : input.type === "number" ? input.valueAsNumber : input.value.trim());
    try {
      await dialog.does(Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, read(input)])));
      dialog.close();
    } catch (error) {
      $("dialog-error").textContent = error.message;
    } finally {
      $("dialog-do").disabled = false;
    }
  };
  dialog.does = what ?? (async () => {});
  if (!dialog.open) dialog.showModal();
  if (!fields.length) $("dialog-do").focus();
}

function unlock(then) {
  token = null;
  const text = "Orders need the token of this node: the line in the file that admin.web_token names. It is forgotten when this tab is closed.";
  ask("Unlock orders", text, [["token", "Token", { type: "password", required: true }]], "Unlock", null);
  $("dialog").does = async ({ token: given }) => {
    token = given;
    try { await order("GET", "v1/drain"); } catch (error) { setToken(null); throw error; }
    setToken(given);
    say("Orders are unlocked.");
    if (then) setTimeout(then);
  };
}

function service(name) {
  const { dvipa, port, protocol } = row("services", name) ?? {};
  return { dvipa, port, protocol };
}

function drain(stack, of, isDrained) {
  const scope = of ? service(of) : {}, where = of ? ` for ${of}` : "";
  if (isDrained) {
    const text = of ? `${stack} takes new connections of ${of} again, unless all of it is drained.` : `${stack} takes new connections again; all its drains end.`;
    return ask(`Resume ${stack}${where}`, text, [], "Resume", async () => {
      await order("POST", `v1/resume/${stack}?${new URLSearchParams(scope)}`);
      say(`${stack} is resumed${where}.`);
    });
  }
  const text = `${stack} gets no new connections${where}. Those that it has stay, unless they are to move.`;
  ask(`Drain ${stack}${where}`, text, [["move", "move its connections to the others as they become idle", { type: "checkbox" }]], "Drain", async ({ move }) => {
    await order("POST", `v1/drain/${stack}?${new URLSearchParams(move ? { ...scope, move } : scope)}`);
    say(`${stack} is drained${where}.`);
  });
}

function weigh({ service: name, target }) {
  const fields = [
    ["weight", "Weight, 0 to 65535 (0: no new connections)", { type: "number", min: 0, max: 65535, required: true, value: row("targets", `${name} ${target}`)?.weight ?? 1 }],
    ["ttl", "For how many seconds (at most a day)", { type: "number", min: 1, max: 86400, required: true, value: 3600 }],
  ];
  ask(`Weight of ${target} for ${name}`, "It takes precedence over the configured one and load until its time is over, and replaces weights that were set for this service before.", fields, "Set", async ({ weight, ttl }) => {
    await order("POST", "v1/weights", { ...service(name), weights: { [target]: weight }, ttl_s: ttl });
    say(`${target} has the weight ${weight} for ${name}.`);
  });
}

function moveDvipa(dvipa) {
  const text = "The other routing node takes it over as soon as it knows all connections, and keeps it until it is moved again, fails or leaves.";
  ask(`Move ${dvipa}`, text, [["to", "To which routing node", { required: true }]], "Move", async ({ to }) => {
    await order("POST", "v1/vipa/move", { dvipa, to });
    say(`${dvipa} moves to ${to}.`);
  });
}

function moveConnection({ client, dvipa, stack }) {
  const others = rows("stacks").map(([name]) => name).filter((name) => name !== stack);
  ask(`Move ${client}`, `The connection to ${dvipa} is at ${stack}. It moves if it is idle.`, [["target", "To which stack", { options: others }]], "Move", async ({ target }) => {
    const { order: id } = await order("POST", "v1/move", { client, dvipa, target });
    for (let tries = 0; tries < 60; tries++) {
      const outcome = await order("GET", `v1/move/${id}`);
      if (outcome.state === "moved") { say(`${client} has moved to ${target}; its client waited ${n(outcome.pause_us / 1000)} ms.`); return look(); }
      if (outcome.state === "stayed" || outcome.state === "lost") throw new Error(`${outcome.state}: ${outcome.sentence}${outcome.said ? ` (${outcome.said})` : ""}`);
      await new Promise((done) => setTimeout(done, 250));
    }
    say(`${client} does not move yet; the order holds on.`);
  });
}

async function look() {
  const query = Object.fromEntries([...new FormData($("look"))].map(([key, value]) => [key, value.trim()]).filter(([, value]) => value));
  if (!token) return unlock(look);
  $("looked").textContent = "looking…";
  try {
    const { connections, more } = await order("GET", `v1/crt?${new URLSearchParams({ ...query, limit: ROWS })}`);
    $("looked").textContent = `${n(connections.length)} shown, ${n(more)} more.`;
    table("t-connections", [
      ["Client", "", ([, c]) => c.client],
      ["DVIPA", "", ([, c]) => c.dvipa],
      ["Stack", "", ([, c]) => c.stack],
      ["State", "", ([, c]) => badge(c.state), ([, c]) => c.state],
      ["Idle", "n wide", ([, c]) => age(c.idle_ms / 1000)],
      ["", "act", ([, c]) => (c.protocol === "tcp" ? act("Move…", `Move ${c.client}`, () => moveConnection(c)) : null), ([, c]) => c],
    ], connections.map((c) => [`${c.protocol} ${c.client} ${c.dvipa}`, c]), "no connection passes");
  } catch (error) {
    $("looked").textContent = error.message;
  }
}

$("look").addEventListener("submit", (event) => { event.preventDefault(); look(); });
$("unlock").addEventListener("click", () => (token ? setToken(null) : unlock()));
$("dialog-cancel").addEventListener("click", () => $("dialog").close());
$("filter").addEventListener("input", draw);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName) && !$("dialog").open) {
    event.preventDefault();
    $("filter").focus();
  }
});

// The browser comes again by itself.
const live = new EventSource("live");
const seen = (on, text) => { $("live").textContent = text; $("live").className = on ? "on" : ""; document.body.classList.toggle("stale", !on); };
live.onmessage = (event) => { take(JSON.parse(event.data)); seen(true, "live"); };
live.onerror = () => seen(false, "no answer; trying again");
