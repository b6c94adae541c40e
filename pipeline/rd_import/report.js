"use strict";
(() => {
  const index = JSON.parse(document.getElementById("index").textContent);
  const field = document.getElementById("find");
  const status = document.getElementById("status");
  const list = document.getElementById("found");
  const most = 50;

  const put = (text, n) => text.replaceAll("{n}", n.toLocaleString(document.documentElement.lang));

  // Rows whose id holds the words, the same id first; then rows by their number, from the runs of equal states.
  function search(words) {
    const low = words.toLowerCase();
    const same = [], part = [], numbered = [];
    for (const row of index.rows) {
      const id = row[4] === null ? null : row[4].toLowerCase();
      if (id === low) same.push(row);
      else if (id !== null && id.includes(low)) part.push(row);
    }
    if (/^[0-9]+$/.test(words)) {
      const wanted = Number(words);
      const listed = new Set();
      for (const row of index.rows) {
        if (row[1] === wanted) { numbered.push(row); listed.add(row[0]); }
      }
      for (const [file, first, count, state] of index.runs) {
        if (wanted >= first && wanted < first + count && !listed.has(file)) {
          numbered.push([file, wanted, null, state, null, null]);
        }
      }
    }
    return [...new Set([...same, ...numbered, ...part])];
  }

  function shown([file, row, line, state, id, cause]) {
    const item = document.createElement("li");
    const name = document.createElement("strong");
    name.textContent = index.states[state][0];
    name.className = "state " + index.states[state][0];
    const where = [index.files[file], index.say.row.replace("{row}", row)];
    if (line !== null) where.push(index.say.line.replace("{line}", line));
    if (id !== null) where.push(id);
    const text = cause === null ? index.states[state][1] : index.causes[cause];
    item.append(name, " " + where.join(", ") + ": " + text);
    return item;
  }

  function find() {
    const words = field.value.trim();
    if (!words) { list.replaceChildren(); return; }
    const found = search(words);
    list.replaceChildren(...found.slice(0, most).map(shown));
    status.textContent = found.length > most ? put(index.say.search_many, most)
      : found.length ? put(index.say.search_found, found.length)
      : index.everyId ? index.say.search_none : index.say.search_not_listed;
  }

  document.getElementById("form").addEventListener("submit", (event) => { event.preventDefault(); find(); });
  field.addEventListener("input", () => { if (field.value.trim().length > 2 || !field.value) find(); });
})();
