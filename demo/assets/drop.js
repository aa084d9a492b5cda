// What is dropped on the box for files, where gradio would not take it: a folder reaches it as one file that cannot be
// read, and once the box shows files only a small button of it takes more; the browser would open what misses that.
(() => {
  const filesOf = async (entry) => {
    if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
    const reader = entry.createReader();
    const files = [];
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) return files; // a reader gives a hundred at a time
      for (const inner of some) files.push(...(await filesOf(inner)));
    }
  };
  const boxOf = (event) => (event.target instanceof Element ? event.target.closest("#hub-files") : null);

  document.addEventListener("dragover", (event) => boxOf(event) && event.preventDefault());
  document.addEventListener(
    "drop",
    async (event) => {
      const taker = boxOf(event)?.querySelector("input[type=file]")?.parentElement;
      if (!taker || !event.dataTransfer) return;
      const items = Array.from(event.dataTransfer.items, (item) => item.webkitGetAsEntry?.()).filter(Boolean);
      const hasFolder = items.some((entry) => entry.isDirectory);
      if (taker.contains(event.target) && !hasFolder) return;
      event.preventDefault();
      event.stopPropagation();
      const dataTransfer = new DataTransfer();
      const files = hasFolder ? (await Promise.all(items.map(filesOf))).flat() : event.dataTransfer.files;
      for (const file of files) dataTransfer.items.add(file);
      taker.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer }));
    },
    true,
  );
})();
