// Fills the Preset node's widgets as soon as a folder of pictures is chosen or connected.

import { api, app } from "./comfy.js"
import { allNodes } from "./graph.js"
import { FolderNode } from "./preset/folder_node.js"
import { SETTING } from "./preset/memory.js"
import { PresetNode } from "./preset/preset_node.js"
import { loadTexts, text } from "./texts.js"

/** The extension's side of each Preset node. @type {WeakMap<object, PresetNode>} */
const presets = new WeakMap()

/** Ask for every plan whose question has changed. */
function refreshAll(options) {
  for (const node of allNodes(app.rootGraph ?? app.graph)) presets.get(node)?.refresh(options)
}

app.registerExtension({
  name: "trustopt.prefill",
  settings: [SETTING],

  async setup() {
    await loadTexts()
    // A loader's file, a purpose, a reroute: whatever changes in the graph may change the plan.
    api.addEventListener("graphChanged", () => refreshAll())
  },

  nodeCreated(node) {
    if (node.comfyClass === "TrustOpt_Preset") presets.set(node, new PresetNode(node))
    if (node.comfyClass === "TrustOpt_LoadImageSet") new FolderNode(node, presets)
  },

  afterConfigureGraph() {
    refreshAll()
  },

  refreshComboInNodes() {
    refreshAll({ again: true })
  },

  getNodeMenuItems(node) {
    const preset = presets.get(node)
    if (!preset) return []
    return [
      null,
      { content: text("keepShown"), callback: () => preset.keepShown() },
      { content: text("allAuto"), callback: () => preset.allAuto() },
    ]
  },
})
