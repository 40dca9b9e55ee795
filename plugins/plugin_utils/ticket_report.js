const list = document.getElementById("problems");
const form = document.getElementById("choose");
if (form) {
  form.hidden = false;
  const all = [...list.querySelectorAll("article")];
  const show = () => {
    const application = form.elements.application.value;
    const text = form.elements.text.value.toLowerCase();
    const order = form.elements.order.value;
    let shown = 0;
    for (const one of all) {
      one.hidden = (application && one.dataset.application !== application)
        || (text && !one.textContent.toLowerCase().includes(text));
      shown += !one.hidden;
    }
    const by = {
      last: (a, b) => b.dataset.last.localeCompare(a.dataset.last),
      count: (a, b) => b.dataset.count - a.dataset.count,
    }[order];
    list.append(...[...all].sort(by));
    document.getElementById("shown").textContent = `${shown} of ${all.length} shown`;
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  show();
}
