// A picture opens at its full size on a click or Enter, and closes on a click, the button or Escape.
(() => {
  const dialog = document.getElementById("zoom");
  const large = dialog.querySelector("img");
  let opened = null;
  const open = (image) => {
    opened = image;
    large.src = image.src;
    large.alt = image.alt;
    dialog.showModal();
    dialog.scrollTo(0, 0);
  };
  for (const image of document.querySelectorAll("figure img")) {
    image.classList.add("zooms");
    image.tabIndex = 0;
    image.setAttribute("role", "button");
    image.addEventListener("click", () => open(image));
    image.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        open(image);
      }
    });
  }
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    large.removeAttribute("src");
    if (opened) opened.focus({ preventScroll: true });
  });
  // what a link leads to is opened where it is folded
  const unfold = () => {
    const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let fold = place && place.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    if (place) place.scrollIntoView();
  };
  window.addEventListener("hashchange", unfold);
  if (location.hash) unfold();
  // on a narrow screen the contents begin closed
  const contents = document.querySelector("nav details");
  if (window.innerWidth < 1088) contents.open = false;
})();
