import { ask, byId, connectTools, describe, estimate, number, say } from "./common.js";
import { Editor } from "./editor.js";

let items = [];
let current = null; // index, or null at the end
let shown = null; // index of the picture that can be seen, or null until it is loaded
let failed = null; // index of one that cannot be shown: it can be rejected, or left for later
let busy = false;
const history = [];
const loaded = new Map(); // index -> promise of a shape and a picture

const editor = new Editor(byId("picture"), { onchange: () => { buttons(); }, say });
connectTools(editor, byId("tools"));

const load = (index) => {
  if (!loaded.has(index)) {
    const picture = new Image();
    picture.src = `/api/review/${index}/picture`;
    const both = Promise.all([ask(`/api/review/${index}`).then((answer) => answer.json()), picture.decode()]);
    loaded.set(index, both.then(([shape]) => ({ shape, picture })));
    loaded.get(index).catch(() => { loaded.delete(index); });
  }
  return loaded.get(index);
};

// The next that is not decided, from the one after `index` on.
const nextAfter = (index) => {
  for (let step = 1; step <= items.length; step++) {
    const next = (index + step + items.length) % items.length;
    if (items[next].decision === null) return next;
  }
  return null;
};

const open = async (index) => {
  current = index;
  shown = failed = null;
  editor.clear();
  byId("facts").replaceChildren();
  buttons();
  const decided = items.filter((item) => item.decision !== null).length;
  byId("progress").max = items.length;
  byId("progress").value = decided;
  byId("count").textContent = `${decided} of ${items.length} decided`;
  byId("view").hidden = index === null;
  byId("end").hidden = index !== null;
  if (index === null) {
    say("all predictions are decided");
    byId("again").focus();
    return;
  }
  const item = items[index];
  byId("name").textContent = item.name;
  try {
    const { shape, picture } = await load(index);
    if (current !== index) return;
    editor.show(shape, picture.src);
    shown = index;
    buttons();
    describe(byId("facts"), [
      ["Estimated IoU", estimate(item.word, item.estimated_iou)],
      ["Area", `${number(shape.area_pixels)} pixels`],
      ["Longest diameter", `${number(shape.longest_diameter_pixels, 1)} pixels`],
      ["Picture", `${shape.width} × ${shape.height} pixels`],
      ["Decision", item.decision ? { accept: "accepted", correct: "corrected", reject: "rejected" }[item.decision] : "none yet"],
    ]);
    say(`${item.name}: ${item.word ?? "no estimate"}`);
    byId("picture").focus({ preventScroll: true });
    const next = nextAfter(index);
    for (const old of loaded.keys()) if (old !== index && old !== next && old !== history.at(-1)) loaded.delete(old);
    if (next !== null && next !== index) load(next).catch(() => {});
  } catch (error) {
    if (current !== index) return;
    failed = index;
    buttons();
    say(`${item.name}: ${error.message || "the picture cannot be shown"}; reject it, or leave it for later`);
  }
};

const decide = async (decision) => {
  const index = shown ?? (decision === "reject" ? failed : null);
  if (busy || index === null) return;
  busy = true;
  try {
    const content = decision === "correct" ? { decision, rings: editor.drawn } : { decision };
    items[index] = await (await ask(`/api/review/${index}`, content)).json();
  } catch (error) {
    return say(error.message);
  } finally {
    busy = false;
  }
  loaded.delete(index);
  history.push(index);
  await open(nextAfter(index));
};

const setEditing = (on) => {
  editor.editing = on;
  buttons();
};

const buttons = () => {
  byId("correct").setAttribute("aria-pressed", String(editor.editing));
  byId("edits").hidden = !editor.editing;
  byId("save").hidden = !editor.editing;
  byId("save").disabled = editor.rings === null;
  byId("accept").disabled = shown === null;
  byId("correct").disabled = shown === null;
  byId("reject").disabled = shown === null && failed === null;
  byId("back").disabled = !history.length;
};

const unsaved = () => editor.editing && editor.rings !== null;
// An action that leaves the picture, and with it what is drawn.
const leaving = (act) => () => {
  if (busy) return;
  if (unsaved()) return say("save the correction with s, or end it with c");
  act();
};
const back = () => { if (history.length) open(history.pop()); };
const later = () => {
  if (current === null) return;
  history.push(current);
  open(nextAfter(current));
};
const toggle = () => {
  if (busy || shown === null) return;
  if (editor.editing && editor.rings !== null) editor.reset();
  setEditing(!editor.editing);
  say(editor.editing ? "correcting: n and p choose a point, arrows move it, s saves" : "correction ended");
  byId("picture").focus({ preventScroll: true });
};
const save = () => { if (unsaved()) decide("correct"); };

const actions = { a: leaving(() => decide("accept")), c: toggle, s: save, r: leaving(() => decide("reject")), b: leaving(back), l: leaving(later) };
const buttonKeys = { accept: "a", correct: "c", save: "s", reject: "r", back: "b", later: "l", again: "b" };
for (const [id, key] of Object.entries(buttonKeys)) byId(id).addEventListener("click", actions[key]);
document.addEventListener("keydown", (event) => {
  const act = actions[event.key.toLowerCase()];
  if (!act || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  event.preventDefault();
  act();
});
window.addEventListener("beforeunload", (event) => { if (unsaved()) event.preventDefault(); });

items = await (await ask("/api/review")).json();
await open(nextAfter(-1));
