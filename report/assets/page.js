'use strict';
(() => {
const runs = JSON.parse(document.getElementById('data').textContent);
const ROLES = ['sealed', 'unsealed', 'random weights'];
const SVG = 'http://www.w3.org/2000/svg';
const tip = document.getElementById('tip');

// All text goes in as text: names come from strangers.
function el(name, attrs, ...kids) {
  const e = document.createElement(name);
  for (const k in attrs || {}) e.setAttribute(k, attrs[k]);
  e.append(...kids);
  return e;
}
function svg(name, attrs, ...kids) {
  const e = document.createElementNS(SVG, name);
  for (const k in attrs || {}) e.setAttribute(k, attrs[k]);
  e.append(...kids);
  return e;
}
const finite = x => typeof x === 'number' && isFinite(x);
const loss = x => finite(x) ? x.toFixed(3) : 'diverged';
const rate = x => finite(x) ? x.toExponential(3).replace(/\.?0*e/, 'e').replace('e+', 'e').replace(/e0$/, '') : '–';
const name = text => { const b = el('bdi'); b.textContent = text; return b; };

// A marker's shape tells roles apart without colour.
function marker(role, x, y, r) {
  const c = {class: 'pin r' + role};
  if (role === 0) return svg('rect', {...c, x: x - r, y: y - r, width: 2 * r, height: 2 * r});
  if (role === 1) return svg('circle', {...c, cx: x, cy: y, r: r + .4});
  return svg('path', {...c, d: `M${x} ${y - r * 1.3}l${r * 1.3} ${r * 2.2}h${-r * 2.6}z`});
}
const crossAt = (role, x, y, r) => svg('path', {class: 'cross r' + role, d: `M${x - r} ${y - r}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}`});

function ticks(lo, hi, n) {
  const raw = (hi - lo) / Math.max(1, n), p = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(k => k * p).find(s => s >= raw) || raw;
  const out = [];
  for (let v = Math.ceil(lo / step - 1e-9) * step; v <= hi + step * 1e-9; v += step) out.push(+v.toPrecision(10));
  return out;
}

// --- Loss curves ---------------------------------------------------------

function Curves(box, run) {
  const q = s => box.querySelector(s);
  const pick = q('select'), chart = q('.chart'), readout = q('.readout'), legend = q('.legend');
  const show = {training: true};
  let now = run.first, width = 0, plot = null, at = -1;

  const groups = {A: 'Class A: off the shelf, weights', B: 'Class B: off the shelf, activations', C: 'Class C: informed'};
  for (const c in groups) {
    const g = el('optgroup', {label: groups[c]});
    run.recipes.forEach((r, i) => {
      if (r.c !== c) return;
      const o = el('option', {value: i});
      o.textContent = r.n + ' – ' + r.v + (r.v === 'held' || r.v === 'broken' ? ', learned ' + r.l : '');
      g.append(o);
    });
    if (g.children.length) pick.append(g);
  }
  const order = [...pick.options].map(o => +o.value);

  function choose(i, focus) {
    now = i; at = -1;
    pick.value = i;
    const r = run.recipes[i];
    q('.about').replaceChildren(name([r.a, r.w].filter(Boolean).join(' – ')));
    legends(r);
    draw();
    table(r);
    if (focus) { box.scrollIntoView({block: 'start'}); pick.focus({preventScroll: true}); }
  }

  function legends(r) {
    legend.replaceChildren();
    for (const c of [...r.k].sort((a, b) => [1, 0, 2].indexOf(a.r) - [1, 0, 2].indexOf(b.r))) {
      const s = svg('svg', {'aria-hidden': 'true'}, svg('path', {class: 'held-out r' + c.r, d: 'M0 6h30'}), marker(c.r, 15, 6, 3.5));
      legend.append(el('span', {}, s, ['sealed', 'normal (unsealed)', 'random weights'][c.r] + ', held-out, rate ' + rate(c.lr)));
    }
    if (!r.k.length) return;
    const box = el('input', {type: 'checkbox'});
    box.checked = show.training;
    box.addEventListener('change', () => { show.training = box.checked; draw(); });
    legend.append(el('label', {}, box, 'thin: training loss'));
  }

  function draw() {
    width = chart.clientWidth;
    if (!width) return;
    chart.replaceChildren();
    const r = run.recipes[now];
    readout.replaceChildren();
    if (!r.k.length) {
      plot = null;
      const p = el('p', {class: 'note'});
      p.textContent = r.v === 'not run' ? 'Not run.' : 'The trials of this recipe are not in this report.';
      chart.append(p);
      return;
    }
    plot = frame(r);
    chart.append(plot.svg);
    plot.refs();
    for (const c of r.k) if (show.training) plot.line(c, c.t, 'training');
    for (const c of [...r.k].sort((a, b) => b.r - a.r)) plot.line(c, c.e, 'held-out');
    plot.ends();
    hint();
  }

  function hint() {
    readout.textContent = run.recipes[now].k.length ? 'Point at the chart, or focus it and use the arrow keys, to read values.' : '';
  }

  function frame(r) {
    const h = Math.round(Math.max(280, Math.min(430, width * .48)));
    const m = {l: 38, r: width > 560 ? 118 : 14, t: 14, b: 38};
    const [start, unigram, uniform, bound] = run.lines;
    let lo = Infinity, hi = -Infinity, last = 1;
    const cap = 1.25 * Math.max(...[start, uniform, unigram].filter(finite), 0) || Infinity;
    for (const c of r.k) for (const [s, v] of [c.e, show.training ? c.t : [[], []]]) v.forEach((y, i) => {
      last = Math.max(last, s[i]);
      if (finite(y)) { lo = Math.min(lo, y); hi = Math.max(hi, Math.min(y, cap)); }
    });
    for (const y of [start, unigram, uniform]) if (finite(y)) { lo = Math.min(lo, y); hi = Math.max(hi, y); }
    if (!(lo < hi)) { lo = (finite(lo) ? lo : 0) - .5; hi = lo + 1; }
    const pad = (hi - lo) * .06;
    hi += pad; lo = Math.max(0, lo - (m.r > 60 ? 1 : 2.5) * pad); // room for labels below the curves
    const X = s => m.l + s / last * (width - m.l - m.r), Y = v => m.t + (hi - Math.min(v, hi)) / (hi - lo) * (h - m.t - m.b);
    const root = svg('svg', {viewBox: `0 0 ${width} ${h}`, role: 'img', 'aria-label': describe(r)});
    for (const v of ticks(lo, hi, 5)) root.append(svg('line', {class: 'grid', x1: m.l, x2: width - m.r, y1: Y(v), y2: Y(v)}),
      svg('text', {x: m.l - 6, y: Y(v) + 4, 'text-anchor': 'end'}, String(v)));
    for (const s of ticks(0, last, width > 560 ? 8 : 4)) if (s === Math.round(s)) root.append(svg('text', {x: X(s), y: h - m.b + 16, 'text-anchor': 'middle'}, String(s)));
    root.append(svg('text', {x: m.l, y: h - 4}, 'training step'), svg('text', {x: 0, y: 10}, 'loss, nats per token'));
    const ends = [];
    return {
      svg: root, X, Y, m, last, h,
      refs() {
        const list = [['start', start], ['uniform guess', uniform], ['unigram', unigram]].filter(x => finite(x[1])).sort((a, b) => b[1] - a[1]);
        let free = -Infinity;
        for (const [label, v] of list) {
          const isBound = v === bound;
          root.append(svg('line', {class: 'ref' + (isBound ? ' bound' : ''), x1: m.l, x2: width - m.r, y1: Y(v), y2: Y(v)}));
          const y = Math.max(Y(v) - 4, free + 12);
          free = y;
          root.append(svg('text', {class: 'halo', x: width - m.r - 4, y, 'text-anchor': 'end'}, label + ' ' + v.toFixed(2) + (isBound ? ' = bound' : '')));
        }
      },
      line(c, [steps, losses], kind) {
        let d = '', pen = false, lastGood = null;
        steps.forEach((s, i) => {
          if (!finite(losses[i])) { pen = false; return; }
          d += (pen ? 'L' : 'M') + X(s).toFixed(1) + ' ' + Y(losses[i]).toFixed(1);
          pen = true; lastGood = [s, losses[i]];
        });
        root.append(svg('path', {class: kind + ' r' + c.r, d}));
        if (kind !== 'held-out') return;
        if (steps.length <= 30) steps.forEach((s, i) => finite(losses[i]) && root.append(marker(c.r, X(s), Y(losses[i]), 3.2)));
        if (!lastGood) return;
        let x = X(lastGood[0]), y = Y(lastGood[1]), text = ROLES[c.r].split(' ')[0].replace('unsealed', 'normal') + ' ' + lastGood[1].toFixed(2);
        if (c.d) {
          const t = c.t[0].length ? c.t[0][c.t[0].length - 1] : lastGood[0];
          x = X(Math.max(t, lastGood[0]));
          root.append(svg('path', {class: 'held-out r' + c.r, d: `M${X(lastGood[0])} ${y}L${x} ${y}`, 'stroke-dasharray': '2 4'}), crossAt(c.r, x, y, 5));
          text = ROLES[c.r].split(' ')[0].replace('unsealed', 'normal') + ' diverged';
        }
        ends.push({x, y, r: c.r, text});
      },
      ends() {
        ends.sort((a, b) => a.y - b.y);
        let free = -Infinity;
        for (const [i, e] of ends.entries()) {
          // Within the plot the lowest label goes below its curve, clear of the others.
          const inside = m.r < 60 || e.x < width - m.r - 90, below = i > 0 && i === ends.length - 1 && e.y < h - m.b - 16;
          const y = Math.max(e.y + (!inside ? 4 : below ? 19 : -10), free + 15);
          free = y;
          root.append(svg('text', {class: 'end halo r' + e.r, x: inside ? Math.min(e.x, width - m.r) : e.x + 10, y, 'text-anchor': inside ? (e.x < 120 ? 'start' : 'end') : 'start'}, e.text));
        }
      },
    };
  }

  function describe(r) {
    return 'Loss curves of ' + r.n + ': ' + r.k.map(c => {
      const v = c.e[1].filter(finite);
      return ROLES[c.r] + (c.d ? ' diverged' : v.length ? ' from ' + loss(v[0]) + ' to ' + loss(v[v.length - 1]) : '');
    }).join('; ');
  }

  // Steps at which anything was drawn, for reading values.
  const steps = r => [...new Set(r.k.flatMap(c => [...c.e[0], ...(show.training ? c.t[0] : [])]))].sort((a, b) => a - b);
  function nearest([s, v], x) {
    let best = -1;
    s.forEach((t, i) => { if (best < 0 || Math.abs(t - x) < Math.abs(s[best] - x)) best = i; });
    return best < 0 ? null : [s[best], v[best]];
  }
  function read(step) {
    at = step;
    const r = run.recipes[now];
    plot.svg.querySelectorAll('.cursor').forEach(e => e.remove());
    plot.svg.append(svg('line', {class: 'cursor', x1: plot.X(step), x2: plot.X(step), y1: plot.m.t, y2: plot.h - plot.m.b}));
    const b = el('b'); b.textContent = 'step ' + step;
    readout.replaceChildren(b);
    for (const c of [...r.k].sort((a, b) => [1, 0, 2].indexOf(a.r) - [1, 0, 2].indexOf(b.r))) {
      const held = nearest(c.e, step), train = show.training && nearest(c.t, step);
      const s = el('span', {class: 'r' + c.r});
      s.textContent = ROLES[c.r].replace('unsealed', 'normal');
      const ended = c.d && step > Math.max(...c.t[0], ...c.e[0]);
      readout.append(' · ', s, ended ? ' diverged' : (held ? ' held-out ' + loss(held[1]) + (held[0] !== step ? ' (step ' + held[0] + ')' : '') : '') + (train ? ', training ' + loss(train[1]) : ''));
    }
  }
  chart.addEventListener('pointermove', e => {
    if (!plot) return;
    const b = plot.svg.getBoundingClientRect(), x = (e.clientX - b.left) / b.width * width;
    const list = steps(run.recipes[now]);
    const s = list.reduce((p, c) => Math.abs(plot.X(c) - x) < Math.abs(plot.X(p) - x) ? c : p, list[0]);
    if (s !== undefined && s !== at) read(s);
  });
  chart.addEventListener('keydown', e => {
    const list = plot ? steps(run.recipes[now]) : [], i = list.indexOf(at);
    const to = {ArrowRight: Math.min(list.length - 1, i + 1), ArrowLeft: Math.max(0, i - 1), Home: 0, End: list.length - 1}[e.key];
    if (to === undefined || !list.length) return;
    e.preventDefault();
    read(list[to]);
  });

  function table(r) {
    const rows = r.p.map(p => el('tr', {}, el('td', {}, ROLES[p[0]]), el('td', {class: 'n'}, rate(p[1])), el('td', {class: 'n'}, String(p[2])),
      el('td', {class: 'n'}, loss(p[4])), el('td', {class: 'n'}, p[3] ? 'diverged' : loss(p[5])), el('td', {}, p[6] ? 'long run' : '')));
    const head = el('tr', {}, ...['Model', 'Rate', 'Seed', 'Best held-out', 'Last', ''].map((t, i) => el('th', {scope: 'col', class: i > 0 && i < 5 ? 'n' : ''}, t)));
    q('.trials .scroll').replaceChildren(el('table', {class: 'plain'}, el('thead', {}, head), el('tbody', {}, ...rows)));
    q('.trials').hidden = !rows.length;
  }

  pick.addEventListener('change', () => choose(+pick.value));
  box.querySelectorAll('.step').forEach(b => b.addEventListener('click', () => {
    const i = order.indexOf(now) + +b.dataset.step;
    choose(order[(i + order.length) % order.length]);
  }));
  box.hidden = false;
  choose(now);
  let wait;
  new ResizeObserver(() => {
    if (chart.clientWidth === width) return;
    cancelAnimationFrame(wait);
    wait = requestAnimationFrame(draw);
  }).observe(chart);
  return {choose};
}

// --- Sweep ---------------------------------------------------------------

function Sweep(box, run, curves) {
  const bound = run.lines[3];
  // 0: nothing learned; 1 to 4: quarters of the way from the bound to the lowest loss.
  const level = v => !finite(v) || !finite(bound) || v >= bound ? 0 : Math.min(4, 1 + Math.floor((bound - v) / (bound - run.low + 1e-12) * 4));
  const dot = (role, x, y, v) => {
    const k = level(v);
    return svg('circle', {class: 'dot r' + role + (k ? '' : ' none'), cx: x, cy: y, r: [3, 3.5, 4.5, 5.5, 6.5][k], ...(k ? {'fill-opacity': [0, .3, .55, .8, 1][k]} : {})});
  };
  key();
  for (const c of ['A', 'B', 'C']) {
    const list = run.recipes.map((r, i) => [r, i]).filter(([r]) => r.c === c && r.p.length);
    spans(list).forEach((part, i) => lanes(c, part, i));
  }
  if (!box.querySelector('.lane')) box.append(el('p', {class: 'note'}, 'No trials were run.'));

  function key() {
    const item = (text, ...kids) => el('span', {}, svg('svg', {'aria-hidden': 'true'}, ...kids), text);
    box.append(el('div', {class: 'key'},
      item('above the bound: nothing learned', svg('circle', {class: 'dot none r2', cx: 8, cy: 8, r: 3})),
      item('first quarter of the way from the bound to the lowest loss', svg('circle', {class: 'dot r2', cx: 8, cy: 8, r: 3.5, 'fill-opacity': .3})),
      item('last quarter', svg('circle', {class: 'dot r2', cx: 8, cy: 8, r: 6.5})),
      item('diverged', crossAt(2, 8, 8, 4)), item('some seeds diverged', svg('circle', {class: 'dot r2', cx: 8, cy: 8, r: 4.5, 'fill-opacity': .55}), crossAt(2, 8, 8, 7))));
  }

  function logsOf(r) { return r.p.map(p => Math.log10(p[1])).filter(isFinite); }

  // Recipes whose rates lie far apart get axes of their own.
  function spans(list) {
    const parts = [];
    for (const item of list) {
      const logs = logsOf(item[0]), lo = Math.min(...logs), hi = Math.max(...logs);
      let p = parts.find(p => Math.max(p.hi, hi) - Math.min(p.lo, lo) <= 10);
      if (!p) parts.push(p = {lo, hi, list: []});
      p.lo = Math.min(p.lo, lo); p.hi = Math.max(p.hi, hi);
      p.list.push(item);
    }
    return parts.map(p => p.list);
  }

  function lanes(c, list, part) {
    const logs = list.flatMap(([r]) => logsOf(r));
    const lo = Math.floor(Math.min(...logs) + 1e-9) - .35, hi = Math.ceil(Math.max(...logs) - 1e-9) + .35;
    const X = v => ((v - lo) / (hi - lo) * 100).toFixed(2) + '%';
    box.append(el('div', {class: 'lane head'}, el('div', {}, 'Class ' + c + (part ? ', other rates' : '')), el('div', {}, 'Normal (unsealed)'), el('div', {}, 'Sealed')));
    for (const [r, i] of list) lane(r, i, X);
    const every = Math.ceil((hi - lo) / 5), axis = () => {
      const s = svg('svg', {'aria-hidden': 'true'});
      for (let d = Math.ceil(lo); d <= hi; d++) if (d % every === 0) s.append(svg('text', {x: X(d), y: 12, 'text-anchor': 'middle'}, '1e' + d));
      return s;
    };
    box.append(el('div', {class: 'lane axis'}, el('span'), axis(), axis()));
  }

  function lane(r, i, X) {
    const b = el('button', {type: 'button'}, name(r.n));
    b.addEventListener('click', () => curves && curves.choose(i, true));
    box.append(el('div', {class: 'lane'}, b, strip(r, 1, X), strip(r, 0, X)));
  }

  // One dot per rate: the best of its seeds.
  function strip(r, role, X) {
    const by = new Map();
    for (const p of r.p) if (p[0] === role && !p[6]) {
      const d = by.get(p[1]) || {lr: p[1], best: null, seeds: 0, diverged: 0};
      d.seeds++; d.diverged += p[3];
      if (finite(p[4]) && !(d.best <= p[4] && d.best !== null)) d.best = p[4];
      by.set(p[1], d);
    }
    const all = [...by.values()].sort((a, b) => a.lr - b.lr);
    const say = d => 'rate ' + rate(d.lr) + ': ' + (d.best === null ? '' : loss(d.best)) + (d.diverged ? (d.best === null ? '' : ', ') + (d.diverged < d.seeds ? d.diverged + ' of ' + d.seeds + ' seeds ' : '') + 'diverged' : '');
    const s = svg('svg', {role: 'img', 'aria-label': r.n + ', ' + ROLES[role] + ': ' + (all.map(say).join('; ') || 'no trials')}, svg('line', {class: 'base', x1: 0, x2: '100%', y1: 12, y2: 12}));
    for (const d of all) {
      const x = X(Math.log10(d.lr)), at = svg('svg', {x, y: 12, overflow: 'visible'});
      if (d.diverged < d.seeds) at.append(dot(role, 0, 0, d.best));
      if (d.diverged) at.append(crossAt(role, 0, 0, d.diverged < d.seeds ? 7 : 4));
      s.append(at);
    }
    s.addEventListener('pointermove', e => {
      const w = s.getBoundingClientRect();
      const near = all.map(d => [d, Math.abs(w.left + parseFloat(X(Math.log10(d.lr))) / 100 * w.width - e.clientX)]).sort((a, b) => a[1] - b[1])[0];
      if (!near || near[1] > 24) { tip.hidden = true; return; }
      tip.textContent = say(near[0]);
      tip.hidden = false;
      const left = Math.min(e.pageX + 12, document.documentElement.clientWidth - tip.offsetWidth - 8);
      tip.style.left = Math.max(4, left) + 'px';
      tip.style.top = (w.top + scrollY - tip.offsetHeight - 4) + 'px';
    });
    s.addEventListener('pointerleave', () => { tip.hidden = true; });
    return s;
  }
}

// --- Tables that sort ----------------------------------------------------

for (const t of document.querySelectorAll('table.recipes')) {
  const heads = [...t.tHead.rows[0].cells], body = t.tBodies[0], first = [...body.rows];
  heads.forEach((h, i) => h.firstElementChild.addEventListener('click', () => {
    const was = h.getAttribute('aria-sort');
    const to = was === 'ascending' ? 'descending' : was === 'descending' ? 'none' : 'ascending';
    heads.forEach(x => x.setAttribute('aria-sort', 'none'));
    h.setAttribute('aria-sort', to);
    const num = h.classList.contains('n'), sign = to === 'descending' ? -1 : 1;
    const key = r => r.cells[i].dataset.v;
    const sorted = to === 'none' ? first : [...first].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === '' || y === '') return (x === '') - (y === ''); // what has no figure stands last either way
      return sign * (num ? x - y : x < y ? -1 : x > y ? 1 : 0);
    });
    body.append(...sorted);
  }));
}

runs.forEach((run, i) => {
  const id = 'run' + (i + 1), c = document.querySelector(`.curves[data-run=${id}]`), s = document.querySelector(`.sweep[data-run=${id}]`);
  const curves = c && Curves(c, run);
  if (s) Sweep(s, run, curves);
});
})();
