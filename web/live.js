// Live charts on the Train LoRA nodes, and a message when a training ends.

import { api, app } from "./comfy.js"
import { chain, nodeById, nodesOfType } from "./graph.js"
import { SETTING } from "./panel/choices.js"
import { loadStyle } from "./panel/element.js"
import { Panel } from "./panel/panel.js"
import { ask, post } from "./server.js"
import { loadTexts, text } from "./texts.js"
import { toast } from "./toast.js"

const TRAIN_NODE = "TrustOpt_TrainLora"

/** The panel of each Train LoRA node. @type {WeakMap<object, Panel>} */
const panels = new WeakMap()

/** How each end of a run is told. */
const ENDS = {
  finished: "success",
  stopped: "success",
  interrupted: "warn",
  faulty: "error",
  failed: "error",
}

const root = () => app.rootGraph ?? app.graph

/** The panel of the node that an event or a run on disk names, if it is in the open workflow. */
function panelOf({ node, workflow }) {
  if (!node || (workflow && workflow !== root().id)) return undefined
  return panels.get(nodeById(root(), node))
}

function onProgress(event) {
  const panel = panelOf(event)
  if (event.status === "preparing") {
    panel?.onStage(event)
    return
  }
  panel?.onProgress(event)
  const { status, lora, step, steps } = event
  const detail = text("atStep", { lora: lora ?? event.run_id, step, steps })
  if (status === "training") {
    if (lora) toast("success", text("saved"), detail)
    return
  }
  const hint = status === "interrupted" && step > 0 ? `\n${text("resumeHint")}` : ""
  toast(ENDS[status] ?? "info", text(status), detail + hint)
}

/** The id under which this page told the server that it draws the panel. */
let announcedId = null

/** Tell the server that this page draws the panel: it sends no picture of the plot then. */
async function announcePanel() {
  if (!api.clientId || api.clientId === announcedId) return
  announcedId = api.clientId
  await post("panels", { client_id: api.clientId })
}

/** Tell the server that this page is left: a reloaded one listens only after it has been set up. */
function leave() {
  if (!announcedId) return
  const body = JSON.stringify({ client_id: announcedId, away: true })
  announcedId = null // a page may come back from the browser's cache
  navigator.sendBeacon(api.apiURL("/trustopt/panels"), new Blob([body], { type: "application/json" }))
}

/** Bring back the newest run of each node: those under way, and those that ended. */
async function restoreAll() {
  if (!nodesOfType(root(), TRAIN_NODE).length) return
  const { runs = [] } = await ask("runs")
  const restored = new Set()
  for (const run of runs) {
    const panel = panelOf(run)
    if (!panel || restored.has(panel) || run.workflow !== root().id) continue
    restored.add(panel)
    await panel.restore(run.run_id)
  }
}

app.registerExtension({
  name: "trustopt.live",
  settings: [SETTING],

  async setup() {
    void loadStyle()
    api.addEventListener("trustopt.progress", ({ detail }) => onProgress(detail))
    await loadTexts()
    addEventListener("pagehide", leave)
    addEventListener("pageshow", () => void announcePanel())
    api.addEventListener("reconnected", () => {
      announcedId = null // the server may be another one
      void restoreAll()
    })
    api.addEventListener("status", () => void announcePanel()) // the first one brings the id
    await announcePanel()
  },

  nodeCreated(node) {
    if (node.comfyClass !== TRAIN_NODE) return
    const panel = new Panel(node)
    panels.set(node, panel)
    chain(node, "onAdded", () => panel.add())
    chain(node, "onRemoved", () => panel.remove())
  },

  afterConfigureGraph() {
    void restoreAll()
  },
})
