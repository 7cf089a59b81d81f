/* Sending many recordings, and what is clicked on the page of jobs. Runs once, where files are
   dropped; `element` and `trigger` are Gradio's. */
const part = (name) => element.querySelector(`[data-jobs-${name}]`);
const box = part("upload");
const limits = { files: Number(box.dataset.files), bytes: Number(box.dataset.bytes) };
const chosen = new Map();  // by path in the job
let request = null;

const size = (bytes) => {
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
};

/* --- what is chosen ---------------------------------------------------------------------------- */

const showProblem = (name, words = "") => {
  for (const one of element.querySelectorAll("[data-jobs-problem]")) {
    one.hidden = one.dataset.jobsProblem !== name;
    if (one.dataset.jobsProblem === "told") one.textContent = words;
  }
};

const bytesChosen = () => [...chosen.values()].reduce((sum, file) => sum + file.size, 0);

const showChosen = () => {
  const isSending = request !== null;
  part("drop").hidden = isSending;
  part("chosen").hidden = isSending || !chosen.size;
  part("sending").hidden = !isSending;
  part("count").textContent = chosen.size.toLocaleString("en");
  part("size").textContent = size(bytesChosen());
  part("first").textContent = chosen.size ? [...chosen.keys()].slice(0, 3).join(", ") + (chosen.size > 3 ? " …" : "") : "";
  const isTooLarge = chosen.size > limits.files || bytesChosen() > limits.bytes;
  part("start").disabled = isTooLarge;
  showProblem(isTooLarge ? "large" : "");
};

// File systems' own notes are no recordings.
const isLitter = (path) => path.split("/").some((one) => one.startsWith(".") || one === "Thumbs.db");

const take = (files) => {
  for (const [path, file] of files) if (!isLitter(path)) chosen.set(path, file);
  showChosen();
};

for (const input of element.querySelectorAll("[data-jobs-input]")) {
  input.addEventListener("change", () => {
    take([...input.files].map((file) => [file.webkitRelativePath || file.name, file]));
    input.value = "";
  });
}

const filesOf = async (entry, folder = "") => {
  const path = folder + entry.name;
  if (entry.isFile) return [[path, await new Promise((good, bad) => entry.file(good, bad))]];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // Some at a time, until there are no more.
    const entries = await new Promise((good, bad) => reader.readEntries(good, bad));
    if (!entries.length) return found;
    for (const one of entries) found.push(...await filesOf(one, `${path}/`));
  }
};

const drop = part("drop");
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
drop.addEventListener("dragleave", (event) => {
  if (!drop.contains(event.relatedTarget)) drop.classList.remove("over");
});
drop.addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((one) => one.webkitGetAsEntry()).filter(Boolean);
  for (const entry of entries) take(await filesOf(entry));
});

part("clear").addEventListener("click", () => { chosen.clear(); showChosen(); });

/* --- sending ------------------------------------------------------------------------------------- */

const showSent = (sent, total) => {
  const percent = total ? Math.floor((100 * sent) / total) : 0;
  part("share").textContent = `${percent}%`;
  part("sent").textContent = `${size(sent)} / ${size(total)}`;
  part("bar").setAttribute("aria-valuenow", percent);
  part("bar").firstElementChild.style.width = `${percent}%`;
  part("going").hidden = percent === 100;
  part("gone").hidden = percent !== 100;
};

const ended = (problem, words) => {
  request = null;
  showChosen();
  showProblem(problem, words);
};

const answered = () => {
  let body = null;
  try { body = JSON.parse(request.responseText); } catch { /* of a proxy, not ours */ }
  if (request.status === 202) {
    chosen.clear();
    ended("");
    trigger("click", { action: "open", value: body.job_id });
  } else if (body?.error) {
    ended("told", `${body.error.message} ${body.error.hint}`);
  } else {
    ended("cut");
  }
};

part("start").addEventListener("click", () => {
  const form = new FormData();
  const option = (name) => element.querySelector(`[data-jobs-option="${name}"]`).checked;
  form.append("granularity", option("granularity") ? "frame" : "utterance");
  for (const name of ["extract_embedding", "save"]) form.append(name, String(option(name)));
  for (const [path, file] of chosen) form.append("files", file, path);
  request = new XMLHttpRequest();
  request.open("POST", new URL("api/jobs", document.baseURI));
  request.setRequestHeader("Accept-Language", window.emotionPage.lang());
  request.upload.addEventListener("progress", (event) => showSent(event.loaded, event.total));
  request.addEventListener("load", answered);
  request.addEventListener("error", () => ended("cut"));
  request.addEventListener("abort", () => ended(""));
  showChosen();
  showSent(0, bytesChosen());
  request.send(form);
});

part("stop").addEventListener("click", () => request?.abort());

addEventListener("beforeunload", (event) => { if (request) event.preventDefault(); });

/* --- jobs: the list and the opened one are components of their own ---------------------------------- */

document.addEventListener("click", (event) => {
  const hear = event.target.closest?.("[data-jobs-hear]");
  if (hear) return play(hear);
  const on = event.target.closest?.("[data-jobs]");
  if (!on || on.disabled) return;
  if (on.dataset.jobs === "close" || on.dataset.jobs === "delete") stop();
  trigger("click", { action: on.dataset.jobs, value: on.dataset.value ?? "" });
});

/* --- hearing: one sound, which goes on while the table is drawn anew ------------------------------- */

const sound = new Audio();
let heard = "";

const showHeard = () => {
  for (const one of document.querySelectorAll("[data-jobs-hear]")) {
    const is = one.dataset.jobsHear === heard && !sound.paused;
    if (one.getAttribute("aria-pressed") !== String(is)) one.setAttribute("aria-pressed", String(is));
  }
};

const showUnheard = (is) => {
  const note = document.querySelector("[data-jobs-unheard]");
  if (note) note.hidden = !is;
};

const stop = () => { sound.pause(); heard = ""; };

const play = (button) => {
  showUnheard(false);
  if (button.dataset.jobsHear === heard && !sound.paused) return sound.pause();
  heard = button.dataset.jobsHear;
  sound.src = new URL(heard, document.baseURI);
  sound.play().catch((error) => { if (error.name === "NotSupportedError") showUnheard(true); });
};

for (const name of ["play", "pause", "ended"]) sound.addEventListener(name, showHeard);

/* --- what was drawn anew: focus, sound and address as before ----------------------------------------- */

let focused = "";
let opened = null;

document.addEventListener("focusin", (event) => { focused = event.target.dataset?.focusKey ?? ""; });
document.addEventListener("focusout", (event) => {
  // What is drawn anew takes the focus along; somebody who leaves it is let go.
  const left = event.target;
  setTimeout(() => { if (left.isConnected && document.activeElement === document.body) focused = ""; });
});

const followJob = () => {
  const now = document.querySelector("[data-jobs-opened]")?.dataset.jobsOpened ?? "";
  if (now === (opened ?? "")) return;
  const isFirst = opened === null;
  opened = now;
  const address = new URL(location.href);
  if (now) address.searchParams.set("job", now);
  else address.searchParams.delete("job");
  history.replaceState(history.state, "", address);
  if (!now || isFirst && !request) return;
  const card = document.querySelector("[data-jobs-opened]");
  card.focus({ preventScroll: true });
  card.scrollIntoView({ behavior: "smooth", block: "nearest" });
};

new MutationObserver(() => {
  followJob();
  showHeard();
  if (!focused || document.activeElement !== document.body) return;
  document.querySelector(`[data-focus-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}).observe(document.body, { childList: true, subtree: true });
