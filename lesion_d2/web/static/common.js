// What both pages need.

// An element of HTML with a text: what clients or files say is only ever text, never HTML.
export const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

export const byId = (id) => document.getElementById(id);

export const say = (text) => { byId("status").textContent = text; };

export const number = (value, digits = 0) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

// Ask the server; an answer that is no success is an Error with the server's words.
export const ask = async (path, content) => {
  const options = content === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content),
  };
  for (;;) {
    let answer;
    try {
      answer = await fetch(path, options);
    } catch {
      throw new Error("the server does not answer; is tools/serve.py running?");
    }
    if (answer.ok) return answer;
    if (answer.status !== 429) throw new Error(await reason(answer));
    await pause(Number(answer.headers.get("Retry-After")) || 1);
  }
};

export const pause = (seconds) => new Promise((resolve) => { setTimeout(resolve, 1000 * seconds); });

const reason = async (answer) => {
  try {
    const { detail } = await answer.json();
    return typeof detail === "string" ? detail : detail[0].msg;
  } catch {
    return `the server answered ${answer.status}`;
  }
};

// The buttons of the toolbar, by their data-do, call methods of the editor.
export const connectTools = (editor, tools) => {
  const actions = {
    add: () => editor.add(), remove: () => editor.remove(), ring: () => editor.addRing(), undo: () => editor.undo(),
    redo: () => editor.redo(), reset: () => editor.reset(), next: () => editor.step(1), previous: () => editor.step(-1),
    in: () => editor.zoom(1.25), out: () => editor.zoom(0.8), fit: () => editor.fit(),
  };
  for (const button of tools.querySelectorAll("[data-do]")) button.addEventListener("click", actions[button.dataset.do]);
};

// Rows of a <dl>: pairs of a name and a text or element.
export const describe = (list, rows) => {
  list.replaceChildren(...rows.map(([name, value]) => {
    const row = element("div");
    const shown = element("dd");
    shown.append(value);
    row.append(element("dt", "", name), shown);
    return row;
  }));
};

export const estimate = (word, value) => {
  if (word === null) return "unknown: this model has no confidence model";
  const shown = element("span");
  shown.append(element("span", "word", word), ` (${number(value, 2)})`);
  return shown;
};
