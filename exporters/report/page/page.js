// SPDX-License-Identifier: Apache-2.0
// Shows the data of the page. All text is set as text; what is long is built when it is opened.
'use strict';
(() => {
const holder = document.getElementById('data');
const data = JSON.parse(holder.textContent);
holder.remove();

// The numbers of the flags in Go.
const CHANGE = 1, SECRET = 2, REFUSED = 4, FAILED = 8, MISSING = 16, HOST = 32, NOTABLE = 64, LOSS = 128, OUTSIDE = 256,
  FILE = 512, DECISION = 1024, STARTED_BY = 2048, TAINTED = 4096, CLOSED = 8192, PENDING = 16384;
const PAGE = 100, FEW = 8; // lines that are shown at once, and below a program at first

// el makes an element; what is no object among the children is text.
function el(tag, props, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(props || {})) {
    if (v === undefined || v === false) continue;
    if (k === 'class') e.className = v;
    else if (k.startsWith('on')) e.addEventListener(k.slice(2), v);
    else e.setAttribute(k, v === true ? '' : v);
  }
  for (const c of children.flat()) {
    if (c === undefined || c === null || c === '' || c === false || c === 0) continue;
    e.append(c instanceof Node ? c : document.createTextNode(String(c)));
  }
  return e;
}
const text = (s, cls) => el('bdi', {class: 'data' + (cls ? ' ' + cls : '')}, s);
const say = (s) => (s ? el('span', null, s) : ''); // words of this page, not of the data
const plural = (n, one, many) => `${n.toLocaleString('en')} ${n === 1 ? one : many || one + 's'}`;
const ms = (ns) => Number(BigInt(data.base) / 1000n) / 1000 + ns / 1e6;
const iso = (ns) => { const d = new Date(ms(ns)); return isNaN(d) ? '' : d.toISOString(); };
const clock = (ns) => iso(ns).slice(11, 19);
function duration(ns) {
  if (ns < 0) return 'still running';
  for (const [unit, size, top] of [['µs', 1e3, 1e3], ['ms', 1e6, 1e3], ['s', 1e9, 60]]) {
    const n = ns / size;
    if (n < top) return (n < 10 ? n.toFixed(1) : Math.round(n)) + ' ' + unit;
  }
  const s = Math.round(ns / 1e9), two = (n) => String(n).padStart(2, '0');
  return s < 3600 ? `${Math.floor(s / 60)} min ${two(s % 60)} s` : `${Math.floor(s / 3600)} h ${two(Math.floor(s % 3600 / 60))} min`;
}
function bytes(n) {
  for (const [unit, size] of [['GB', 1e9], ['MB', 1e6], ['kB', 1e3]]) if (n >= size) return (n / size).toFixed(n / size < 10 ? 1 : 0) + ' ' + unit;
  return n + ' B';
}

// What came as arrays.
const nodes = data.nodes.map(([story, call, parent, command, exe, cwd, pid, start, length, flags, ending, more], i) =>
  ({i, story, call, parent, command, exe, cwd, pid, start, length, flags, ending, more, lines: [], below: []}));
const lines = data.lines.map(([story, call, node, verb, object, err, pid, start, last, longest, count, flags, more]) =>
  ({story, call, node, verb: data.words[verb], object, err, pid, start, last, longest, count, flags, more}));
const groups = []; // a call, or what a story did outside of calls
const group = (story, call) => ({story, call, nodes: [], lines: [], roots: []});
const ofCall = data.calls.map((c) => group(data.stories[c.story], c));
const ofStory = data.stories.map((s) => group(s, null));
const home = (x) => (x.call >= 0 ? ofCall[x.call] : ofStory[x.story]);
for (const n of nodes) {
  const g = home(n), p = nodes[n.parent];
  g.nodes.push(n);
  if (p && home(p) === g) p.below.push(n); else g.roots.push(n);
}
for (const l of lines) {
  const g = home(l), p = nodes[l.node];
  g.lines.push(l);
  l.owner = p;
  if (p && home(p) === g) p.lines.push(l); else (g.loose = g.loose || []).push(l);
}
const fact = (x, key) => x.facts[key];
const num = (x, key) => (typeof x.facts[key] === 'number' ? x.facts[key] : 0);
const list = (x, key) => (Array.isArray(x.facts[key]) ? x.facts[key] : []);
const base = (path) => path.slice(path.lastIndexOf('/') + 1) || path;
const command = (n) => n.command || n.exe || 'a program that was not seen to start';
// rank orders lines: what nobody should miss first, what was looked for in vain last.
function rank(l) {
  const f = l.flags;
  return f & LOSS ? 0 : f & NOTABLE ? 1 : f & SECRET && !(f & MISSING) ? 2 : f & REFUSED ? 3 : f & CHANGE ? 4 : f & MISSING ? 8 : f & HOST ? 5 : f & FAILED ? 6 : 7;
}
const ranked = (ls) => ls.slice().sort((a, b) => rank(a) - rank(b) || a.start - b.start);
function details(more) {
  const out = [];
  for (let i = 0; i < more.length; i += 2) out.push([data.words[more[i]], more[i + 1]]);
  return out;
}
const detail = (x, key) => { const d = details(x.more).find(([k]) => k === key); return d && d[1]; };

// ---- What is searched and filtered.

const CHANGES = [['created', 'created'], ['modified', 'modified'], ['opened_for_writing', 'opened for writing'], ['replaced', 'replaced'],
  ['deleted', 'deleted'], ['renamed', 'renamed'], ['linked', 'linked'], ['mode', 'mode changed'], ['owner', 'owner changed'],
  ['attributes', 'attributes changed']];
const filters = [
  {name: 'Secrets', hint: 'sensitive files', mask: SECRET, call: (c) => num(c, 'files.sensitive') > 0},
  {name: 'Changes', hint: 'files that were changed', mask: CHANGE, call: (c) => CHANGES.some(([k]) => num(c, 'files.' + k) > 0)},
  {name: 'Failed', hint: 'what failed or was refused', mask: FAILED | REFUSED, call: (c) => c.failed || num(c, 'files.refused') > 0},
  {name: 'Hosts', hint: 'connections and names', mask: HOST, call: (c) => num(c, 'hosts') > 0},
];
let query = '', mask = 0;
const hay = new WeakMap(); // the text of what can be found, made with the first search
function haystack(x) {
  let h = hay.get(x);
  if (h === undefined) {
    h = (x.command !== undefined ? `${x.command} ${x.exe} ${x.cwd}` : `${x.verb} ${x.object} ${x.err}`).toLowerCase();
    hay.set(x, h);
  }
  return h;
}
const callText = (c) => [title(c), c.id, fact(c, 'call.summary'), fact(c, 'gen_ai.tool.name'), fact(c, 'mcp.server')].join(' ').toLowerCase();
const active = () => query !== '' || mask !== 0;
const fits = (x, whole) => (!mask || x.flags & mask) && (whole || !query || haystack(x).includes(query));
// match works out what of a group is shown: all, or which programs and lines.
function match(g) {
  if (!active()) return {all: true, any: true};
  const whole = g.call !== null && query !== '' && callText(g.call).includes(query);
  const keep = new Set();
  let found = 0;
  const add = (x) => { for (let n = x; n && !keep.has(n); n = nodes[n.parent]) { keep.add(n); if (home(n) !== g) break; } };
  for (const n of g.nodes) if (fits(n, whole)) { found++; add(n); }
  for (const l of g.lines) if (fits(l, whole)) { found++; keep.add(l); if (l.owner) add(l.owner); }
  const told = g.call !== null && (!query || whole) && (!mask || filters.some((f) => f.mask & mask && f.call(g.call)));
  return {all: false, any: found > 0 || told, found, keep};
}
const shown = (m, x) => m.all || m.keep.has(x);

// ---- Parts.

function badge(label, kind) { return el('span', {class: 'badge ' + (kind || '')}, label); }
const title = (c) => fact(c, 'call.title') || (fact(c, 'gen_ai.tool.name') !== 'unknown' && fact(c, 'gen_ai.tool.name')) || c.id || 'a call';

// outcome says how a call came out: a word and how it looks.
function outcome(c) {
  if (fact(c, 'approval.violated')) return ['ran although denied', 'bad'];
  if (fact(c, 'approval') === 'denied') return ['denied', 'warn'];
  if (fact(c, 'call.oom_killed')) return ['out of memory', 'bad'];
  if (fact(c, 'call.exit_signal')) return [fact(c, 'call.exit_signal'), 'bad'];
  if (num(c, 'call.exit_code')) return ['exit ' + fact(c, 'call.exit_code'), 'bad'];
  if (c.failed) return [c.status || 'failed', 'bad'];
  if (c.length < 0) return ['had not ended', 'warn'];
  if (fact(c, 'outcome') === 'ok') return ['ok', 'good'];
  return [fact(c, 'outcome') || 'not known', ''];
}

function badges(c) {
  const out = [];
  const add = (n, label, kind) => n && out.push(badge(label, kind));
  add(num(c, 'files.sensitive'), plural(num(c, 'files.sensitive'), 'secret'), 'bad');
  add(num(c, 'files.outside'), plural(num(c, 'files.outside'), 'change') + ' outside', 'warn');
  add(num(c, 'files.refused'), num(c, 'files.refused') + ' refused', 'warn');
  add(num(c, 'call.left'), plural(num(c, 'call.left'), 'process', 'processes') + ' left running', 'warn');
  add(num(c, 'lost'), num(c, 'lost').toLocaleString('en') + ' lost', 'bad');
  add(fact(c, 'declared') === 'undeclared', 'undeclared files', 'warn');
  add(fact(c, 'tainted'), 'tainted', 'bad');
  return out;
}

// changed is the net effect in a few words, where no sentence is there.
function changed(x) {
  return CHANGES.filter(([k]) => num(x, 'files.' + k)).map(([k, w]) => num(x, 'files.' + k).toLocaleString('en') + ' ' + w).join(' · ');
}

function tiles(who, calls) {
  const out = [], add = (n, label, kind, more) => out.push(el('li', {class: 'tile ' + (kind || '')}, el('strong', null, n), ' ', el('span', null, label), more && el('small', null, more)));
  const count = (key, one, many, kind) => { const n = num(who, key); if (n) add(n.toLocaleString('en'), n === 1 ? one : many, kind); };
  const n = fact(who, 'session.calls');
  if (n !== undefined || calls) add((n === undefined ? calls : n).toLocaleString('en'), (n === undefined ? calls : n) === 1 ? 'call' : 'calls');
  count('session.calls.failed', 'call failed', 'calls failed', 'bad');
  count('session.calls.denied', 'call denied', 'calls denied', 'warn');
  count('programs', 'program', 'programs');
  count('programs.failed', 'program failed', 'programs failed');
  for (const [k, w] of CHANGES) count('files.' + k, 'file ' + w, 'files ' + w);
  count('files.read', 'file read', 'files read');
  count('files.refused', 'refused', 'refused', 'warn');
  count('files.sensitive', 'secret touched', 'secrets touched', 'bad');
  count('files.outside', 'change outside the workspace', 'changes outside the workspace', 'warn');
  count('hosts', 'host', 'hosts');
  if (num(who, 'bytes.out') || num(who, 'bytes.in')) add(bytes(num(who, 'bytes.out')), 'sent', '', bytes(num(who, 'bytes.in')) + ' received');
  if (num(who, 'cpu_ns')) add(duration(num(who, 'cpu_ns')), 'of CPU time');
  if (num(who, 'memory.peak_bytes')) add(bytes(num(who, 'memory.peak_bytes')), 'peak of one program');
  count('call.left', 'process still runs', 'processes still run', 'warn');
  count('lost', 'record lost', 'records lost', 'bad');
  return out.length ? el('ul', {class: 'tiles'}, out) : '';
}

function definitions(pairs, cls) {
  const rows = pairs.filter(([, v]) => v !== undefined && v !== '' && v !== null && !(Array.isArray(v) && !v.length));
  return rows.length ? el('dl', {class: cls || 'facts'}, rows.map(([k, v]) => el('div', null, el('dt', null, k), el('dd', null, value(v))))) : '';
}
function value(v) {
  if (v instanceof Node) return v;
  if (Array.isArray(v)) return v.length === 1 ? value(v[0]) : el('ul', {class: 'plain'}, v.map((x) => el('li', null, value(x))));
  return v === true ? 'yes' : text(String(v));
}

// chunked appends what make gives for each of the items, a part at a time, with a button for more.
function chunked(items, into, make, wrap, first = PAGE) {
  let at = 0;
  function more() {
    const part = items.slice(at, at + (at ? PAGE : first)).map(make);
    at += part.length;
    into.append(...part);
    if (button) { button.remove(); if (part[0]) { const f = part[0].querySelector('[tabindex],button') || part[0]; f.tabIndex = f.tabIndex < 0 ? -1 : f.tabIndex; f.focus(); } }
    button = null;
    if (at < items.length) {
      button = el('button', {type: 'button', class: 'more', onclick: more}, `Show ${Math.min(PAGE, items.length - at)} more (${(items.length - at).toLocaleString('en')} left)`);
      wrap.append(button);
    }
  }
  let button = null;
  more();
}

function table(caption, head, items, make) {
  const body = el('tbody');
  const t = el('table', null, el('caption', {class: 'hidden'}, caption), el('thead', null, el('tr', null, head.map((h) => el('th', {scope: 'col'}, h)))), body);
  const wrap = el('div', {class: 'scroll'}, t);
  chunked(items, body, (x) => { const tr = el('tr', null, make(x)); tr.tabIndex = -1; return tr; }, wrap);
  return wrap;
}

// section is a part of what is open: built when it is opened, kept open by itself if it is short.
function section(level, name, count, build, open) {
  const d = el('details', {class: 'part'}, el('summary', null, el('span', {class: 'h', role: 'heading', 'aria-level': level}, name), count !== undefined && el('span', {class: 'count'}, count.toLocaleString('en'))));
  let built = false;
  const fill = () => { if (d.open && !built) { built = true; d.append(build()); } };
  d.addEventListener('toggle', fill);
  if (open) { d.open = true; fill(); }
  return d;
}

function verb(l) {
  const kind = l.flags & (LOSS | REFUSED) || (l.flags & SECRET && !(l.flags & MISSING)) ? 'bad' : l.flags & FAILED ? 'bad' : l.flags & CHANGE ? 'change' : l.flags & HOST ? 'host' : l.flags & MISSING ? 'faint' : '';
  return el('span', {class: 'verb ' + kind}, l.verb);
}
function marks(x) {
  const out = [];
  if (x.flags & SECRET) out.push(badge('secret', x.flags & MISSING ? '' : 'bad'));
  if (x.flags & OUTSIDE) out.push(badge('outside', 'warn'));
  if (x.flags & STARTED_BY) out.push(badge('after its call', 'warn'));
  if (x.flags & TAINTED) out.push(badge('tainted', 'bad'));
  return out;
}
function traffic(l) {
  const out = detail(l, 'network.bytes.sent'), into = detail(l, 'network.bytes.received');
  return out === undefined && into === undefined ? '' : `${bytes(out || 0)} out, ${bytes(into || 0)} in`;
}
const times = (l) => (l.count > 1 ? `×${l.count.toLocaleString('en')}` : '');
const result = (l) => l.err || (l.flags & PENDING ? 'no outcome' : '');

const failure = (l) => result(l) && el('span', {class: l.flags & MISSING ? 'end' : 'err'}, result(l));

function files(g, m) {
  const rows = ranked(g.lines.filter((l) => l.flags & FILE && shown(m, l)));
  return [rows.length, () => table('Files', ['What', 'File', 'Program', 'Time'], rows, (l) => [
    el('td', null, verb(l), ' ', times(l)), el('td', {class: 'path'}, text(l.object), ' ', marks(l), ' ', failure(l)),
    el('td', null, l.owner && text(base(l.owner.exe || l.owner.command))), el('td', {class: 'time'}, clock(l.start))])];
}
function hosts(g, m) {
  const rows = g.lines.filter((l) => l.flags & HOST && shown(m, l));
  return [rows.length, () => table('Hosts', ['What', 'Host', 'Bytes', 'Outcome', 'Took', 'Program', 'Time'], rows, (l) => [
    el('td', null, verb(l), ' ', times(l)), el('td', {class: 'path'}, text(l.object), ' ', marks(l)), el('td', null, traffic(l)),
    el('td', null, result(l)), el('td', {class: 'time'}, duration(l.longest)), el('td', null, l.owner && text(base(l.owner.exe || l.owner.command))), el('td', {class: 'time'}, clock(l.start))])];
}
function decisions(g) {
  const said = g.lines.filter((l) => l.flags & DECISION);
  const c = g.call, pairs = [];
  if (c) {
    const a = fact(c, 'approval');
    if (a) pairs.push(['Approval', a === 'unknown' ? say('the agent reported none') : a], ['Decided by', fact(c, 'approval.source')]);
    if (fact(c, 'approval.violated')) pairs.push(['Violated', say('it was denied, and processes of the call ran')]);
    pairs.push(['Result, as the agent says', fact(c, 'tool.result')], ['Declared files', fact(c, 'declared')]);
  }
  for (const l of said) pairs.push([`${clock(l.start)} ${l.verb}`, l.object]);
  return pairs;
}

const ATTRIBUTION = {marker: 'a mark of the agent or its hook', trace_context: 'a trace context in its environment', call_id: 'an id that the agent put into its environment',
  telemetry: "the agent's telemetry", declared: "the agent's word about itself", inferred: 'lineage: one command tree that the agent started', unannounced: 'lineage: a command while the agent reported no open call',
  claimed: 'a mark of the process about itself', started_by: 'what a call left running', ambiguous: 'ambiguous: one of several open calls'};

function names(x) {
  const out = [];
  for (const [k, w] of CHANGES) {
    const n = num(x, 'files.' + k), of = list(x, 'files.' + k + '.names'), from = list(x, 'files.' + k + '.from');
    if (n) out.push([`${n.toLocaleString('en')} ${w}`, of.map((v, i) => (from[i] ? `${from[i]} → ${v}` : v)).concat(n > of.length && of.length ? [say('and others')] : [])]);
  }
  if (num(x, 'files.temporary')) out.push([`${num(x, 'files.temporary').toLocaleString('en')} temporary`, say('made, and gone again')]);
  if (num(x, 'files.more')) out.push(['Beyond the bounds', say(plural(num(x, 'files.more'), 'operation') + ' more')]);
  if (num(x, 'files.unsure')) out.push(['Not sure', say(plural(num(x, 'files.unsure'), 'operation'))]);
  out.push([plural(num(x, 'files.sensitive'), 'secret') + ' touched', list(x, 'files.sensitive.names')]);
  out.push([plural(num(x, 'files.outside'), 'change') + ' outside the workspace', list(x, 'files.outside.names')]);
  const over = list(x, 'hosts.bytes').map((v) => v.split(' ').map(Number));
  out.push([plural(num(x, 'hosts'), 'host'), list(x, 'hosts.names').map((v, i) => (over[i] && over[i][0] + over[i][1] > 0 ? `${v} (${bytes(over[i][1])} sent, ${bytes(over[i][0])} received)` : v))]);
  if (num(x, 'bytes.out') || num(x, 'bytes.in')) out.push(['Bytes', say(`${bytes(num(x, 'bytes.out'))} sent, ${bytes(num(x, 'bytes.in'))} received`)]);
  if (num(x, 'call.left')) out.push([plural(num(x, 'call.left'), 'process', 'processes') + ' left running', list(x, 'call.left.programs').length ? list(x, 'call.left.programs') : 'when this was told']);
  out.push(['They listen at', list(x, 'call.left.listens')]);
  return out;
}

// ---- The tree of programs.

function tree(g, m) {
  const root = el('ul', {class: 'tree', role: 'tree', 'aria-label': 'Programs, with what each of them did'});
  let budget = 400; // programs that are open at first
  function put(into, level, items, last) { items.forEach((x) => into.insertBefore(x, last || null)); }
  function leaf(l, level) {
    const name = [l.verb, l.object, times(l), result(l), traffic(l)].filter(Boolean).join(' ');
    const row = el('div', {class: 'row'}, el('span', {class: 'twist'}), verb(l), text(l.object), marks(l), el('span', {class: 'side'}, times(l), ' ', traffic(l), ' ', l.flags & HOST ? duration(l.longest) : ''),
      failure(l));
    return item(row, name, level, () => about(l), null);
  }
  function program(n, level) {
    const kids = ranked(n.lines.filter((l) => shown(m, l)));
    const below = n.below.filter((b) => shown(m, b));
    const bad = n.flags & FAILED;
    const row = el('div', {class: 'row'}, el('span', {class: 'twist', 'aria-hidden': 'true'}), text(command(n), 'cmd'), marks(n),
      el('span', {class: 'side'}, [n.pid && 'pid ' + n.pid, n.length < 0 ? '' : duration(n.length)].filter(Boolean).join(' · ')), n.ending && el('span', {class: bad ? 'err' : 'end'}, n.ending));
    const fill = !kids.length && !below.length ? null : (into) => {
      const add = (from, to) => {
        put(into, level + 1, kids.slice(from, to).map((l) => leaf(l, level + 1)), into.querySelector(':scope > .mark'));
        if (to < kids.length) {
          const rest = kids.length - to;
          const more = item(el('div', {class: 'row morerow'}, el('span', {class: 'twist'}), `${rest.toLocaleString('en')} more`), `${rest} more, press Enter to show them`, level + 1, null, null);
          more.act = () => { const next = more; add(to, to + PAGE); const f = next.nextElementSibling; next.remove(); return f; };
          into.insertBefore(more, into.querySelector(':scope > .mark'));
          // Those that were just added stand before it already.
        }
      };
      const mark = el('li', {class: 'mark', role: 'none', hidden: true});
      into.append(mark);
      add(0, m.all ? FEW : PAGE);
      let at = 0;
      const addBelow = () => {
        const part = below.slice(at, at + PAGE);
        at += part.length;
        const made = part.map((b) => program(b, level + 1));
        into.append(...made);
        if (at < below.length) {
          const more = item(el('div', {class: 'row morerow'}, el('span', {class: 'twist'}), `${(below.length - at).toLocaleString('en')} more programs`), `${below.length - at} more programs, press Enter to show them`, level + 1, null, null);
          more.act = () => { const made2 = addBelow(); more.remove(); return made2[0]; };
          into.append(more);
        }
        return made;
      };
      addBelow();
    };
    const it = item(row, [command(n), n.ending, n.pid ? 'pid ' + n.pid : ''].filter(Boolean).join(', '), level, () => aboutProgram(n), fill);
    if (fill && budget-- > 0) it.open(true);
    return it;
  }
  // item is a line of the tree: about gives what is known of it, fill what stands below.
  function item(row, name, level, about, fill) {
    const li = el('li', {role: 'treeitem', 'aria-label': name, 'aria-level': level, tabindex: '-1', 'aria-expanded': fill ? 'false' : undefined}, row);
    let kids = null, panel = null;
    li.isOpen = () => kids !== null && !kids.hidden;
    li.open = (yes) => {
      if (!fill) return;
      if (!kids) { kids = el('ul', {role: 'group'}); fill(kids); li.append(kids); }
      kids.hidden = !yes;
      li.setAttribute('aria-expanded', String(yes));
    };
    li.hasKids = !!fill;
    li.act = () => {
      if (!about) return null;
      if (panel) { panel.remove(); panel = null; } else { panel = el('div', {class: 'panel'}, about()); row.after(panel); }
      return null;
    };
    return li;
  }
  for (const l of ranked((g.loose || []).filter((x) => shown(m, x))).slice(0, PAGE)) root.append(leaf(l, 1));
  for (const n of g.roots.filter((x) => shown(m, x))) root.append(program(n, 1));
  if (!root.firstChild) return el('p', {class: 'note'}, 'No program was seen.');
  root.firstChild.tabIndex = 0;
  const visibleItems = () => Array.from(root.querySelectorAll('[role=treeitem]')).filter((x) => x.offsetParent !== null);
  function go(to) {
    if (!to) return;
    const old = root.querySelector('[role=treeitem][tabindex="0"]');
    if (old) old.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  }
  const itemOf = (t) => t.closest('[role=treeitem]');
  root.addEventListener('keydown', (e) => {
    const at = itemOf(e.target);
    if (!at || e.ctrlKey || e.metaKey || e.altKey) return;
    const up = at.parentElement.closest('[role=treeitem]');
    let done = true;
    switch (e.key) {
      case 'ArrowDown': { const all = visibleItems(); go(all[all.indexOf(at) + 1]); break; }
      case 'ArrowUp': { const all = visibleItems(); go(all[all.indexOf(at) - 1]); break; }
      case 'Home': go(visibleItems()[0]); break;
      case 'End': go(visibleItems().pop()); break;
      case 'ArrowRight': if (at.hasKids && !at.isOpen()) at.open(true); else go(at.querySelector(':scope > ul > [role=treeitem]')); break;
      case 'ArrowLeft': if (at.isOpen()) at.open(false); else go(up); break;
      case 'Enter': case ' ': go(at.act() || undefined); break;
      default: done = false;
    }
    if (done) { e.preventDefault(); e.stopPropagation(); }
  });
  root.addEventListener('click', (e) => {
    const at = itemOf(e.target);
    if (!at || e.target.closest('.panel') || String(getSelection())) return;
    if (e.target.closest('.twist') && at.hasKids) { at.open(!at.isOpen()); go(at); } else go(at.act() || at);
  });
  return root;
}

const about = (l) => definitions([['What', l.verb], ['On', l.object], ['Error', l.err], ['Times', l.count > 1 ? l.count : ''], ['First', iso(l.start)], ['Last', l.count > 1 ? iso(l.last) : ''],
  ['Pid', l.pid || ''], ...details(l.more)], 'facts small');
const aboutProgram = (n) => definitions([['Command', n.command], ['Executable', n.exe], ['Directory', n.cwd], ['Pid', n.pid || ''], ['Started', iso(n.start)], ['Ran for', n.length < 0 ? 'its end is not known' : duration(n.length)],
  ['End', n.ending], ...details(n.more)], 'facts small');

// ---- A call, or what an agent did outside of calls: a heading that opens.

let heads = [];
function disclosure(g, level, head, build) {
  const id = 'g' + heads.length;
  const body = el('div', {class: 'body', id, hidden: true});
  const button = el('button', {type: 'button', 'aria-expanded': 'false', 'aria-controls': id, tabindex: '-1'}, head.name);
  const h = el('h' + level, null, button);
  const line = el('div', {class: 'head'}, head.before, h, head.after);
  const li = el(g.call ? 'li' : 'section', {class: 'entry'}, line, head.below, body);
  const d = {g, li, button, body, found: el('span', {class: 'found'})};
  line.append(d.found);
  d.open = (yes) => {
    if (yes) body.replaceChildren(build(d.m || match(g))); else body.replaceChildren();
    body.hidden = !yes;
    button.setAttribute('aria-expanded', String(yes));
    li.classList.toggle('open', yes);
  };
  d.isOpen = () => !body.hidden;
  button.addEventListener('click', (e) => { e.stopPropagation(); d.open(!d.isOpen()); rove(d); });
  line.addEventListener('click', () => { if (!String(getSelection())) { d.open(!d.isOpen()); rove(d); button.focus({preventScroll: true}); } });
  heads.push(d);
  return d;
}
function rove(d) {
  for (const x of heads) x.button.tabIndex = x === d ? 0 : -1;
}
function headKeys(e) {
  const at = heads.find((d) => d.button === e.target);
  if (!at || e.ctrlKey || e.metaKey || e.altKey) return;
  const all = heads.filter((d) => !d.li.hidden);
  const i = all.indexOf(at);
  let to = null;
  switch (e.key) {
    case 'ArrowDown': to = all[i + 1]; break;
    case 'ArrowUp': to = all[i - 1]; break;
    case 'Home': to = all[0]; break;
    case 'End': to = all[all.length - 1]; break;
    case 'ArrowRight': if (!at.isOpen()) at.open(true); break;
    case 'ArrowLeft': if (at.isOpen()) at.open(false); break;
    default: return;
  }
  e.preventDefault();
  if (to) { rove(to); to.button.focus(); }
}

function inside(g, level, pairs, m) {
  const [nf, makeFiles] = files(g, m), [nh, makeHosts] = hosts(g, m);
  const frag = document.createDocumentFragment();
  const dl = definitions(pairs);
  if (dl) frag.append(dl);
  const programs = m.all ? g.nodes.length : g.nodes.filter((n) => m.keep.has(n)).length;
  const losses = g.lines.filter((l) => l.flags & LOSS);
  const d = decisions(g).filter(([, v]) => v !== undefined && v !== '');
  if (d.length) frag.append(section(level, 'Decisions', undefined, () => definitions(d), true));
  if (losses.length) frag.append(section(level, 'Losses', losses.length, () => el('ul', {class: 'plain'}, losses.slice(0, PAGE).map((l) => el('li', null, clock(l.start), ' ', text(l.object)))), true));
  if (programs || g.lines.length) frag.append(section(level, 'Programs', programs, () => tree(g, m), true));
  if (nf) frag.append(section(level, 'Files', nf, makeFiles, false));
  if (nh) frag.append(section(level, 'Hosts', nh, makeHosts, nh <= 20));
  if (!programs && !g.lines.length) frag.append(el('p', {class: 'note'}, g.call ? 'The agent itself did this call: no program was run for it.' : 'Nothing.'));
  return frag;
}

function callEntry(g, span) {
  const c = g.call, [word, kind] = outcome(c);
  const bar = el('span', {class: 'span', 'aria-hidden': 'true'}, el('i', {class: kind}));
  const left = span.length > 0 ? Math.max(0, Math.min(100, 100 * (c.start - span.start) / span.length)) : 0;
  const width = span.length > 0 && c.length >= 0 ? 100 * c.length / span.length : 100 - left;
  bar.firstChild.style.setProperty('left', left + '%');
  bar.firstChild.style.setProperty('width', Math.max(0, Math.min(100 - left, width)) + '%');
  const sentence = fact(c, 'call.summary') || changed(c);
  return disclosure(g, 4, {
    name: text(title(c), 'cmd'),
    before: el('time', {datetime: iso(c.start), class: 'time'}, clock(c.start)),
    after: [badge(word, kind), el('span', {class: 'took'}, duration(c.length)), bar],
    below: el('p', {class: 'sentence'}, badges(c), ' ', sentence && text(sentence)),
  }, (m) => {
    const tool = fact(c, 'gen_ai.tool.name');
    return inside(g, 5, [['Tool', tool === 'unknown' ? '' : tool], ['MCP server', fact(c, 'mcp.server')], ['Call', c.id],
      ['Known by', say(ATTRIBUTION[fact(c, 'attribution')]) || fact(c, 'attribution')], ['Began', say(iso(c.start))], ['Took', say(duration(c.length))],
      ['Programs', num(c, 'programs') ? say(plural(num(c, 'programs'), 'program') + (num(c, 'programs.failed') ? `, ${num(c, 'programs.failed')} failed` : '')) : ''],
      ['Look at', list(c, 'notable.lines')], ...names(c),
      ['CPU time', num(c, 'cpu_ns') ? say(duration(num(c, 'cpu_ns'))) : ''], ['Peak memory of one program', num(c, 'memory.peak_bytes') ? say(bytes(num(c, 'memory.peak_bytes'))) : ''],
      ['Lost', num(c, 'lost') ? say(plural(num(c, 'lost'), 'record')) : ''], ['Counts', fact(c, 'count.partial') ? say('may be too small: the sensor was started again meanwhile') : '']], m);
  });
}

// looks are the sentences of what is notable, each with the entry that has it.
function looks(story, calls, own) {
  const out = [], seen = new Set();
  for (const d of calls) {
    for (const s of list(d.g.call, 'notable.lines')) { out.push([s, d]); seen.add(s); }
    if (fact(d.g.call, 'approval.violated')) out.push(['ran although it was denied', d]);
  }
  const ownSays = new Set(own ? own.g.nodes.concat(own.g.lines).map((x) => x.flags & NOTABLE && detail(x, 'notable')) : []);
  for (const s of list(story, 'notable.lines')) if (!seen.has(s)) { out.push([s, ownSays.has(s) ? own : null]); seen.add(s); }
  if (!out.length) { // no account: what the spans say by themselves
    for (const d of heads) {
      if (d.g.story !== story) continue;
      for (const x of d.g.nodes.concat(d.g.lines)) { const s = x.flags & NOTABLE && detail(x, 'notable'); if (s && !seen.has(s)) { seen.add(s); out.push([s, d]); } }
      if (out.length > PAGE) break;
    }
  }
  return out;
}

function jump(d) {
  d.open(true);
  rove(d);
  d.button.focus({preventScroll: true});
  d.li.scrollIntoView({block: 'start'});
}

function storySection(story, i) {
  const own = ofStory[i], calls = ofCall.filter((g) => g.story === story);
  const span = {start: story.start, length: story.length};
  const agent = story.id.startsWith('agent-') || calls.length > 0;
  const name = agent ? story.agent || fact(story, 'session.summary') && 'agent' || 'agent' : 'sandbox without an agent';
  const sec = el('section', {class: 'story', 'aria-labelledby': 's' + i},
    el('h2', {id: 's' + i}, text(name), ' ', el('small', null, text(story.session || story.sandbox))));
  const sentence = fact(story, 'session.summary');
  if (sentence) sec.append(el('p', {class: 'lead'}, text(sentence)));
  const ownHas = own.nodes.length || own.lines.length;
  sec.append(definitions([['Command', fact(story, 'process.command_line')], ['Workspace', fact(story, 'workspace')],
    ['Began', say(iso(story.start).slice(0, 19).replace('T', ' ') + ' UTC')], ['Took', say(duration(story.length))],
    ['Started in', story.parent], ['Host', story.where['host.name']], ['Container', story.where['container.name']], ['Image', story.where['container.image.name']],
    ['Pod', story.where['k8s.pod.name'] && [story.where['k8s.namespace.name'], story.where['k8s.pod.name']].filter(Boolean).join('/')],
    ['Reported late', num(story, 'session.late') ? plural(num(story, 'session.late'), 'fact') + ' of calls that were told before' : ''],
    ['Counts', fact(story, 'count.partial') ? say('may be too small: the sensor was started again meanwhile') : '']]));
  sec.append(tiles(story, calls.length));
  if (agent && !story.over) sec.append(el('p', {class: 'note'}, 'The end of the agent is not in this report, and its sums are told with its end.'));
  const olist = el('ol', {class: 'calls'});
  const entries = calls.map((g) => { const d = callEntry(g, span); olist.append(d.li); return d; });
  let ownEntry = null;
  if (ownHas) {
    ownEntry = disclosure(own, 3, {
      name: agent ? 'What the agent did by itself' : 'What was done',
      after: el('span', {class: 'took'}, plural(own.nodes.length, 'program') + ', ' + plural(own.lines.length, 'line')),
      below: agent ? el('p', {class: 'sentence'}, 'Its own program and helpers, outside of tool calls.') : '',
    }, (m) => inside(own, 4, agent ? [] : names(story), m));
    ownEntry.li.classList.add('own');
  }
  const look = looks(story, entries, ownEntry);
  if (look.length) {
    const ol = el('ul', {class: 'looks'});
    const box = el('div', {class: 'first'}, ol);
    sec.append(el('h3', null, 'Look at this first'), box);
    chunked(look, ol, ([s, d]) => el('li', null, d ? el('button', {type: 'button', class: 'link', onclick: () => jump(d)}, text(s)) : text(s), d && el('small', null, ' in ', d.g.call ? text(title(d.g.call)) : 'what the agent did by itself')), box, FEW);
    if (num(story, 'notable') > look.length) box.append(el('p', {class: 'note'}, `${num(story, 'notable').toLocaleString('en')} were notable in all: search and filters find the others.`));
  }
  const losses = own.lines.concat(...calls.map((g) => g.lines)).filter((l) => l.flags & LOSS);
  if (losses.length && !num(story, 'lost')) sec.append(el('p', {class: 'note bad'}, 'Records were lost: see Losses below.'));
  const deeds = agent ? names(story).filter(([, v]) => !(Array.isArray(v) && !v.length)) : [];
  if (deeds.length) sec.append(section(3, 'What changed, and what was reached', undefined, () => definitions(deeds), false));
  if (calls.length) sec.append(el('h3', null, 'Calls'), olist);
  if (ownEntry) sec.append(ownEntry.li);
  sec.entries = entries.concat(ownEntry || []);
  return sec;
}

// ---- The page.

const $ = (id) => document.getElementById(id);
const main = $('main'), find = $('find'), status = $('status');
const sections = data.stories.map(storySection);
main.append(...sections);
if (!sections.length) main.append(el('p', {class: 'note'}, 'There are no spans in this report.'));
const first = data.stories[0];
if (first) {
  const agents = data.stories.filter((s) => s.id.startsWith('agent-'));
  $('title').replaceChildren('What ', text(agents.length > 1 ? `${agents.length} agents` : first.agent || 'was done in a sandbox'), first.agent || agents.length > 1 ? ' did' : '');
  const begin = Math.min(...data.stories.map((s) => s.start)), end = Math.max(...data.stories.map((s) => s.start + s.length));
  $('subtitle').textContent = `${iso(begin).slice(0, 19).replace('T', ' ')} to ${clock(end)}. All times are UTC.`;
}
const leftOut = [];
if (data.left.lines) leftOut.push(`${plural(data.left.lines, 'span')}${data.left.notable ? `, ${data.left.notable} of them notable` : ''}`);
if (data.left.calls) leftOut.push(plural(data.left.calls, 'span') + ' of further calls');
if (data.left.stories) leftOut.push(plural(data.left.stories, 'span') + ' of further agents and sandboxes');
if (leftOut.length) { $('left').textContent = 'Left out of this report, which is bounded: ' + leftOut.join(', ') + '. The sums above count them.'; $('left').className = 'note bad'; }
$('about').textContent = `Made by sheetbend ${data.version}. What the kernel saw; arguments are masked and may be cut. This file loads nothing.`;

const filterBox = $('filters');
for (const f of filters) {
  filterBox.append(el('button', {type: 'button', 'aria-pressed': 'false', title: f.hint, onclick: (e) => {
    mask ^= f.mask;
    e.currentTarget.setAttribute('aria-pressed', String((mask & f.mask) !== 0));
    apply();
  }}, f.name));
}

function apply() {
  let calls = 0, found = 0;
  for (const d of heads) {
    d.m = match(d.g);
    d.li.hidden = !d.m.any;
    d.found.textContent = d.m.all || !d.m.found ? '' : plural(d.m.found, 'match', 'matches');
    if (d.m.any && d.g.call) calls++;
    if (d.m.found) found += d.m.found;
    if (d.isOpen()) { if (d.m.any) d.open(true); else d.open(false); }
  }
  for (const s of sections) s.classList.toggle('empty', active() && s.entries.every((d) => d.li.hidden));
  const at = heads.find((d) => d.button.tabIndex === 0 && !d.li.hidden) || heads.find((d) => !d.li.hidden);
  if (at) rove(at);
  status.textContent = active() ? `${plural(found, 'match', 'matches')} in ${plural(calls, 'call')}` : '';
}
let timer = 0;
find.addEventListener('input', () => {
  clearTimeout(timer);
  timer = setTimeout(() => { query = find.value.trim().toLowerCase(); apply(); }, 100);
});
document.addEventListener('keydown', (e) => {
  if (e.key === '/' && !/^(INPUT|TEXTAREA)$/.test(e.target.tagName) && !e.ctrlKey && !e.metaKey && !e.altKey) {
    e.preventDefault();
    find.focus();
    find.select();
  } else if (e.key === 'Escape') escape(e);
});
function escape(e) {
  if (active()) {
    for (const b of filterBox.children) b.setAttribute('aria-pressed', 'false');
    find.value = query = '';
    mask = 0;
    apply();
  } else {
    const d = heads.find((x) => x.li.contains(e.target) && x.isOpen());
    if (d) { d.open(false); rove(d); d.button.focus(); }
    else if (e.target === find) { const at = heads.find((x) => x.button.tabIndex === 0); if (at) at.button.focus(); }
  }
}
main.addEventListener('keydown', headKeys);
if (heads.length) rove(heads[0]);
document.documentElement.dataset.ready = 'yes';
})();
