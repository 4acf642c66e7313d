// A picture with its outline, whose points can be moved, added and deleted by mouse, touch and keys.
// Coordinates are those of the picture: pixel (x, y) covers the square from (x, y) to (x + 1, y + 1).

const SVG = "http://www.w3.org/2000/svg";
const svgElement = (name, className) => {
  const element = document.createElementNS(SVG, name);
  if (className) element.setAttribute("class", className);
  return element;
};
const rounded = (value) => Math.round(value * 100) / 100;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const pathOf = (rings) => rings.map((ring) => `M${ring.map((p) => p.join(" ")).join("L")}Z`).join("");

export const ringsOf = (polygons) => polygons.flatMap((polygon) => [polygon.exterior, ...polygon.holes]);

export class Editor {
  // onchange(rings) is called after each change, with null after a reset; say(text) for screen readers.
  constructor(svg, { onchange, say }) {
    this.svg = svg;
    this.onchange = onchange;
    this.say = say;
    this.world = svgElement("g");
    this.image = svgElement("image");
    this.halo = svgElement("path", "halo");
    this.line = svgElement("path", "line");
    this.points = svgElement("g");
    this.world.append(this.image, this.halo, this.line, this.points);
    svg.replaceChildren(this.world);
    this.pointers = new Map();
    this.clear();
    svg.addEventListener("pointerdown", (event) => this.pointerDown(event));
    svg.addEventListener("pointermove", (event) => this.pointerMove(event));
    for (const name of ["pointerup", "pointercancel"]) svg.addEventListener(name, (event) => this.pointerUp(event));
    svg.addEventListener("dblclick", (event) => this.doubleClick(event));
    svg.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    svg.addEventListener("keydown", (event) => this.keyDown(event));
    new ResizeObserver(() => { if (!this.zoomed) this.fit(); }).observe(svg);
  }

  clear() {
    this.size = [1, 1];
    this.show({ width: 1, height: 1, polygons: [], rings: [] }, "");
  }

  // Show the outline `shape` of the server over the picture at `source`; `corrected` are rings drawn earlier.
  show(shape, source, corrected = null) {
    this.shape = shape;
    this.size = [shape.width, shape.height];
    for (const [name, value] of [["width", shape.width], ["height", shape.height], ["preserveAspectRatio", "none"]]) this.image.setAttribute(name, value);
    if (source) this.image.setAttribute("href", source);
    else this.image.removeAttribute("href");
    this.svg.style.aspectRatio = `${shape.width} / ${shape.height}`;
    this.rings = corrected;
    this.past = [];
    this.future = [];
    this.chosen = null;
    this.drag = null;
    this.editing = false;
    this.fit();
  }

  get editing() { return this.svg.classList.contains("editing"); }

  set editing(on) {
    this.svg.classList.toggle("editing", on);
    this.chosen = null;
    this.draw();
  }

  // What is drawn: the user's rings, or, to edit, the model's with few corners, else the model's exactly.
  get drawn() { return this.rings ?? (this.editing ? this.shape.rings : ringsOf(this.shape.polygons)); }

  draw() {
    const { scale, x, y } = this.place ?? { scale: 1, x: 0, y: 0 };
    this.world.setAttribute("transform", `translate(${x} ${y}) scale(${scale})`);
    this.world.classList.toggle("corrected", this.rings !== null);
    const rings = this.drawn;
    for (const path of [this.halo, this.line]) path.setAttribute("d", pathOf(rings));
    const circles = [];
    const small = this.svg.clientWidth < 500 ? 0.7 : 1;
    if (this.editing) {
      rings.forEach((ring, r) => ring.forEach(([px, py], p) => {
        const chosen = this.chosen && this.chosen[0] === r && this.chosen[1] === p;
        const circle = svgElement("circle", chosen ? "chosen" : "");
        circle.setAttribute("cx", px);
        circle.setAttribute("cy", py);
        circle.setAttribute("r", small * (chosen ? 7 : 4.5) / scale);
        circles.push(circle);
      }));
    }
    this.points.replaceChildren(...circles);
  }

  // --- view ---

  fit() {
    const { width, height } = this.svg.getBoundingClientRect();
    const scale = Math.min(width / this.size[0], height / this.size[1]) || 1;
    this.place = { scale, x: (width - scale * this.size[0]) / 2, y: (height - scale * this.size[1]) / 2 };
    this.zoomed = false;
    this.draw();
  }

  zoom(factor, at) {
    const box = this.svg.getBoundingClientRect();
    const [cx, cy] = at ?? [box.width / 2, box.height / 2];
    const scale = clamp(this.place.scale * factor, 0.02, 64);
    const ratio = scale / this.place.scale;
    this.place = { scale, x: cx - (cx - this.place.x) * ratio, y: cy - (cy - this.place.y) * ratio };
    this.zoomed = true;
    this.draw();
  }

  pan(dx, dy) {
    this.place = { ...this.place, x: this.place.x + dx, y: this.place.y + dy };
    this.zoomed = true;
    this.draw();
  }

  // --- changes ---

  // Take the state before a change into the history, and return rings that may be changed.
  begin() {
    this.past.push(this.rings);
    this.future = [];
    this.rings = this.drawn.map((ring) => ring.map((point) => [...point]));
    return this.rings;
  }

  done() {
    this.draw();
    this.onchange(this.rings);
  }

  back(from, to, word) {
    if (!from.length) return this.say(`nothing to ${word}`);
    to.push(this.rings);
    this.rings = from.pop();
    this.chosen = null;
    this.say(word);
    this.done();
  }

  undo() { this.back(this.past, this.future, "undo"); }

  redo() { this.back(this.future, this.past, "redo"); }

  reset() {
    if (this.rings === null) return;
    this.past.push(this.rings);
    this.future = [];
    this.rings = null;
    this.chosen = null;
    this.say("reset to the model's outline");
    this.done();
  }

  moveTo([r, p], [x, y]) {
    this.rings[r][p] = [rounded(clamp(x, 0, this.size[0])), rounded(clamp(y, 0, this.size[1]))];
  }

  insert([r, p], point) {
    this.begin();
    const ring = this.rings[r];
    const next = ring[(p + 1) % ring.length];
    ring.splice(p + 1, 0, [0, 0]);
    this.chosen = [r, p + 1];
    this.moveTo(this.chosen, point ?? [(ring[p][0] + next[0]) / 2, (ring[p][1] + next[1]) / 2]);
  }

  remove() {
    if (!this.chosen) return this.say("choose a point first");
    const [r, p] = this.chosen;
    this.begin();
    if (this.rings[r].length > 3) this.rings[r].splice(p, 1);
    else this.rings.splice(r, 1);
    this.chosen = this.rings[r]?.length ? [r, p % this.rings[r].length] : null;
    this.sayPoint("deleted; now ");
    this.done();
  }

  add() {
    if (!this.chosen) return this.say("choose a point first");
    this.insert(this.chosen);
    this.sayPoint("added ");
    this.done();
  }

  // A new ring in the middle of what is seen: a first outline, another region, or a hole.
  addRing() {
    const box = this.svg.getBoundingClientRect();
    const [cx, cy] = this.toPicture([box.width / 2, box.height / 2]);
    const radius = 0.2 * Math.min(box.width, box.height) / this.place.scale;
    this.begin();
    this.rings.push(Array.from({ length: 8 }, () => [0, 0]));
    const r = this.rings.length - 1;
    for (let p = 0; p < 8; p++) {
      this.moveTo([r, p], [cx + radius * Math.cos(p * Math.PI / 4), cy + radius * Math.sin(p * Math.PI / 4)]);
    }
    this.chosen = [r, 0];
    this.sayPoint("new outline, ");
    this.done();
  }

  // Choose the next point, or the one before for -1.
  step(by) {
    const all = this.drawn.flatMap((ring, r) => ring.map((_, p) => [r, p]));
    if (!all.length) return this.say("there is no point");
    const now = this.chosen ? all.findIndex(([r, p]) => r === this.chosen[0] && p === this.chosen[1]) : by > 0 ? -1 : 0;
    this.chosen = all[(now + by + all.length) % all.length];
    this.reveal();
    this.sayPoint();
    this.draw();
  }

  reveal() {
    const box = this.svg.getBoundingClientRect();
    const [px, py] = this.drawn[this.chosen[0]][this.chosen[1]];
    const [x, y] = [px * this.place.scale + this.place.x, py * this.place.scale + this.place.y];
    if (x < 0 || y < 0 || x > box.width || y > box.height) this.pan(box.width / 2 - x, box.height / 2 - y);
  }

  sayPoint(before = "") {
    if (!this.chosen) return this.say(`${before}no point`);
    const [r, p] = this.chosen;
    const [x, y] = this.drawn[r][p];
    const of = this.drawn.length > 1 ? `, outline ${r + 1} of ${this.drawn.length}` : "";
    this.say(`${before}point ${p + 1} of ${this.drawn[r].length}${of}: x ${Math.round(x)}, y ${Math.round(y)}`);
  }

  // --- mouse and touch ---

  at(event) {
    const box = this.svg.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  toPicture([x, y]) { return [(x - this.place.x) / this.place.scale, (y - this.place.y) / this.place.scale]; }

  nearestPoint([x, y], reach) {
    let best = null;
    this.drawn.forEach((ring, r) => ring.forEach(([px, py], p) => {
      const distance = Math.hypot(px - x, py - y);
      if (distance < reach) [best, reach] = [[r, p], distance];
    }));
    return best;
  }

  nearestSide([x, y], reach) {
    let best = null;
    this.drawn.forEach((ring, r) => ring.forEach(([ax, ay], p) => {
      const [bx, by] = ring[(p + 1) % ring.length];
      const length = (bx - ax) ** 2 + (by - ay) ** 2 || 1;
      const t = clamp(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length, 0, 1);
      const distance = Math.hypot(ax + t * (bx - ax) - x, ay + t * (by - ay) - y);
      if (distance < reach) [best, reach] = [[r, p], distance];
    }));
    return best;
  }

  pointerDown(event) {
    if (event.button) return;
    this.svg.setPointerCapture(event.pointerId);
    const at = this.at(event);
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size === 2) {
      if (this.drag?.changed) this.done();
      this.drag = null;
    }
    if (this.pointers.size > 1) return;
    this.drag = { from: at, pan: true };
    if (!this.editing) return;
    const reach = (event.pointerType === "mouse" ? 10 : 24) / this.place.scale;
    const place = this.toPicture(at);
    const point = this.nearestPoint(place, reach);
    if (point) {
      this.chosen = point;
      this.drag = { from: at, point };
    } else {
      const side = this.nearestSide(place, reach * 0.7);
      if (side) {
        this.insert(side, place);
        this.drag = { from: at, point: this.chosen, changed: true };
      } else {
        this.chosen = null;
      }
    }
    this.draw();
  }

  pointerMove(event) {
    if (!this.pointers.has(event.pointerId)) return;
    const before = this.pointers.get(event.pointerId);
    const at = this.at(event);
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const spread = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]) || 1;
      const middle = (a) => [(a[0] + other[0]) / 2, (a[1] + other[1]) / 2];
      this.zoom(spread(at) / spread(before), middle(before));
      this.pan(middle(at)[0] - middle(before)[0], middle(at)[1] - middle(before)[1]);
    } else if (this.drag?.point) {
      if (!this.drag.changed) {
        if (Math.hypot(at[0] - this.drag.from[0], at[1] - this.drag.from[1]) < 2) return;
        this.begin();
        this.drag.changed = true;
      }
      this.moveTo(this.drag.point, this.toPicture(at));
      this.draw();
    } else if (this.drag?.pan) {
      this.pan(at[0] - before[0], at[1] - before[1]);
    }
    this.pointers.set(event.pointerId, at);
  }

  pointerUp(event) {
    if (!this.pointers.delete(event.pointerId) || this.pointers.size) return;
    const drag = this.drag;
    this.drag = null;
    if (drag?.changed) this.done();
    if (drag?.point) this.sayPoint();
  }

  doubleClick(event) {
    if (!this.editing) return;
    this.chosen = this.nearestPoint(this.toPicture(this.at(event)), 10 / this.place.scale);
    if (this.chosen) this.remove();
  }

  wheel(event) {
    if (!this.editing && !event.ctrlKey) return; // else the page scrolls
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY / 400), this.at(event));
  }

  // --- keys ---

  keyDown(event) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.altKey) return;
    if (event.ctrlKey || event.metaKey) {
      if (!this.editing || (key !== "z" && key !== "y")) return;
      if (key === "y" || event.shiftKey) this.redo();
      else this.undo();
    } else {
      const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const always = { "+": () => this.zoom(1.25), "=": () => this.zoom(1.25), "-": () => this.zoom(0.8), 0: () => this.fit() };
      const edits = { n: () => this.step(1), p: () => this.step(-1), i: () => this.add(), Insert: () => this.add(), Delete: () => this.remove(), Backspace: () => this.remove(), o: () => this.addRing() };
      const act = always[key] ?? (this.editing ? edits[key] : null);
      if (act) act();
      else if (arrows[key] && this.editing && this.chosen) this.nudge(arrows[key], event.shiftKey ? 10 : 1);
      else if (arrows[key]) this.pan(-40 * arrows[key][0], -40 * arrows[key][1]);
      else return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  nudge([dx, dy], by) {
    const [r, p] = this.chosen;
    this.begin();
    const [x, y] = this.rings[r][p];
    this.moveTo(this.chosen, [x + dx * by, y + dy * by]);
    this.reveal();
    this.sayPoint();
    this.done();
  }
}
