// A folder that is dropped reaches gradio as one file that cannot be read. Here its files take its place.
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

  document.addEventListener(
    "drop",
    async (event) => {
      const target = event.target;
      if (!(target instanceof Element) || !target.closest("#hub-files")) return;
      const items = Array.from(event.dataTransfer?.items ?? []);
      const entries = items.map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
      if (!entries.some((entry) => entry.isDirectory)) return;
      event.preventDefault();
      event.stopPropagation();
      const dataTransfer = new DataTransfer();
      for (const entry of entries) {
        for (const file of await filesOf(entry)) dataTransfer.items.add(file);
      }
      target.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer }));
    },
    true,
  );
})();
