/* The form that trains sub-classes: collects labelled selections of the map, sends them with what was
   chosen to the API, and shows how far the training is. Runs once; `element` is Gradio's. */
const form = element.querySelector("[data-form]");
const root = element.querySelector("[data-training]");
const find = (name) => element.querySelector(`[data-${name}]`);
const word = (name) => element.querySelector(`[data-word="${name}"]`)?.innerHTML ?? "";
const number = (name) => Number(root.dataset[name]);

const KEPT = "emotion2vec.samples";  // for this tab of the browser: the other pages are other documents
const POLL_MS = 500;

/* label to Map of folder to { name, emotion, speaker, gender, age } */
let groups = new Map();
let baseChosen = false;  // else the most frequent emotion is proposed
let sending = false;

/* --- the samples ------------------------------------------------------------------------------------ */

const keep = () => {
  const content = [...groups].map(([label, samples]) => [label, [...samples]]);
  try { sessionStorage.setItem(KEPT, JSON.stringify(content)); } catch { /* full or private */ }
};

try {
  const content = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
  groups = new Map(content.map(([label, samples]) => [label, new Map(samples)]));
} catch { /* of an older page */ }

/* A recording has one label: the last one that it was given. */
const add = (label, samples) => {
  for (const [folder] of samples) for (const one of groups.values()) one.delete(folder);
  const group = groups.get(label) ?? new Map();
  for (const [folder, facts] of samples) group.set(folder, facts);
  groups.set(label, group);
  for (const [name, one] of groups) if (!one.size) groups.delete(name);
  changed();
};

const rename = (from, to) => {
  const samples = groups.get(from);
  if (!to || to === from || !samples) return showGroups();
  if (groups.has(to)) {
    groups.delete(from);
    return add(to, samples);
  }
  groups = new Map([...groups].map(([label, one]) => [label === from ? to : label, one]));
  changed();
};

const changed = () => { keep(); showGroups(); };

const speakersOf = (samples) => new Set([...samples.values()].map((one) => one.speaker).filter(Boolean));

const row = (label, samples) => {
  const made = find("group").content.cloneNode(true).firstElementChild;
  const part = (name) => made.querySelector(`[data-group-${name}]`);
  const nameless = [...samples.values()].filter((one) => !one.speaker).length;
  const speakers = speakersOf(samples).size;
  const usable = samples.size - nameless;
  const far = usable < number("fewestSamples") || speakers < number("fewestSpeakers");
  part("label").value = label;
  part("label").addEventListener("change", (event) => rename(label, event.target.value.trim()));
  part("samples").textContent = samples.size.toLocaleString("en");
  part("speakers").textContent = speakers.toLocaleString("en");
  part("nameless").textContent = nameless.toLocaleString("en");
  part("without").hidden = !nameless;
  part("far").hidden = !far;
  part("few").hidden = far || (usable >= number("enoughSamples") && speakers >= number("enoughSpeakers"));
  part("show").addEventListener("click", () => {
    document.dispatchEvent(new CustomEvent("lab-select", { detail: [...samples.keys()] }));
  });
  part("remove").addEventListener("click", () => {
    groups.delete(label);
    changed();
    root.focus({ preventScroll: true });
  });
  return made;
};

const base = () => form.querySelector("[name=subclass-base]:checked")?.value ?? "";

const proposeBase = () => {
  if (baseChosen) return;
  const counts = {};
  for (const samples of groups.values()) {
    for (const { emotion } of samples.values()) counts[emotion] = (counts[emotion] ?? 0) + 1;
  }
  const [most] = Object.entries(counts).sort((a, b) => b[1] - a[1]);
  for (const one of form.querySelectorAll("[name=subclass-base]")) one.checked = one.value === most?.[0];
};

const showGroups = () => {
  find("groups").replaceChildren(...[...groups].map(([label, samples]) => row(label, samples)));
  const nameless = [...groups.values()].some((one) => speakersOf(one).size === 0
    || [...one.values()].some(({ speaker }) => !speaker));
  find("no-groups").hidden = groups.size > 0;
  find("no-speaker").hidden = !nameless;
  find("speakers").hidden = groups.size === 0;
  proposeBase();
  showMissing();
  // Beside the button that adds to them.
  const summary = document.querySelector("[data-lab-samples]");
  if (!summary) return;
  summary.hidden = groups.size === 0;
  summary.querySelector("[data-lab-samples-list]").replaceChildren(
    ...[...groups].map(([label, samples]) => {
      const one = document.createElement("span");
      one.className = "chip";
      one.append(label, " ");
      one.append(Object.assign(document.createElement("b"), { textContent: samples.size.toLocaleString("en") }));
      return one;
    }));
};

/* --- what is missing before it can begin ------------------------------------------------------------ */

const missing = () => {
  const files = find("manifest").files.length > 0;
  const all = [...groups.values()];
  if (!all.length && !files) return "samples";
  // What a file has in it is found by the server.
  if (!files) {
    if (all.length < 2) return "labels";
    const usable = all.map((one) => [...one.values()].filter((sample) => sample.speaker).length);
    const speakers = all.map((one) => speakersOf(one).size);
    if (!Math.max(...speakers)) return "speakers";
    if (Math.min(...usable) < number("fewestSamples") || Math.min(...speakers) < number("fewestSpeakers")) return "far";
    const small = Math.min(...usable) < number("enoughSamples") || Math.min(...speakers) < number("enoughSpeakers");
    if (small && !find("small").checked) return "small";
  }
  if (!base()) return "base";
  return find("name").value.trim() ? "" : "name";
};

const showMissing = () => {
  const what = missing();
  find("missing").innerHTML = sending ? "" : word(`missing.${what}`);
  find("train").disabled = sending || what !== "";
};

form.addEventListener("input", (event) => {
  if (event.target.name === "subclass-base") baseChosen = true;
  showMissing();
});

/* --- the training ------------------------------------------------------------------------------------- */

const showProgress = (name, step, done, total) => {
  find("progress").hidden = !step;
  find("training-name").textContent = name;
  find("step").innerHTML = word(`step.${step}`);
  find("count").textContent = total ? `${done} / ${total}` : "";
  find("bar").classList.toggle("moving", !total);
  find("bar").firstElementChild.style.width = total ? `${(100 * done) / total}%` : "";
};

const showFailure = (message, hint) => {
  find("failure").hidden = !message;
  find("failure").querySelector(".found").innerHTML = message;
  find("failure").querySelector(".remedy").innerHTML = hint;
};

const escaped = (text) => {
  const box = document.createElement("span");
  box.textContent = text;
  return box.innerHTML;
};

/* RFC 4180, every cell in quotes. */
const csv = () => {
  const rows = [...groups].flatMap(([label, samples]) => [...samples].map(
    ([folder, { speaker, gender = "", age = "" }]) => [
      `${folder}/processed_audio.wav`, label, speaker, gender, age,
    ]));
  return [["path", "label", "speaker", "gender", "age"], ...rows]
    .map((cells) => `${cells.map((one) => `"${one.replaceAll('"', '""')}"`).join(",")}\r\n`).join("");
};

/* Shows how far the training is that runs, ours or another's, while `sending`. */
const follow = async (untilNoneRuns) => {
  while (sending) {
    await new Promise((resolve) => { setTimeout(resolve, POLL_MS); });
    let training;  // of a server that is too busy to answer nothing is known: it is asked again
    try { ({ training } = await (await fetch("api/subclasses")).json()); } catch { continue; }
    if (!sending) return;
    if (training) showProgress(training.name, training.step, training.done, training.total);
    else if (training === null && untilNoneRuns) return;
  }
};

const begin = (name, step) => {
  sending = true;
  showMissing();
  showFailure("", "");
  showProgress(name, step, 0, 0);
};

const end = () => {
  sending = false;
  showProgress("", "", 0, 0);
  showMissing();
};

const tellSets = (name) => document.dispatchEvent(new CustomEvent("subclass-trained", { detail: name }));

const train = async () => {
  const sent = new FormData();
  if (groups.size) sent.append("manifest", new Blob([csv()], { type: "text/csv" }), "selection.csv");
  for (const file of find("manifest").files) sent.append("manifest", file);
  sent.append("of", base());
  sent.append("name", find("name").value.trim());
  sent.append("allow_small", find("small").checked);
  sent.append("licence", find("licence").value.trim());
  begin(find("name").value.trim(), "send");
  follow(false);
  try {
    const answer = await fetch("api/subclasses", {
      method: "POST", body: sent, headers: { "Accept-Language": document.documentElement.lang },
    });
    const content = await answer.json();
    if (answer.ok) tellSets(content.name);
    else showFailure(escaped(content.error.message), escaped(content.error.hint ?? ""));
  } catch {
    showFailure(word("lost"), "");
  }
  end();
};

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!find("train").disabled) train();
});

/* --- what the map says ---------------------------------------------------------------------------------- */

document.addEventListener("lab-samples", (event) => add(event.detail.label, event.detail.samples));

/* Of recordings by the names of their files; null where a CSV had none of them. */
document.addEventListener("lab-speakers", ({ detail: speakers }) => {
  find("speakers-none").hidden = speakers !== null;
  if (!speakers) return;
  for (const samples of groups.values()) {
    for (const one of samples.values()) Object.assign(one, speakers.get(one.name));
  }
  changed();
});

find("speakers-file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) document.dispatchEvent(new CustomEvent("lab-speakers-file", { detail: file }));
});

document.addEventListener("click", (event) => {
  if (!event.target.closest?.("[data-lab-to-training]")) return;
  event.preventDefault();
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  root.focus({ preventScroll: true });
  root.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
});

showGroups();
/* One that was begun before this page was opened, or on another. */
fetch("api/subclasses").then((answer) => answer.json()).then(async ({ training }) => {
  if (!training || sending) return;
  begin(training.name, training.step);
  await follow(true);
  end();
  tellSets("");
}).catch(() => {});
