// What the pages do beyond HTML: state of the live feed, following and pausing, keys, raw and decoded as one thing.
// Everything works without it except what happens by itself. Text of logs is never touched here.
(() => {
  "use strict";
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const cookie = (name, value) => {
    document.cookie = `${name}=${value};path=/;max-age=31536000;samesite=lax`;
  };

  // The viewer's time zone: the server writes times, so it has to know.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
  if (zone && !document.cookie.split("; ").includes(`tz=${zone}`)) {
    cookie("tz", zone);
    // Once, on the first visit; where cookies are refused, times stay in the server's zone.
    if (document.documentElement.dataset.zone !== zone && document.cookie.includes(`tz=${zone}`)) location.reload();
  }

  // Where the menu or a row of tabs is wider than the window, the present one is in sight.
  for (const here of all(".rail [aria-current], .segments [aria-current]")) {
    const box = here.closest(".rail, .segments");
    if (box.scrollWidth > box.clientWidth) box.scrollLeft = here.offsetLeft - box.offsetLeft - 48;
  }

  // Light and dark.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-theme-switch]");
    if (!button) return;
    event.preventDefault();
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    cookie("theme", root.dataset.theme);
  });

  // Dense and comfortable.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-density-switch]");
    if (!button) return;
    event.preventDefault();
    const root = document.documentElement;
    const dense = root.dataset.density !== "dense";
    if (dense) root.dataset.density = "dense"; else delete root.dataset.density;
    button.setAttribute("aria-pressed", String(dense));
    cookie("density", dense ? "dense" : "comfortable");
  });

  // How long ago a time is goes stale on a page, so it is said when somebody points at it.
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  for (const type of ["pointerover", "focusin"]) document.addEventListener(type, (event) => {
    const time = event.target.closest && (event.target.closest("time[title]") || $("time[title]", event.target.closest("a") || document.createElement("a")));
    if (!time) return;
    const seconds = Math.round((Date.now() - Date.parse(time.dateTime)) / 1000);
    const [size, unit] = units.find(([least]) => Math.abs(seconds) >= least) || [1, "s"];
    const n = Math.floor(Math.abs(seconds) / size).toLocaleString("en");
    const [local, utc] = time.title.split("\n");
    time.title = `${local}\n${utc}\n${seconds < 0 ? `in ${n} ${unit}` : `${n} ${unit} ago`}`;
  });

  // The live feed.
  const WAITING_TOASTS = 20;
  const CALM_ROWS = 10; // more of them at once come without a light of their own
  const POINTING_MS = 3000;
  const connection = $("#connection");
  const table = $("#events");
  const arrived = $("#arrived-rows");
  const pill = $("#pill");
  const following = $("#following");
  const detail = $("#detail");
  const words = { live: "live", reconnecting: "reconnecting", offline: "offline", static: "not live" };
  let failures = 0;
  let socket = null;

  function show(state) {
    if (!connection || connection.dataset.state === state) return;
    connection.dataset.state = state;
    $(".words", connection).textContent = words[state];
    if (table) count();
  }

  const rows = () => (table ? all("tr.event", table) : []);
  const newestId = () => all("#events tr.event, #arrived-rows tr.event").reduce((most, row) => Math.max(most, Number(row.dataset.id)), 0);

  // htmx's extension connects again to the address it was given; what this page has by now is said in it.
  htmx.createWebSocket = (address) => {
    const url = new URL(address);
    const have = Math.max(newestId(), Number(url.searchParams.get("have") || 0));
    if (url.searchParams.has("have")) url.searchParams.set("have", String(have));
    socket = new WebSocket(url.href, []);
    return socket;
  };
  document.addEventListener("htmx:wsOpen", () => { failures = 0; show("live"); });
  document.addEventListener("htmx:wsClose", (event) => {
    if (event.detail.event.code === 4401) { location.reload(); return; } // logged out: the page leads to the login
    failures += 1;
    show(failures > 4 || !navigator.onLine ? "offline" : "reconnecting");
    // The extension itself comes back after an accident only; a server that stops in order comes back as well.
    const { event: closing, socketWrapper } = event.detail;
    if (![1006, 1011, 1012, 1013].includes(closing.code)) {
      setTimeout(() => socketWrapper.reconnect(), Math.min(1000 * 2 ** failures, 30000) * (0.5 + Math.random() / 2));
    }
  });
  addEventListener("offline", () => show("offline"));
  addEventListener("online", () => show(socket && socket.readyState === WebSocket.OPEN ? "live" : "reconnecting"));

  // What is being done with the keyboard survives the repainting of a panel.
  let focused = "";
  let ticked = [];
  document.addEventListener("htmx:wsBeforeMessage", () => {
    ticked = all(".pick:checked").map((pick) => pick.value.split(":")[0]);
    const active = document.activeElement;
    focused = active && active.closest("#attention, #numbers, #histogram, #knocking, #sources, #source-list, #trust, #incident-list")
      ? active.getAttribute("href") || (active.name ? `${active.name}=${active.value}` : "") : "";
  });
  document.addEventListener("htmx:wsAfterMessage", () => {
    if (focused && document.activeElement === document.body) {
      const same = all("a[href], button[name]").find((one) =>
        (one.getAttribute("href") || `${one.name}=${one.value}`) === focused);
      if (same) same.focus({ preventScroll: true });
    }
    focused = "";
    renew();
    for (const pick of ticked.length ? all(".pick") : []) pick.checked = ticked.includes(pick.value.split(":")[0]);
    settle();
    recountCells();
  });

  // A row that is not any more what it was: only the cells that differ are changed, where they are.
  function renew() {
    const fresh = $("#changed-rows");
    if (!fresh || !fresh.rows.length) return;
    for (const row of all("tr.event", fresh)) {
      const shown = document.getElementById(`e${row.dataset.id}`);
      if (!shown || fresh.contains(shown)) continue;
      const places = [...shown.cells].map((_, place) => place).filter((place) => !shown.cells[place].isEqualNode(row.cells[place]));
      if (!places.length) continue;
      for (const place of places) shown.cells[place].replaceChildren(...row.cells[place].childNodes);
      shown.className = `${row.className} renewed${shown.matches(".chosen") ? " chosen" : ""}`;
      shown.dataset.lit = String(performance.now() + 1600);
      if (shown.matches(".chosen") && isWide() && !detail.hidden) look($("a", shown).getAttribute("href"), detail.scrollTop);
    }
    fresh.replaceChildren();
  }

  // Whoever is at work in the list of incidents is not disturbed: they change where they are, new ones wait.
  const incidents = $("#incident-list");
  const incidentPill = $("#incident-pill");
  let waiting = null;
  function atWork() {
    return incidents.matches(":hover") || incidents.contains(document.activeElement) || $(".pick:checked", incidents);
  }
  function morph(shown, fresh) {
    if (shown.isEqualNode(fresh)) return;
    if (shown.nodeType !== Node.ELEMENT_NODE) { shown.nodeValue = fresh.nodeValue; return; }
    for (const { name, value } of fresh.attributes) if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
    const parts = [...shown.childNodes];
    const others = [...fresh.childNodes];
    if (parts.length === others.length && parts.every((part, place) => part.nodeName === others[place].nodeName)) {
      parts.forEach((part, place) => morph(part, others[place]));
    } else shown.replaceChildren(...others.map((other) => other.cloneNode(true)));
  }
  function showWaiting() {
    if (waiting) incidents.replaceChildren(...waiting.childNodes);
    waiting = null;
    incidentPill.hidden = true;
  }
  if (incidents && incidentPill) {
    document.addEventListener("htmx:oobBeforeSwap", (event) => {
      if (event.detail.target !== incidents) return;
      waiting = null;
      incidentPill.hidden = true;
      const fresh = all(".incident", event.detail.fragment);
      if (!atWork() || !fresh.length) return;
      event.detail.shouldSwap = false;
      const shown = all(".incident", incidents).map((one) => one.id);
      for (const one of fresh) if (shown.includes(one.id)) morph(document.getElementById(one.id), one);
      if (shown.join() === fresh.map((one) => one.id).join()) return;
      waiting = event.detail.fragment.cloneNode(true);
      const n = fresh.filter((one) => !shown.includes(one.id)).length;
      incidentPill.hidden = !n;
      incidentPill.textContent = `${n} new`;
    });
    incidentPill.addEventListener("click", showWaiting);
    for (const type of ["pointerleave", "focusout", "change"]) {
      incidents.addEventListener(type, () => setTimeout(() => { if (waiting && !atWork()) showWaiting(); }));
    }
  }

  // Following: new lines come on top. The rows keep their places and what they say goes on from one to the next: no box
  // moves. Whoever reads further down, points at a row, has one open or its text marked is not disturbed: new lines wait.
  const chosen = () => $("tr.chosen", table || document);
  const body = table && table.tBodies[0];
  let stopped = false; // by hand
  let pointing = 0; // a timer, while the pointer moves over the rows
  let left = null; // what has the focus and holds nothing: the row that G led to, or that was closed
  let due = 0; // how many wait
  function paused() {
    if (!table || !arrived) return false;
    const active = document.activeElement;
    const marked = getSelection();
    return stopped || pointing > 0 || chosen() !== null || (active !== left && body.contains(active))
      || (!marked.isCollapsed && table.contains(marked.anchorNode)) || table.getBoundingClientRect().top < 0;
  }
  function settle() {
    if (!table) return;
    const batches = arrived ? all("tbody:not(.counted)", arrived) : [];
    for (const batch of batches) {
      batch.classList.add("counted");
      due += Number(batch.dataset.n);
    }
    if (batches.length) recount();
    goOn();
  }
  function goOn() {
    const isHeld = paused();
    if (due && !isHeld) flow();
    else if (due) for (const row of all("tr", arrived).slice(longest())) row.remove();
    count(isHeld);
  }
  const longest = () => Number(table.dataset.longest) || 200;
  function flow() {
    const shown = [...body.rows];
    const older = $("#older");
    // Where the end of the list is in sight, it stays where it is, and so does what comes after it.
    const room = older && !older.hidden && older.getBoundingClientRect().top < innerHeight ? shown.length : longest();
    const seen = new Set(shown.map((row) => row.id));
    const isNew = (row) => !row.id || (!seen.has(row.id) && seen.add(row.id));
    const fresh = all("tr", arrived).filter(isNew).slice(0, room);
    const everything = [...fresh, ...shown];
    const kept = everything.slice(0, room);
    arrived.replaceChildren();
    due = 0;
    if (!fresh.length) return;
    // Out of sight a row may move, which costs less.
    const end = Math.min(shown.length, rowsInSight(shown[0]));
    const pushed = kept.slice(end, end + fresh.length).map((row) => row.cloneNode(true));
    for (let place = Math.min(end, kept.length) - 1; place >= 0; place -= 1) put(shown[place], kept[place]);
    for (const row of pushed) body.insertBefore(row, shown[end] || null);
    while (body.rows.length > room) body.lastElementChild.remove();
    // The light of what has just come is one of two that look the same: so it begins anew where it still shines.
    table.dataset.turn = table.dataset.turn === "1" ? "2" : "1";
    const now = performance.now();
    for (const row of all(".arrived, .renewed", body)) {
      row.classList.remove("arrived");
      if (!(Number(row.dataset.lit) > now)) row.classList.remove("renewed");
    }
    if (fresh.length <= CALM_ROWS) for (const row of [...body.rows].slice(0, fresh.length)) row.classList.add("arrived");
    const last = body.rows[body.rows.length - 1];
    const isCut = last.matches(".gap");
    if (isCut) last.remove();
    if (older && (isCut || kept.length < everything.length)) leadOn(older);
    const empty = $("#events-empty");
    if (empty) empty.hidden = true;
    widen(fresh);
  }
  function rowsInSight(row) {
    if (!row) return 0;
    const { top, height } = row.getBoundingClientRect();
    return Math.max(0, Math.ceil((innerHeight - top) / height) + 1);
  }
  function put(row, source) {
    if (row.matches(".gap") || source.matches(".gap")) row.replaceWith(source.cloneNode(true));
    else morph(row, source);
  }
  // The older page begins where the list ends.
  function leadOn(older) {
    const link = $("a", older);
    const url = new URL(link.href);
    url.searchParams.set("before", rows().pop().dataset.id);
    link.href = url.href;
    older.hidden = false;
  }
  // The column of times becomes as wide as dates need, and stays so.
  function widen(some) {
    if (some.some((row) => all("time", row).some((time) => time.textContent.length > 8))) table.classList.add("dated");
  }
  // What is counted is counted anew when something arrives: seldom, not while it is out of sight or under the hand.
  function counter(element, pause) {
    if (!element) return () => {};
    let at = 0;
    let took = 0;
    let timer = 0;
    let missed = false;
    function ask() {
      timer = 0;
      missed = document.hidden || !element.offsetParent || element.matches(":hover") || element.contains(document.activeElement);
      if (missed) return;
      at = performance.now();
      htmx.trigger(element, "fresh");
    }
    function recount() {
      if (!timer) timer = setTimeout(ask, Math.max(0, at + Math.max(pause, 20 * took) - performance.now()));
    }
    element.addEventListener("htmx:beforeRequest", () => { at = performance.now(); });
    element.addEventListener("htmx:afterRequest", () => { took = performance.now() - at; });
    document.addEventListener("visibilitychange", () => { if (!document.hidden && missed) recount(); });
    for (const type of ["pointerleave", "focusout"]) element.addEventListener(type, () => { if (missed) recount(); });
    return recount;
  }
  const recount = counter($("#facet-values[hx-get]"), 5000);
  const recountCells = counter($("#cells[hx-get]"), 15000);
  function count(isHeld = paused()) {
    if (pill) {
      pill.hidden = !due || !isHeld;
      pill.textContent = `${due.toLocaleString("en")} new${matchMedia("(hover: hover)").matches ? ", press G" : ""}`;
    }
    if (!following) return;
    following.disabled = connection.dataset.state !== "live";
    following.classList.toggle("held", isHeld);
    following.textContent = following.disabled ? "Not live" : isHeld ? "Paused" : "Following";
  }
  function follow() {
    stopped = false;
    letGo();
    close();
    getSelection().removeAllRanges();
    if ($(".browse")) scrollTo({ top: 0 });
    goOn();
  }
  function newest() {
    if (!table) return;
    if (new URLSearchParams(location.search).has("before") || new URLSearchParams(location.search).has("after")) {
      const url = new URL(location.href);
      url.searchParams.delete("before");
      url.searchParams.delete("after");
      location.assign(url.href);
      return;
    }
    follow();
    const first = rows()[0];
    if (!first) return;
    left = $("a", first);
    left.focus({ preventScroll: true });
  }
  function letGo() {
    clearTimeout(pointing);
    pointing = 0;
    if (table) goOn();
  }
  if (pill) pill.addEventListener("click", newest);
  if (following) following.addEventListener("click", () => {
    if (paused()) follow();
    else { stopped = true; count(); }
  });
  if (table && arrived) {
    addEventListener("scroll", goOn, { passive: true });
    document.addEventListener("selectionchange", goOn);
    document.addEventListener("focusin", (event) => { if (event.target !== left) left = null; goOn(); });
    document.addEventListener("focusout", () => setTimeout(goOn));
    table.addEventListener("pointerleave", letGo);
    // A row that is aimed at stays; a pointer that was left lying holds nothing. Boxes that change under it are no movement.
    table.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "mouse" || !(event.movementX || event.movementY)) return;
      clearTimeout(pointing);
      pointing = setTimeout(letGo, POINTING_MS);
      count();
    }, { passive: true });
  }

  // An address, a user or a host beside the page that names it. Who closes it is where they were.
  const peek = $("#peek");
  let peeked = null;
  function openPeek(link) {
    if (!peek.contains(link)) peeked = link;
    const address = link.getAttribute("href");
    $("#peek-body").replaceChildren();
    htmx.ajax("GET", address, { target: "#peek-body", swap: "innerHTML" }).then(() => {
      const title = $("#peek-title");
      if (!title) { location.assign(address); return; } // refused, or logged out: the page says so
      peek.hidden = false;
      peek.scrollTop = 0;
      title.focus({ preventScroll: true });
    });
  }
  function closePeek() {
    if (!peek || peek.hidden) return false;
    peek.hidden = true;
    $("#peek-body").replaceChildren();
    const same = peeked && (peeked.isConnected ? peeked
      : all("a[data-peek]").find((link) => link.getAttribute("href") === peeked.getAttribute("href")));
    (same && same.checkVisibility() ? same : $("#main")).focus({ preventScroll: true });
    return true;
  }
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    if (event.target.closest("[data-close-peek]")) { closePeek(); return; }
    const link = event.target.closest("a[data-peek]");
    if (!link || !peek) return;
    event.preventDefault();
    openPeek(link);
  });

  // One event, beside the list where there is room.
  const isWide = () => detail && $(".browse") && matchMedia("(min-width: 1201px)").matches;
  function choose(row) {
    for (const other of all("tr.chosen")) other.classList.remove("chosen");
    if (row) row.classList.add("chosen");
    if (table) goOn();
  }
  function open(id, address) {
    if (!isWide()) { location.assign(address); return; }
    choose(document.getElementById(`e${id}`));
    look(address, 0);
  }
  function look(address, scrolled) {
    htmx.ajax("GET", address, { target: "#detail", swap: "innerHTML" }).then(() => {
      detail.hidden = false;
      detail.scrollTop = scrolled;
      $(".browse").classList.add("open");
    });
  }
  function close() {
    if (body && body.contains(document.activeElement)) left = document.activeElement;
    choose(null);
    if (!detail || !$(".browse")) return;
    detail.hidden = true;
    $(".browse").classList.remove("open");
  }
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("[data-close]")) { close(); return; }
    if (event.target.closest("[data-keys]")) { $("#keys").showModal(); return; }
    const link = event.target.closest("a");
    const inside = link && link.dataset.event;
    if (inside && isWide()) { event.preventDefault(); open(link.dataset.event, link.getAttribute("href")); return; }
    const row = event.target.closest("tr.event");
    if (!row || (link && !link.closest(".time")) || String(getSelection())) return;
    event.preventDefault();
    open(row.dataset.id, $("a", row).getAttribute("href"));
  });

  // Commands are copied.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    navigator.clipboard.writeText(button.previousElementSibling.textContent).then(() => {
      button.classList.add("done");
      $("use", button).setAttribute("href", "#check");
      setTimeout(() => { button.classList.remove("done"); $("use", button).setAttribute("href", "#copy"); }, 1500);
    }, () => { button.title = "The browser does not allow it"; });
  });

  // Raw and decoded are one thing: what is pointed at on one side lights up on both.
  function light(event, on) {
    const part = event.target.closest && event.target.closest("[data-fields]");
    if (!part) return;
    const names = part.dataset.fields.split(" ");
    for (const other of all("[data-fields]", part.closest(".detail") || document)) {
      if (other.dataset.fields.split(" ").some((name) => names.includes(name))) other.classList.toggle("lit", on);
    }
  }
  for (const [type, on] of [["pointerover", true], ["pointerout", false], ["focusin", true], ["focusout", false]]) {
    document.addEventListener(type, (event) => light(event, on));
  }

  // One tick for all ticks of the page.
  for (const one of all("[data-tick-all]")) {
    const ticks = () => all(`input[name="${one.dataset.tickAll}"]`);
    one.hidden = false;
    one.addEventListener("change", () => { for (const tick of ticks()) tick.checked = one.checked; });
    document.addEventListener("change", () => { one.checked = ticks().every((tick) => tick.checked); });
  }

  // Choices of the filter apply at once.
  document.addEventListener("change", (event) => {
    if (!event.target.matches("[data-apply]")) return;
    tidy(event.target.form);
    event.target.form.requestSubmit();
  });
  document.addEventListener("submit", (event) => { if (event.target.method === "get") tidy(event.target); });
  function tidy(form) {
    for (const input of form.elements) if (input.name && !input.value) input.disabled = true;
  }
  addEventListener("pageshow", () => {
    for (const input of all(".filter :disabled, .facet-find :disabled")) input.disabled = false;
  });

  // Alerts: a few stay until they are dismissed, others are counted and wait, so that none moves under the hand; with
  // permission they show on the desktop as well.
  const toasts = $("#toasts");
  const moreToasts = $("#toasts-more");
  let uncounted = 0; // that are not kept
  if (toasts) new MutationObserver((changes) => {
    const added = changes.flatMap((change) => [...change.addedNodes]).filter((node) => node.matches && node.matches(".toast"));
    const each = all(".toast", toasts);
    const room = innerWidth > 600 ? 4 : 2;
    for (const toast of each.slice(room, -WAITING_TOASTS)) { toast.remove(); uncounted += 1; }
    each.forEach((toast, place) => { toast.hidden = place >= room; });
    if (!each.length) uncounted = 0;
    const n = Math.max(0, Math.min(each.length - room, WAITING_TOASTS)) + uncounted;
    moreToasts.hidden = !n;
    $("a", moreToasts).textContent = `${n.toLocaleString("en")} more ${n === 1 ? "alert" : "alerts"}`;
    if (!document.hidden || !("Notification" in window) || Notification.permission !== "granted") return;
    for (const toast of added.slice(-3)) new Notification("ThreatLens", { body: toast.dataset.title, tag: toast.dataset.title });
  }).observe(toasts, { childList: true });
  const bell = $("[data-notify]");
  if (bell && "Notification" in window && Notification.permission === "default") bell.hidden = false;
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-dismiss]")) event.target.closest(".toast").remove();
    if (event.target.closest("[data-dismiss-all]")) for (const toast of all(".toast", toasts)) toast.remove();
    if (event.target.closest("[data-notify]")) Notification.requestPermission().then(() => { bell.hidden = true; });
  });

  // Files are dropped, and one sees how much has been sent.
  const drop = $("[data-drop]");
  if (drop) {
    for (const type of ["dragenter", "dragover"]) drop.addEventListener(type, (event) => { event.preventDefault(); drop.classList.add("over"); });
    for (const type of ["dragleave", "drop"]) drop.addEventListener(type, () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => { event.preventDefault(); $("input", drop).files = event.dataTransfer.files; });
    const form = drop.closest("form");
    form.addEventListener("htmx:xhr:progress", (event) => {
      const bar = $("progress", form);
      bar.hidden = false;
      if (event.detail.lengthComputable) bar.value = 100 * event.detail.loaded / event.detail.total;
    });
  }

  // The palette.
  const palette = $("#palette");
  const find = $("#palette-find");
  function openPalette() {
    if (palette.open) return;
    palette.showModal();
    find.value = "";
    htmx.trigger(find, "show");
  }
  if (palette) {
    palette.addEventListener("click", (event) => { if (event.target === palette) palette.close(); });
    palette.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { event.preventDefault(); palette.close(); return; } // a search field would only empty itself
      const links = all("a", palette);
      const at = links.indexOf(document.activeElement);
      if (event.key === "Enter" && document.activeElement === find && links[0]) { event.preventDefault(); links[0].click(); }
      if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
      event.preventDefault();
      const next = at + (event.key === "ArrowDown" ? 1 : -1);
      (links[next] || find).focus();
    });
  }

  // Searches of this tab, the newest first. They may name people: they end with the tab, and with the log-in.
  const stored = "threatlens-searches";
  document.addEventListener("submit", (event) => {
    if (!/\/logout$/.test(event.target.action)) return;
    try { sessionStorage.removeItem(stored); } catch { /* nothing is kept, then */ }
  });
  const recent = $("#recent");
  let lately = [];
  if (recent) {
    let searches = [];
    try { searches = JSON.parse(sessionStorage.getItem(stored)) || []; } catch { searches = []; }
    if (!Array.isArray(searches)) searches = [];
    const asked = $("[data-search]").defaultValue.trim();
    if (asked && !$(".query-wrong")) {
      searches = [asked, ...searches.filter((search) => search !== asked)].slice(0, 8);
      try { sessionStorage.setItem(stored, JSON.stringify(searches)); } catch { /* not kept, then */ }
    }
    lately = searches.filter((search) => search !== asked).slice(0, 6);
    for (const search of searches) {
      const link = document.createElement("a");
      const item = document.createElement("li");
      link.href = `${location.pathname}?q=${encodeURIComponent(search)}`;
      link.textContent = link.title = search;
      item.append(link);
      recent.append(item);
    }
    recent.closest("section").hidden = !searches.length;
  }

  // What may come next in the query; while nothing is written, what was searched lately.
  const bar = $("#q[role=combobox]");
  const options = $("#q-options");
  function mark(step) {
    const offered = all("li", options);
    const at = offered.findIndex((option) => option.getAttribute("aria-selected") === "true");
    const next = step ? offered[(at + step + offered.length + (at < 0 && step < 0)) % offered.length] : null;
    for (const option of offered) option.setAttribute("aria-selected", String(option === next));
    if (next) { bar.setAttribute("aria-activedescendant", next.id); next.scrollIntoView({ block: "nearest" }); }
    else bar.removeAttribute("aria-activedescendant");
  }
  function offer(open) {
    options.hidden = !open || !options.children.length || document.activeElement !== bar;
    bar.setAttribute("aria-expanded", String(!options.hidden));
    mark(0);
  }
  function offerLately() {
    options.replaceChildren(...lately.map((search, place) => {
      const option = document.createElement("li");
      option.setAttribute("role", "option");
      option.id = `q-option-${place + 1}`;
      option.dataset.value = option.textContent = search;
      return option;
    }));
    offer(true);
  }
  function take(option) {
    bar.value = option.dataset.value;
    offer(false);
    if (/[:=<>]$/.test(bar.value)) bar.dispatchEvent(new Event("input", { bubbles: true })); // its values come next
  }
  if (bar && options) {
    let typed = false;
    bar.addEventListener("input", () => { typed = true; if (!bar.value) offerLately(); });
    bar.addEventListener("focus", () => { typed = false; if (!bar.value) offerLately(); });
    bar.addEventListener("blur", () => offer(false));
    document.addEventListener("htmx:oobAfterSwap", (event) => {
      if (event.detail.target !== options) return;
      if (!bar.value) offerLately();
      else offer(typed && !/\s$/.test(bar.value) && $("li", options)?.dataset.asked === bar.value);
    });
    options.addEventListener("pointerdown", (event) => event.preventDefault()); // the focus stays in the query
    options.addEventListener("click", (event) => { const option = event.target.closest("li"); if (option) take(option); });
    bar.addEventListener("keydown", (event) => {
      const chosen = $('[aria-selected="true"]', options);
      if (options.hidden || event.isComposing) return;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") mark(event.key === "ArrowDown" ? 1 : -1);
      else if ((event.key === "Enter" || event.key === "Tab") && chosen) take(chosen);
      else if (event.key === "Escape") { offer(false); event.stopPropagation(); }
      else return;
      event.preventDefault();
    });
  }

  // Dragging over the bars chooses a time.
  let from = null;
  const barAt = (event) => {
    const bar = event.target.closest && event.target.closest(".chart[data-zoom] a[data-start]");
    return bar || null;
  };
  document.addEventListener("pointerdown", (event) => { from = event.button ? null : barAt(event); });
  document.addEventListener("dragstart", (event) => { if (from) event.preventDefault(); });
  const barsBeside = (bar) => all("a[data-start]", bar.closest("svg"));
  function choosing(one, other) {
    const bars = barsBeside(other);
    const ends = [bars.indexOf(one), bars.indexOf(other)].sort((low, high) => low - high);
    bars.forEach((each, place) => each.classList.toggle("within", ends[0] !== ends[1] && place >= ends[0] && place <= ends[1]));
  }
  function zoom(one, other, comparing = false) {
    const [first, last] = one.dataset.start < other.dataset.start ? [one, other] : [other, one];
    const url = new URL(comparing ? one.getAttribute("href") : location.href, location.href);
    if (comparing) url.pathname += "/compare";
    for (const name of ["range", "before", "after"]) url.searchParams.delete(name);
    url.searchParams.set("start", first.dataset.start);
    url.searchParams.set("end", last.dataset.end);
    location.assign(url.href);
  }
  document.addEventListener("pointermove", (event) => {
    const bar = from && barAt(event);
    if (bar) choosing(from, bar);
  });
  // The same with the keyboard: arrows go from bar to bar, with Shift they choose, Enter shows what is chosen.
  let anchor = null;
  document.addEventListener("keydown", (event) => {
    const bar = barAt(event);
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!bar || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Enter" && anchor && anchor !== bar && anchor.isConnected) { event.preventDefault(); zoom(anchor, bar); return; }
    const next = step && barsBeside(bar)[barsBeside(bar).indexOf(bar) + step];
    if (!next) return;
    event.preventDefault();
    anchor = event.shiftKey ? anchor || bar : null;
    choosing(anchor || next, next);
    next.focus({ preventScroll: true });
  });
  // A chart that somebody is busy with is not repainted under the hand.
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const busy = from || document.activeElement.closest(".chart a[data-start]");
    if (busy && event.detail.target.contains(busy)) event.detail.shouldSwap = false;
  });
  // What a bar counts is said beside it at once.
  for (const type of ["pointerover", "focusin"]) document.addEventListener(type, (event) => {
    const bar = barAt(event);
    if (bar) $(".said", bar.closest(".chart")).textContent = $("title", bar).textContent;
  });
  let zoomed = false;
  document.addEventListener("pointerup", (event) => {
    const bar = from && barAt(event);
    if (bar && bar !== from && bar.closest("svg") === from.closest("svg")) {
      zoomed = true;
      zoom(from, bar, event.shiftKey); // with Shift: what is different from the time before
    }
    from = null;
  });
  document.addEventListener("click", (event) => { if (zoomed) { event.preventDefault(); zoomed = false; } }, true);

  // Keys.
  document.addEventListener("click", (event) => {
    const value = event.altKey && event.target.closest(".facet li > a:first-child");
    const leave = value && $("a.icon", value.parentElement);
    if (leave) { event.preventDefault(); leave.click(); }
  });
  let went = false;
  const brand = $("a.brand");
  const root = brand ? brand.getAttribute("href") : "/";    // we may be served below a path
  const pages = { d: root, i: root + "incidents", e: root + "events", l: root + "events", r: root + "rules",
    s: root + "sources", u: root + "unknown", n: root + "notifications", h: root + "health" };
  // A menu that opens takes the focus; Escape, or a click beside it, closes it and gives the focus back.
  document.addEventListener("toggle", (event) => {
    if (event.target.matches(".menu[open]")) $(".menu-box :is(a, button, input, select)", event.target).focus();
  }, true);
  document.addEventListener("click", (event) => {
    for (const menu of all(".menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  function closeMenu() {
    const menu = $(".menu[open]");
    if (!menu) return false;
    menu.open = false;
    $("summary", menu).focus();
    return true;
  }
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "k" && palette) { event.preventDefault(); openPalette(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest("input, select, textarea, dialog[open]");
    if (event.key === "Escape") {
      if (!event.target.closest("dialog") && (closeMenu() || closePeek())) return;
      if (!typing) close();
      else if (!typing.closest("dialog")) typing.blur();
      return;
    }
    if (typing) return;
    if (went) {
      went = false;
      if (pages[event.key]) { event.preventDefault(); location.assign(pages[event.key]); }
      return;
    }
    const search = $("[data-search]");
    if (event.key === "/") {
      event.preventDefault();
      if (search) { search.focus(); search.select(); } else location.assign(root + "events#q");
    } else if (event.key === "?") $("#keys").showModal();
    else if (event.key === "G") newest();
    else if (event.key === "g") went = true;
    else if (event.key === "j" || event.key === "k") move(event.key === "j" ? 1 : -1);
    else if (event.key === "x" && incident()) $(".pick", incident()).click();
    else if (event.key.length === 1) {
      const menu = $(".menu[open] .menu-box");
      const doing = [...(menu ? all("[data-key]", menu) : []), ...all("[data-key]")].find(
        (one) => one.dataset.key === event.key && one.checkVisibility());
      if (!doing) return;
      event.preventDefault();
      if (incident() && !$(".pick:checked")) $(".pick", incident()).checked = true;
      doing.click();
    }
  });
  const incident = () => document.activeElement.closest(".incident");
  function move(step) {
    const visible = [...rows(), ...all(".incident")].filter((row) => row.offsetParent);
    if (!visible.length) return;
    const current = visible.indexOf(chosen() || document.activeElement.closest("tr.event, .incident"));
    const row = visible[Math.min(Math.max(current + step, 0), visible.length - 1)];
    if (row.matches("tr")) choose(row);
    $("a", row).focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
    if (row.matches("tr") && isWide() && !detail.hidden) open(row.dataset.id, $("a", row).getAttribute("href"));
  }

  const keys = $("[data-keys]");
  if (keys) keys.hidden = false;
  if (location.hash === "#q" && $("[data-search]")) $("[data-search]").focus();
  if (table) { widen(rows()); count(); }
})();
