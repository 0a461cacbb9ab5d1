// The run browser: a tab of the sidebar that lists the trainings on this server.

import { api, app } from "./comfy.js"
import { loadStyle } from "./panel/element.js"
import { RunBrowser } from "./runs/browser.js"
import { loadTexts, text } from "./texts.js"

app.registerExtension({
  name: "trustopt.runs",

  async setup() {
    void loadStyle()
    void loadStyle("../runs/runs.css")
    await loadTexts()
    const browser = new RunBrowser()
    app.extensionManager.registerSidebarTab({
      id: "trustopt-runs",
      icon: "pi pi-chart-line",
      title: text("runs"),
      tooltip: text("runsHint"),
      type: "custom",
      render: (container) => browser.show(container),
      destroy: () => browser.hide(),
    })
    api.addEventListener("trustopt.progress", ({ detail }) => browser.onProgress(detail))
    api.addEventListener("reconnected", () => browser.refreshSoon())
  },
})
