// The portal's one module: what it adds to pages that work without it.

// A link's code is in the fragment, which no server sees. It is posted when the button is pressed.
const open = document.querySelector("form[data-open]");
if (open && location.hash.length > 1) {
  open.elements.code.value = location.hash.slice(1);
  open.querySelector("[data-code]").hidden = true;
  history.replaceState(null, "", location.pathname);
}
