// The search runs in a worker, and browsers start none for pages of file://. There it runs in a hidden frame.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.answer = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      frame.srcdoc = `<script>
        postMessage = (data) => frameElement.answer(data);
        importScripts = async (...urls) => {
          for (const src of urls)
            await new Promise((onload, onerror) =>
              document.head.append(Object.assign(document.createElement("script"), { src, onload, onerror })));
        };
      <\/script><script src="${new URL(url, location)}"><\/script>`;
      this.frame = new Promise((ready) => frame.addEventListener("load", () => ready(frame.contentWindow)));
      document.documentElement.append(frame);
    }

    async postMessage(data) {
      const frame = await this.frame;
      frame.dispatchEvent(new MessageEvent("message", { data }));
    }
  };
