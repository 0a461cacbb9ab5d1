// One Load Image Set node: choosing a folder sets the trigger word and fills in the presets; its
// captions can be edited.

import { app } from "../comfy.js"
import { CaptionEditor } from "../captions/editor.js"
import { chain, nodesOfType, widgetValue } from "../graph.js"
import { text } from "../texts.js"
import { toast } from "../toast.js"
import { recall, remember } from "./memory.js"
import { folderNode } from "./plan_query.js"

/** The set that comes with the pack, whose folder's name would tell nothing. */
const EXAMPLE = { prefix: "(example)", trigger: "twemoji" }

/** The extension's side of a Load Image Set node. */
export class FolderNode {
  #folder

  /**
   * @param {object} node a new node of type TrustOpt_LoadImageSet
   * @param {WeakMap<object, import("./preset_node.js").PresetNode>} presets
   */
  constructor(node, presets) {
    this.node = node
    this.presets = presets
    this.#folder = widgetValue(node, "folder")
    chain(this.#widget("folder"), "callback", () => this.#onFolder())
    chain(this.#widget("trigger_word"), "callback", () => this.#onTrigger())
    for (const name of ["caption_extension", "repeats"]) {
      chain(this.#widget(name), "callback", () => this.#refresh())
    }
    chain(node, "onConfigure", () => {
      this.#folder = widgetValue(node, "folder")
    })
    const press = () => this.#editCaptions()
    const button = node.addWidget("button", "edit_captions", null, press, { serialize: false })
    button.label = text("editCaptions")
    button.serialize = false
  }

  #editCaptions() {
    const names = ["folder", "caption_extension"]
    const values = names.map((name) => [name, widgetValue(this.node, name)])
    const given = values.filter(([, value]) => value)
    if (given[0]?.[0] !== "folder") {
      toast("warn", text("editCaptions"), text("folderLinked"))
      return
    }
    const editor = new CaptionEditor({
      query: this.#connected()[0]?.query ?? new URLSearchParams(given),
      trigger: widgetValue(this.node, "trigger_word") ?? "",
      onSaved: () => this.#refresh({ again: true }),
    })
    void editor.open()
  }

  #onFolder() {
    const folder = widgetValue(this.node, "folder")
    if (!folder || folder === this.#folder) return
    this.#setTrigger(folder)
    this.#folder = folder
    for (const preset of this.#connected()) {
      preset.recall(folder)
      preset.refresh({ announce: true })
    }
  }

  /** Set the trigger word, unless the user typed one of their own. */
  #setTrigger(folder) {
    const widget = this.#widget("trigger_word")
    const isOurs = !widget.value || widget.value === triggerWord(this.#folder ?? "")
    const remembered = recall(folder)?.trigger
    if (remembered !== undefined) widget.value = remembered
    else if (isOurs) widget.value = triggerWord(folder)
    this.node.setDirtyCanvas(true, true)
  }

  #onTrigger() {
    if (this.#folder) remember(this.#folder, { trigger: widgetValue(this.node, "trigger_word") })
  }

  #refresh(options) {
    for (const preset of this.#connected()) preset.refresh(options)
  }

  #connected() {
    const nodes = nodesOfType(app.rootGraph ?? app.graph, "TrustOpt_Preset")
    const mine = nodes.filter((preset) => folderNode(preset) === this.node)
    return mine.map((preset) => this.presets.get(preset)).filter(Boolean)
  }

  #widget(name) {
    return this.node.widgets.find((candidate) => candidate.name === name)
  }
}

/**
 * The trigger word a folder's name suggests: of "sets/10_zxq cat", "zxq cat".
 * @param {string} folder
 * @returns {string}
 */
export function triggerWord(folder) {
  if (folder.startsWith(EXAMPLE.prefix)) return EXAMPLE.trigger
  return (folder.split("/").pop() ?? "").replace(/^\d{1,3}_/, "")
}
