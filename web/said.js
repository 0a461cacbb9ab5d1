// What a node said when it ran stays on it: newer frontends take such texts away when a run ends.

import { api, app } from "./comfy.js"
import { chain, nodeById } from "./graph.js"
import { element, loadStyle, write } from "./panel/element.js"
import { forwardToCanvas } from "./panel/to_canvas.js"

/** The widget in which a frontend shows the text itself. */
const FRONTENDS_OWN = "$$node-text-preview"

const OWN = "trustopt_said"
const MIN_HEIGHT = 72

/** Ends of a run, and the beginning of the next: frontends clear texts at the one or the other. */
const TURNS = [
  "execution_success",
  "execution_error",
  "execution_interrupted",
  "execution_start",
]

/** Milliseconds after which a frontend has cleared them. */
const CLEARED_AFTER = 300

/** What each node said last. @type {Map<object, string>} */
const said = new Map()

const root = () => app.rootGraph ?? app.graph
const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name)

function onText({ nodeId, text }) {
  const node = nodeId ? nodeById(root(), nodeId) : null
  if (!node?.comfyClass?.startsWith("TrustOpt_")) return
  said.set(node, text)
  hide(node) // the frontend shows it, for now
}

function onTurn() {
  setTimeout(() => {
    for (const [node, text] of said) if (!widgetOf(node, FRONTENDS_OWN)) show(node, text)
  }, CLEARED_AFTER)
}

function show(node, text) {
  const shown = widgetOf(node, OWN)?.element ?? add(node)
  write(shown, text.replace(/ +$/gm, ""))
}

function add(node) {
  const made = element("div", "trustopt-said")
  forwardToCanvas(made)
  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => MIN_HEIGHT }
  const widget = node.addDOMWidget(OWN, "TRUSTOPT_SAID", made, options)
  widget.serialize = false // the option alone still saves an empty value
  const [width, height] = node.size
  const [, needed] = node.computeSize()
  if (needed > height) node.setSize([width, needed])
  return made
}

function hide(node) {
  const widget = widgetOf(node, OWN)
  if (!widget) return
  if (node.removeWidget) return node.removeWidget(widget)
  widget.onRemove?.()
  node.widgets.splice(node.widgets.indexOf(widget), 1)
}

app.registerExtension({
  name: "trustopt.said",

  setup() {
    void loadStyle()
    api.addEventListener("progress_text", ({ detail }) => onText(detail))
    for (const turn of TURNS) api.addEventListener(turn, onTurn)
  },

  nodeCreated(node) {
    if (node.comfyClass?.startsWith("TrustOpt_")) chain(node, "onRemoved", () => said.delete(node))
  },
})
