// What lives on a page. Every page works without this.

// A filter submits itself when it changes.
for (const form of document.querySelectorAll("form[data-auto]")) {
  form.addEventListener("change", (event) => {
    if (event.target.form === form && event.target.type !== "checkbox") form.requestSubmit();
  });
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
