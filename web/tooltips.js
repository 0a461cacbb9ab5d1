// Tooltips of the widgets that a dynamic list brings along: the frontend looks up their names in
// locales/<language>/nodeDefs.json, but shows the schema's English tooltips.

import { app } from "./comfy.js"
import { inputTooltip, loadTexts } from "./texts.js"

app.registerExtension({
  name: "trustopt.tooltips",

  async beforeRegisterNodeDef(_nodeType, nodeData) {
    if (!nodeData.name.startsWith("TrustOpt_")) return
    await loadTexts()
    for (const [list, [kind, spec]] of specsOf(nodeData.input)) {
      if (kind === "COMFY_DYNAMICCOMBO_V3") translate(nodeData.name, list, spec.options)
    }
  },
})

/** Name and spec of each input, required or optional. */
function specsOf(inputs) {
  return Object.values(inputs ?? {}).flatMap((group) => Object.entries(group))
}

/** Put the tooltips of the user's language into the specs that widgets are made of. */
function translate(nodeId, list, choices) {
  for (const choice of choices) {
    for (const [name, [, spec]] of specsOf(choice.inputs)) {
      spec.tooltip =
        inputTooltip(nodeId, `${list}_${choice.key}_${name}`) ??
        inputTooltip(nodeId, `${list}_${name}`) ??
        spec.tooltip
    }
  }
}
