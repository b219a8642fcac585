// What lives on a page. Every page works without this.

// A filter submits itself when it changes. By keyboard, each arrow key may be a change: it waits for Enter, or until the
// filter is left.
for (const form of document.querySelectorAll("form[data-auto]")) {
  let typing = false, waits = false;
  const submit = () => { waits = false; form.requestSubmit(); };
  form.addEventListener("pointerdown", () => { typing = false; });
  form.addEventListener("keydown", (event) => {
    typing = event.key !== "Enter";
    if (typing || !waits) return;
    event.preventDefault();
    submit();
  });
  form.addEventListener("change", ({ target }) => {
    if (target.form !== form || target.type === "checkbox") return;
    if (typing) waits = true; else submit();
  });
  form.addEventListener("focusout", () => { if (waits) submit(); });
}

// A form is sent once, however often its button is pressed.
addEventListener("submit", ({ target: form, submitter }) => {
  if (form.method === "post" && !submitter?.formTarget) setTimeout(() => form.querySelectorAll("button").forEach((button) => { button.disabled = true; }));
});
addEventListener("pageshow", ({ persisted }) => {
  if (persisted) document.querySelectorAll("button:disabled").forEach((button) => { button.disabled = false; });
});

// Parts that the server sends again when they have changed.
for (const region of document.querySelectorAll("[data-live]")) {
  const source = new EventSource(region.dataset.live);
  source.onmessage = ({ data }) => {
    // What somebody is using is not replaced under their hands.
    if (!region.contains(document.activeElement)) region.innerHTML = data;
  };
  addEventListener("pagehide", () => source.close());
}

// An open menu closes with Escape, or with a click beside it.
const menus = "details.confirm[open], details.columns[open]";
addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  for (const menu of document.querySelectorAll(menus)) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});
addEventListener("click", ({ target }) => {
  for (const menu of document.querySelectorAll(menus)) if (!menu.contains(target)) menu.open = false;
});
