// One Preset node: asks the server for its plan when the graph around it changes, and shows it.

import { app } from "../comfy.js"
import { chain, widgetValue } from "../graph.js"
import { ask } from "../server.js"
import { language, text } from "../texts.js"
import { toast } from "../toast.js"
import { AutoValues } from "./auto_values.js"
import { recall, remember } from "./memory.js"
import { folderNode, planQuery } from "./plan_query.js"

/** Widgets that no plan fills in: they say which plan. */
const CHOICES = ["family", "purpose"]

const SETTLE_MS = 150

/** The extension's side of a Preset node. */
export class PresetNode {
  #asked = null
  #announce = false
  #timer = 0

  /** @param {object} node a new node of type TrustOpt_Preset */
  constructor(node) {
    this.node = node
    this.auto = new AutoValues(node, CHOICES, () => this.#onUser())
    for (const widget of node.widgets.filter((w) => CHOICES.includes(w.name))) {
      chain(widget, "callback", () => this.#onUser())
    }
    this.#addButton()
    chain(node, "onSerialize", (saved) => this.auto.serialize(saved))
    chain(node, "onConfigure", () => this.auto.keepShown())
    chain(node, "onConnectionsChange", () => this.refresh())
    chain(node, "onRemoved", () => clearTimeout(this.#timer))
  }

  /**
   * Fill in the plan of what is connected now, once the graph has settled.
   * @param {object} [options]
   * @param {boolean} [options.announce] say so in a toast
   * @param {boolean} [options.again] ask even if the graph is the same: files may have changed
   */
  refresh({ announce = false, again = announce } = {}) {
    this.#announce ||= announce
    if (again) this.#asked = null
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#ask(), SETTLE_MS)
  }

  /** Bring back what the user chose for a folder; what was chosen before stays if nothing was. */
  recall(folder) {
    const choices = recall(folder)
    if (!choices?.values) return
    this.auto.set(choices.values)
    for (const name of CHOICES) {
      const widget = this.node.widgets.find((candidate) => candidate.name === name)
      if (choices[name]) widget.value = choices[name]
    }
  }

  /** Return every value to auto. */
  allAuto() {
    this.auto.set({})
    this.#onUser()
  }

  /** Make the values shown the user's. */
  keepShown() {
    this.auto.keepShown()
    this.#onUser()
  }

  #onUser() {
    const folder = widgetValue(folderNode(this.node), "folder")
    if (folder) {
      const [family, purpose] = CHOICES.map((name) => widgetValue(this.node, name))
      remember(folder, { family, purpose, values: this.auto.overrides })
    }
    this.refresh()
  }

  /** The question that is asked for this node; null if the graph names no folder. */
  get query() {
    const query = planQuery(app.rootGraph ?? app.graph, this.node, this.auto.overrides)
    query?.set("language", language())
    return query
  }

  async #ask() {
    if (!this.node.graph) return
    const announce = this.#announce
    const { query } = this
    const question = query?.toString() ?? ""
    if (question === this.#asked) return
    this.#asked = question
    this.#announce = false
    const answer = query ? await ask(`plan?${question}`) : { problem: this.#noFolder() }
    if (this.#asked !== question) {
      this.#announce ||= announce // a newer question is under way: its answer is the one to tell
      return
    }
    this.auto.fill(answer.values ?? {})
    if (announce) tell(answer)
  }

  #noFolder() {
    const isConnected = this.node.inputs?.some((i) => i.name === "image_set" && i.link != null)
    return text(isConnected ? "countUnknown" : "noImageSet")
  }

  #addButton() {
    const press = () => this.refresh({ announce: true })
    const button = this.node.addWidget("button", "auto_adjust", null, press, { serialize: false })
    button.label = text("autoAdjust")
    button.serialize = false
  }
}

function tell(answer) {
  if (answer.problem) toast("warn", text("noPreset"), answer.problem)
  else toast(answer.warnings.length ? "warn" : "success", text("presetApplied"), answer.toast)
}
