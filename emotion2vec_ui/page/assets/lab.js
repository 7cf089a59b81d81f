/* The lab: reads the points, colours them, selects, plays. Runs once, below map.js in one script;
   `element` is Gradio's: what the template lab_map.html draws. */
const find = (name) => element.querySelector(`[data-lab-${name}]`);
const all = (name) => [...element.querySelectorAll(`[data-lab-${name}]`)];
const root = find("words").parentElement;
const word = (name) => element.querySelector(`[data-word="${name}"]`)?.innerHTML ?? "";

const MAX_LISTED = 200;  // a CSV has the rest
const MAX_ENTRIES = 40;  // buttons of the legend

let data = null;  // columns of /api/map
let clusterOf = null;  // folder to id, from /api/clusters
let speakerOf = null;  // file name to speaker, from a CSV
let colouring = "emotion";
let selected = [];  // positions
let playing = -1;
const asked = { map: "", clusters: "" };

/* --- colours: the style sheet's, read from hidden swatches ------------------------------------------ */

const swatch = (className, cluster) => {
  const probe = document.createElement("i");
  probe.className = className;
  if (cluster !== undefined) probe.style.setProperty("--cluster", cluster);
  root.append(probe);
  const rgb = getComputedStyle(probe).backgroundColor;
  probe.remove();
  // Through a canvas: the browser may say a colour in any notation.
  const pen = new OffscreenCanvas(1, 1).getContext("2d");
  pen.fillStyle = rgb;
  pen.fillRect(0, 0, 1, 1);
  return pen.getImageData(0, 0, 1, 1).data;
};

/* What points are coloured by: each point's group, and of each group its words and its colour. */
const COLOURINGS = {
  emotion: { of: (i) => data.emotion[i], words: (key) => word(`emotion.${key}`), look: (key) => [`e-${key}`] },
  quality: {
    of: (i) => data.quality[i] ?? "none", words: (key) => word(`quality.${key}`),
    look: (key) => [`lab-q-${key}`],
  },
  cluster: {
    of: (i) => clusterOf?.[data.folder[i]] ?? -1,
    words: (key) => (key === -1 ? word("cluster.none") : `${word("cluster")} ${key}`),
    look: (key) => (key === -1 ? ["lab-nothing"] : ["lab-c", key]),
  },
  speaker: {
    of: (i) => speakerOf?.get(data.name[i]) ?? "",
    words: (key) => (key === "" ? word("speaker.none") : escaped(key)),
    look: (key, position) => (key === "" ? ["lab-nothing"] : ["lab-c", position + 1]),
  },
};

const positions = (fits) => [...data.folder.keys()].filter(fits);

const escaped = (text) => {
  const box = document.createElement("span");
  box.textContent = text;
  return box.innerHTML;
};

const groups = () => {
  const found = new Map();
  const { of } = COLOURINGS[colouring];
  for (let i = 0; i < data.folder.length; i++) {
    const key = of(i);
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(i);
  }
  const order = [...found].sort((a, b) => b[1].length - a[1].length);
  // Clusters by their number; what has no group comes last.
  if (colouring === "cluster") order.sort((a, b) => (a[0] === -1) - (b[0] === -1) || a[0] - b[0]);
  if (colouring === "speaker") order.sort((a, b) => (a[0] === "") - (b[0] === "") || (a[0] < b[0] ? -1 : 1));
  return order;
};

const paint = () => {
  if (!data) return;
  const rgba = new Uint8Array(4 * data.folder.length);
  const legend = find("legend");
  legend.replaceChildren();
  if (colouring === "time") paintTime(rgba, legend);
  else {
    const { words, look } = COLOURINGS[colouring];
    groups().forEach(([key, members], position) => {
      const [className, number] = look(key, position);
      const colour = swatch(className, number);
      for (const i of members) rgba.set(colour, 4 * i);
      if (position >= MAX_ENTRIES) return;
      const entry = button("lab-entry", () => select(members));
      const dot = document.createElement("i");
      dot.className = `key ${className}`;
      if (number !== undefined) dot.style.setProperty("--cluster", number);
      const label = document.createElement("span");
      label.innerHTML = words(key);
      label.querySelector(".face")?.remove();
      const count = document.createElement("b");
      count.textContent = members.length.toLocaleString("en");
      entry.append(dot, label, count);
      legend.append(entry);
    });
  }
  map?.setColours(rgba);
};

const paintTime = (rgba, legend) => {
  const times = data.timestamp.map((text) => Date.parse(text.replace(" ", "T")));
  // By rank: a pause of a month must not make all else one colour.
  const order = [...times.keys()].sort((a, b) => times[a] - times[b]);
  const early = swatch("lab-early"), late = swatch("lab-late");
  order.forEach((i, rank) => {
    const share = rank / Math.max(1, order.length - 1);
    for (let c = 0; c < 4; c++) rgba[4 * i + c] = early[c] + share * (late[c] - early[c]);
  });
  const scale = document.createElement("div");
  scale.className = "lab-scale";
  const [first, last] = [data.timestamp[order[0]], data.timestamp[order.at(-1)]];
  scale.innerHTML = `<span>${escaped(first.slice(0, 16))}</span><i></i><span>${escaped(last.slice(0, 16))}</span>`;
  legend.append(scale);
};

/* --- selection ----------------------------------------------------------------------------------------- */

const button = (className, press) => {
  const made = document.createElement("button");
  made.type = "button";
  made.className = className;
  if (press) made.addEventListener("click", press);
  return made;
};

const playButton = (i) => {
  const made = button("lab-play");
  made.dataset.labPlay = data.folder[i];
  made.innerHTML = `<i aria-hidden="true"></i><span class="sr">${word("play")}</span>`;
  const name = document.createElement("span");
  name.className = "name";
  name.textContent = data.name[i] || data.folder[i];
  made.append(name);
  return made;
};

const facts = (i) => {
  const said = [`${word(`emotion.${data.emotion[i]}`)} ${(100 * data.confidence[i]).toFixed(1)}%`];
  if (clusterOf) said.push(COLOURINGS.cluster.words(COLOURINGS.cluster.of(i)));
  if (speakerOf?.has(data.name[i])) said.push(escaped(speakerOf.get(data.name[i])));
  return said.join(" · ");
};

const select = (indices) => {
  selected = [...indices];
  map?.setChosen(selected);
  find("selected").textContent = selected.length.toLocaleString("en");
  find("nothing").hidden = selected.length > 0;
  find("something").hidden = selected.length === 0;
  const list = find("list");
  list.replaceChildren(...selected.slice(0, MAX_LISTED).map((i) => {
    const item = document.createElement("li");
    const about = document.createElement("span");
    about.className = "muted";
    about.innerHTML = facts(i);
    item.append(playButton(i), about);
    return item;
  }));
  find("more").hidden = selected.length <= MAX_LISTED;
  find("more-count").textContent = (selected.length - MAX_LISTED).toLocaleString("en");
};

/* RFC 4180; what a spreadsheet would take for a formula gets an apostrophe, as in our other CSVs. */
const cell = (text) => {
  const safe = /^[=+\-@\t\r\n]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

const csv = () => {
  const label = find("label").value.trim();
  const rows = selected.map((i) => [
    `${data.folder[i]}/processed_audio.wav`, label, speakerOf?.get(data.name[i]) ?? "", data.emotion[i],
  ]);
  return [["path", "label", "speaker", "emotion"], ...rows]
    .map((row) => `${row.map(cell).join(",")}\r\n`).join("");
};

const save = () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = `${find("label").value.trim().replace(/[^\p{L}\p{N}_-]+/gu, "_") || "selection"}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};

/* Cells of a CSV, line by line. */
const parsed = (text) => {
  const lines = [[""]];
  for (const [, quoted, plain, end] of text.replace(/^\ufeff/, "").matchAll(/"((?:[^"]|"")*)"|([^",\r\n]+)|(,|\r?\n)/g)) {
    if (end === ",") lines.at(-1).push("");
    else if (end) lines.push([""]);
    else lines.at(-1)[lines.at(-1).length - 1] += plain ?? quoted.replaceAll('""', '"');
  }
  return lines.filter((line) => line.some((one) => one.trim()));
};

const readSpeakers = async (file) => {
  const [header = [], ...lines] = parsed(await file.text());
  const [path, speaker] = ["path", "speaker"].map((name) => header.map((one) => one.trim()).indexOf(name));
  const known = new Set(data.name);
  const found = new Map(path < 0 || speaker < 0 ? [] : lines
    .map((line) => [(line[path] ?? "").trim().split(/[\\/]/).at(-1), (line[speaker] ?? "").trim()])
    .filter(([name, who]) => who && known.has(name)));
  find("speakers-none").hidden = found.size > 0;
  if (found.size) speakerOf = found;
  paint();
  select(selected);
};

/* --- listening ------------------------------------------------------------------------------------------- */

const sound = new Audio();
sound.preload = "none";

const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;

const play = (i) => {
  if (i === playing) return sound.paused ? sound.play().catch(() => {}) : sound.pause();
  playing = i;
  map?.mark(i);
  find("player").hidden = false;
  find("gone").hidden = true;
  find("name").textContent = data.name[i] || data.folder[i];
  find("facts").innerHTML = facts(i);
  find("open").href = new URL(`result/${data.folder[i]}`, document.baseURI).href;
  sound.src = `file=outputs/${data.folder[i]}/processed_audio.wav`;
  sound.play().catch(() => {});
};

const showSound = () => {
  find("player").classList.toggle("playing", !sound.paused);
  const length = Number.isFinite(sound.duration) ? sound.duration : 0;
  find("seek").value = length ? (1000 * sound.currentTime) / length : 0;
  find("clock").textContent = `${clock(sound.currentTime)} / ${clock(length)}`;
  for (const one of document.querySelectorAll(".lab-play")) {
    const is = one.dataset.labPlay === data?.folder[playing] && !sound.paused;
    one.classList.toggle("playing", is);
  }
};
for (const name of ["play", "pause", "timeupdate", "loadedmetadata", "ended"]) {
  sound.addEventListener(name, showSound);
}
sound.addEventListener("error", () => { if (playing >= 0) find("gone").hidden = false; });

const closePlayer = () => {
  sound.pause();
  playing = -1;
  map?.mark(-1);
  find("player").hidden = true;
};

/* --- the map -------------------------------------------------------------------------------------------- */

const tip = find("tip");
const map = createMap(find("stage"), {
  point(i, px, py) {
    tip.hidden = i < 0;
    if (i < 0) return;
    tip.innerHTML = `<b>${escaped(data.name[i] || data.folder[i])}</b><span>${facts(i)}</span>`;
    tip.style.left = `${Math.min(px + 14, find("stage").clientWidth - tip.offsetWidth - 6)}px`;
    tip.style.top = `${Math.max(6, py - tip.offsetHeight - 10)}px`;
  },
  press: play,
  lasso: select,
});
find("refused").hidden = map !== null;

const read = async (address) => {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.json();
};

const readMap = async (address) => {
  data = await read(address);
  closePlayer();
  root.dataset.ready = "";
  map?.setPlaces(Float32Array.from(data.x), Float32Array.from(data.y));
  find("shown").textContent = data.folder.length.toLocaleString("en");
  paint();
  select([]);
};

const readClusters = async (address) => {
  clusterOf = (await read(address)).assignments;
  if (colouring === "cluster") paint();
  if (data) select(selected);
};

/* Gradio puts what is ready elsewhere on the page, and puts it anew. */
const readWhatIsReady = () => {
  for (const [name, take] of [["map", readMap], ["clusters", readClusters]]) {
    const ready = document.querySelector(`[data-lab-${name}]`);
    const address = ready?.getAttribute(`data-lab-${name}`);
    const version = `${address} ${ready?.dataset.labVersion}`;
    if (!ready || version === asked[name]) continue;
    asked[name] = version;
    find("unread").hidden = true;
    take(address).catch(() => { asked[name] = ""; find("unread").hidden = false; });
  }
};
new MutationObserver(readWhatIsReady).observe(document.body, { childList: true, subtree: true });
readWhatIsReady();

/* --- what is pressed -------------------------------------------------------------------------------------- */

const pressed = (name, value) => {
  for (const one of all(name)) one.setAttribute("aria-pressed", String(one.getAttribute(`data-lab-${name}`) === value));
};

element.addEventListener("click", (event) => {
  const on = (name) => event.target.closest?.(`[data-lab-${name}]`)?.getAttribute(`data-lab-${name}`);
  const colour = on("colour"), mode = on("mode"), zoom = on("zoom");
  if (colour) {
    colouring = colour;
    pressed("colour", colour);
    find("speakers").hidden = colour !== "speaker";
    paint();
  }
  if (mode) { map?.setMode(mode); pressed("mode", mode); }
  if (zoom === "fit") map?.fit();
  else if (zoom) map?.zoomBy(zoom === "in" ? 1.5 : 1 / 1.5);
  if (on("csv") !== undefined) save();
  if (on("clear") !== undefined) select([]);
  if (on("toggle") !== undefined) play(playing);
  if (on("close") !== undefined) closePlayer();
});

find("seek").addEventListener("input", (event) => {
  if (Number.isFinite(sound.duration)) sound.currentTime = (event.target.value / 1000) * sound.duration;
});

find("find").addEventListener("input", (event) => {
  const part = event.target.value.trim().toLowerCase();
  select(part ? positions((i) => data.name[i].toLowerCase().includes(part)) : []);
});

// The same file can be chosen again, after it was edited.
find("speakers-file").addEventListener("click", (event) => { event.target.value = ""; });
find("speakers-file").addEventListener("change", (event) => {
  if (event.target.files[0]) readSpeakers(event.target.files[0]);
});

const showSelected = (fits) => {
  select(positions(fits));
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  element.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
};

/* Buttons of clusters and outliers, which stand in other components. */
document.addEventListener("click", (event) => {
  const cluster = event.target.closest?.("[data-lab-select-cluster]")?.dataset.labSelectCluster;
  const folders = event.target.closest?.("[data-lab-select-folders]")?.dataset.labSelectFolders;
  if (cluster && data && clusterOf) showSelected((i) => clusterOf[data.folder[i]] === Number(cluster));
  if (folders && data) {
    const wanted = new Set(folders.split(" "));
    showSelected((i) => wanted.has(data.folder[i]));
  }
  const heard = event.target.closest?.("[data-lab-play]");
  if (heard && data) play(data.folder.indexOf(heard.dataset.labPlay));
  // Colours are those of the brightness.
  if (event.target.closest?.("[data-theme-switch]")) requestAnimationFrame(paint);
});
