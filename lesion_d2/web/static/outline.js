import { ask, byId, connectTools, describe, element, estimate, number, pause, say } from "./common.js";
import { Editor, ringsOf } from "./editor.js";

const AT_ONCE = 2; // uploads
const PART = 7e6; // characters of a request
const THUMBNAIL = 144; // pixels
const entries = [];
const waiting = [];
let current = null;
let running = 0;

const editor = new Editor(byId("picture"), { onchange: changed, say });
connectTools(editor, byId("tools"));

// --- photographs in ---

// What tools/predict.py takes of a folder: a test compares the suffixes.
const SUFFIXES = [".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif", ".dcm"];
const isImage = (name) => SUFFIXES.some((suffix) => name.toLowerCase().endsWith(suffix)) && !/_segmentation\.[^.]*$/.test(name);

// Take what was chosen or dropped: paths, each with its file, or with null where it cannot be read. What is named is
// taken as it is; of a folder, the images that are not hidden.
const take = (found) => {
  const chosen = found.filter(({ path, file }) => {
    const below = path.split("/").slice(1);
    return !below.length || (!below.some((part) => part.startsWith(".")) && (!file || isImage(file.name)));
  });
  if (!chosen.length) return say("no photograph is there");
  for (const { path, file } of chosen) {
    const entry = { name: path, file, state: "waits", done: 0, result: null, shape: null, rings: null, pending: null, problem: "", again: false };
    entry.card = cardOf(entry);
    entries.push(entry);
    if (file) waiting.push(entry);
    else {
      Object.assign(entry, { state: "failed", reason: "cannot be read" });
      redraw(entry);
    }
  }
  byId("desk").hidden = false;
  tell();
  work();
};

for (const id of ["files", "folder", "camera"]) {
  byId(id).addEventListener("change", (event) => {
    take([...event.target.files].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
    event.target.value = "";
  });
}
byId("camera-label").hidden = !navigator.maxTouchPoints; // phones and tablets have a camera at hand

const drop = byId("drop");
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const dropped = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  take((await Promise.all(dropped.filter(Boolean).map(filesOf))).flat());
});

// The files of what was dropped: a file, or a folder with all below it.
const filesOf = async (dropped) => {
  if (dropped instanceof File) return [{ path: dropped.name, file: dropped }];
  const path = dropped.fullPath.replace(/^\//, "");
  const found = [];
  const unread = [];
  try {
    if (dropped.isFile) return [{ path, file: await new Promise((resolve, reject) => { dropped.file(resolve, reject); }) }];
    const reader = dropped.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
      if (!some.length) break;
      found.push(...some);
    }
  } catch {
    unread.push({ path, file: null });
  }
  return [unread, ...await Promise.all(found.map(filesOf))].flat();
};

// --- outlining ---

const work = async () => {
  if (running >= AT_ONCE || !waiting.length) return;
  running += 1;
  const entry = waiting.shift();
  work();
  try {
    entry.result = entry.shape = await outlined(entry);
    entry.file = null;
    entry.thumbnail = await thumbnailOf(entry.result.picture);
    entry.state = "done";
  } catch (error) {
    entry.state = "failed";
    entry.reason = error.message;
    entry.again = !(error.status >= 400 && error.status < 500 && error.status !== 408);
  }
  redraw(entry);
  running -= 1;
  if (!current && entry.result) open(entry);
  byId("all").hidden = !entries.some((one) => one.result);
  tell();
  work();
};

const tell = () => {
  const left = entries.filter((one) => ["waits", "goes"].includes(one.state)).length;
  const failed = entries.filter((one) => one.state === "failed").length;
  say(`${entries.length - left - failed} of ${entries.length} pictures are outlined${failed ? `, ${failed} could not be` : ""}`);
};

const outlined = async (entry) => {
  for (;;) {
    const { status, text, after } = await upload(entry);
    if (status === 200) return JSON.parse(text);
    if (status !== 429) {
      let detail = `the server answered ${status}`;
      try { detail = JSON.parse(text).detail; } catch { /* not from our server */ }
      if (!status) detail = "the server does not answer; is tools/serve.py running?";
      throw Object.assign(new Error(detail), { status });
    }
    await pause(after);
  }
};

// XMLHttpRequest, because fetch tells nothing of the progress of an upload.
const upload = (entry) => new Promise((resolve) => {
  const request = new XMLHttpRequest();
  const form = new FormData();
  form.append("photograph", entry.file);
  request.open("POST", "/api/outlines?picture=true");
  request.upload.addEventListener("progress", (event) => {
    entry.state = "goes";
    entry.done = event.total ? event.loaded / event.total : 0;
    redraw(entry);
  });
  request.addEventListener("loadend", () => {
    resolve({ status: request.status, text: request.responseText, after: Number(request.getResponseHeader("Retry-After")) || 1 });
  });
  request.send(form);
});

const thumbnailOf = async (source) => {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = element("canvas");
  const scale = Math.min(1, THUMBNAIL / Math.max(image.width, image.height));
  canvas.width = Math.max(1, image.width * scale);
  canvas.height = Math.max(1, image.height * scale);
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.8);
};

// --- the list ---

const cardOf = (entry) => {
  const item = element("li");
  const card = element("button", "card");
  const blank = element("span", "blank");
  const bar = element("progress");
  bar.value = 0;
  bar.setAttribute("aria-label", `progress of ${entry.name}`);
  card.append(blank, element("span", "name", entry.name), element("span", "state", "waits"), bar);
  card.addEventListener("click", () => {
    if (entry.result) open(entry);
    else if (entry.again) retry(entry);
  });
  item.append(card);
  byId("list").append(item);
  return card;
};

const retry = (entry) => {
  Object.assign(entry, { state: "waits", done: 0, again: false });
  waiting.push(entry);
  redraw(entry);
  work();
};

const redraw = (entry) => {
  const { card } = entry;
  const bar = card.querySelector("progress");
  if (entry.done < 1) bar.value = entry.done;
  else bar.removeAttribute("value"); // sent, being outlined
  bar.hidden = !["waits", "goes"].includes(entry.state);
  const { result } = entry;
  const words = {
    waits: () => "waits",
    goes: () => (entry.done < 1 ? `is sent, ${Math.round(100 * entry.done)} %` : "is outlined"),
    failed: () => (entry.again ? `${entry.reason}. Press to try again.` : `not outlined: ${entry.reason}`),
    done: () => (entry.rings ? `corrected by hand${entry.problem && `, ${entry.problem}`}` : !result.polygons.length ? "nothing found" : result.word ? `${result.word} (${number(result.estimated_iou, 2)})` : "outlined"),
  };
  card.querySelector(".state").textContent = words[entry.state]();
  card.setAttribute("aria-current", String(entry === current));
  const blank = card.querySelector(".blank");
  if (blank && entry.thumbnail) {
    const image = element("img");
    image.src = entry.thumbnail;
    image.alt = "";
    blank.replaceWith(image);
  }
};

// --- one picture ---

const open = (entry) => {
  const before = current;
  current = entry;
  if (before) redraw(before);
  redraw(entry);
  byId("view").hidden = false;
  byId("name").textContent = entry.name;
  editor.show(entry.result, entry.result.picture, entry.rings);
  setEditing(false);
  facts();
};

function changed(rings) {
  current.rings = rings;
  current.pending = measured(current);
}

// Ask for the exact mask's measures; only the last change counts. Until they are there a correction has no shape,
// so no download takes an earlier outline for it.
const measured = async (entry) => {
  const { rings, result } = entry;
  Object.assign(entry, { shape: rings ? null : result, problem: "" });
  const show = () => {
    redraw(entry);
    if (entry === current) facts();
  };
  show();
  if (!rings) return;
  await pause(0.15);
  if (entry.rings !== rings) return;
  const answer = { problem: "" };
  try {
    const { width, height } = result;
    answer.shape = await (await ask("/api/masks", { width, height, rings })).json();
  } catch (error) {
    answer.problem = `not measured: ${error.message}`;
  }
  if (entry.rings !== rings) return;
  Object.assign(entry, answer);
  show();
  if (answer.problem) say(`${entry.name}: ${answer.problem}`);
};

const facts = () => {
  const { shape, result, rings, problem } = current;
  const scale = Number(byId("scale").value);
  const measure = (value, digits, pixelsPerUnit, unit) => {
    if (!shape) return problem || "is measured";
    const pixels = `${number(value, digits)} pixels`;
    return scale > 0 ? `${pixels}, ${number(value / pixelsPerUnit, 2)} ${unit}` : pixels;
  };
  describe(byId("facts"), [
    ["Estimated IoU", rings ? "corrected by hand" : result.polygons.length ? estimate(result.word, result.estimated_iou) : "nothing was found: draw a new outline"],
    ["Area", measure(shape?.area_pixels, 0, scale ** 2, "mm²")],
    ["Longest diameter", measure(shape?.longest_diameter_pixels, 1, scale, "mm")],
    ["Picture", `${result.width} × ${result.height} pixels`],
  ]);
};
byId("scale").addEventListener("input", () => { if (current) facts(); });

const setEditing = (on) => {
  editor.editing = on;
  byId("correct").setAttribute("aria-pressed", String(on));
  byId("edits").hidden = !on;
};
const toggle = () => {
  setEditing(!editor.editing);
  say(editor.editing ? "correcting: n and p choose a point, arrows move it" : "correction ended");
};
byId("correct").addEventListener("click", toggle);
byId("view").addEventListener("keydown", (event) => {
  if (event.key !== "c" || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
  toggle();
  byId("picture").focus();
});

// --- downloads ---

// Wait for the shape of what is drawn; one that could not be measured is measured again. False if that fails.
const ready = async (entry) => {
  if (entry.problem) entry.pending = measured(entry);
  do await entry.pending; while (!entry.shape && !entry.problem); // it was changed meanwhile
  return entry.shape !== null;
};

const save = async (path, content, name, leftOut = "") => {
  try {
    const blob = await (await ask(path, content)).blob();
    const link = element("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => { URL.revokeObjectURL(link.href); }, 60000);
    say(`${name} is downloaded${leftOut}`);
  } catch (error) {
    say(error.message);
  }
};

byId("mask").addEventListener("click", async () => {
  const entry = current;
  if (!await ready(entry)) return say(`${entry.name} is not downloaded; ${entry.problem}`);
  const { width, height, polygons } = entry.shape;
  const stem = entry.name.split("/").at(-1).replace(/\.[^.]*$/, "");
  await save("/api/masks?answer=png", { width, height, rings: ringsOf(polygons) }, `${stem}_segmentation.png`);
});

// Several files, where one request would be too long for the server. Each request names the pictures before it, so
// that no name and no id is in two files.
const partsOf = (pictures) => {
  const parts = [{ pictures: [], before: [] }];
  let length = 0;
  for (const [index, picture] of pictures.entries()) {
    const more = JSON.stringify(picture).length;
    let part = parts.at(-1);
    if (part.pictures.length && (length + more > PART || part.pictures.length === 1000)) {
      part = { pictures: [], before: pictures.slice(0, index).map(({ name }) => name) };
      parts.push(part);
      length = JSON.stringify(part.before).length;
    }
    part.pictures.push(picture);
    length += more;
  }
  return parts;
};

// How many folders hold all of some pictures: as in those of tools/predict.py, they are no part of the names.
const sharedFolders = (paths) => {
  const folders = paths.map((path) => path.split("/").slice(0, -1));
  let depth = 0;
  while (folders.every((one) => one.length > depth && one[depth] === folders[0][depth])) depth += 1;
  return depth;
};

for (const button of byId("all").querySelectorAll("[data-format]")) {
  button.addEventListener("click", async () => {
    const done = entries.filter((entry) => entry.result);
    await Promise.all(done.map(ready));
    const missing = done.filter((entry) => !entry.shape);
    const leftOut = missing.length ? `; left out: ${missing.map(({ name, problem }) => `${name}, ${problem || "changed just now"}`).join("; ")}` : "";
    if (missing.length === done.length) return say(`nothing is downloaded${leftOut}`);
    const shared = sharedFolders(done.map(({ name }) => name));
    const pictures = done.filter((entry) => entry.shape).map(({ name, result, rings, shape: { width, height, polygons } }) => {
      const { score, estimated_iou } = rings ? {} : result; // a correction is nobody's estimate
      return { name: name.split("/").slice(shared).join("/"), width, height, polygons, score, estimated_iou };
    });
    const { format, suffix } = button.dataset;
    const parts = partsOf(pictures);
    for (const [index, part] of parts.entries()) {
      const name = parts.length > 1 ? `${format}-${index + 1}-of-${parts.length}` : format;
      await save(`/api/files?answer=${format}`, part, `${name}.${suffix}`, leftOut);
    }
  });
}

// The browser asks before it throws corrections away.
window.addEventListener("beforeunload", (event) => { if (entries.some((entry) => entry.rings)) event.preventDefault(); });
